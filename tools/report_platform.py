"""Build lockfile on this system, try what matters most, and print a report to send.

    python3 tools/report_platform.py

It needs Python 3.11 or later with venv, a C compiler, and the network for pip. All that it makes is
in a temporary directory, which it removes. The report names this system, machine and Python, and
how each step ended; read it before you send it.
"""

import os
import platform
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 1800

OWN = """
import sys, time, lockfile
lock = getattr(lockfile, sys.argv[1])("README")
lock.acquire()
print("owns", flush=True)
time.sleep(600)
"""

# Both run in the fresh environment: an owner is killed, while somebody wants its lock.
RECOVER = """
import subprocess, sys, time
import lockfile

for name in ("LinkFileLock", "MkdirFileLock", "SQLiteFileLock"):
    owner = subprocess.Popen([sys.executable, "-c", sys.argv[1], name], stdout=subprocess.PIPE)
    owner.stdout.readline()
    lock = getattr(lockfile, name)("README")
    try:
        lock.acquire(timeout=0.5)
        print(name, "has two owners")
    except lockfile.LockTimeout:
        print(name, "keeps others out")
    except lockfile.Error as error:
        print(name, type(error).__name__, error)
    owner.kill()
    killed = time.monotonic()
    try:
        with lock.acquire(timeout=10):
            took = round((time.monotonic() - killed) * 1000, 1)
            print(name, "is owned", took, "ms after its owner was killed")
    except lockfile.Error as error:
        print(name, type(error).__name__, error)
    owner.wait()
"""


def step(name, *command, where):
    """Run it, and report how it ended, and the end of what it said."""
    print(f"\n== {name}", flush=True)
    try:
        done = subprocess.run(
            list(map(str, command)),
            cwd=where,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{type(error).__name__}: {error}")
        return False
    print("\n".join(done.stdout.splitlines()[-60:]))
    print(f"exit code {done.returncode}")
    return done.returncode == 0


def main():
    print("lockfile on", platform.platform(), platform.machine())
    print("Python", sys.version.replace("\n", " "), os.uname().version)
    with tempfile.TemporaryDirectory() as scratch:
        venv.create(scratch, with_pip=True, symlinks=True)
        python = Path(scratch, "bin", "python")
        elsewhere = Path(scratch, "elsewhere")
        elsewhere.mkdir()
        step("file system", "df", "-h", scratch, where=scratch)
        pip = (python, "-m", "pip", "install", "--quiet")
        if not step("build", *pip, "-v", ROOT, where=elsewhere):
            return
        step("recovery", python, "-c", RECOVER, OWN, where=elsewhere)
        if step("pytest", *pip, "pytest>=9", "pytest-timeout", "hypothesis", where=elsewhere):
            # By its own program: this tree's lockfile has no extension, perhaps.
            options = ("-q", "--rootdir", ROOT, "-c", ROOT / "pyproject.toml", "--timeout", "60")
            tests = ROOT / "tests" / "interface"
            pytest = Path(scratch, "bin", "pytest")
            step("tests", pytest, *options, "-p", "no:cacheprovider", tests, where=elsewhere)
    print("\nThat is the report.")


if __name__ == "__main__":
    main()
