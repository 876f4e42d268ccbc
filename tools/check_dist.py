"""Install the wheel and the source distribution, each into a fresh virtual environment, and lock.

usage: check_dist.py DIRECTORY
       check_dist.py WHEEL
"""

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
from pathlib import Path

TREE = Path(__file__).parent.parent

# Runs in the fresh environment, in an empty directory.
USE = """
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import lockfile

package = Path(lockfile.__file__).parent
assert package.is_relative_to(sys.prefix), f"{package} is not what was installed"
for name in ("py.typed", "_lockfile.pyi"):
    assert (package / name).exists(), f"{name} is missing"

OTHER = '''
from lockfile import FileLock
lock = FileLock("README")
print(lock.is_locked(), lock.i_am_locking())
'''

def seen_by_another_process():
    command = [sys.executable, "-I", "-c", OTHER]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

with lockfile.FileLock("README") as lock:
    assert lock.i_am_locking()
    assert os.path.exists("README.lock")
    assert seen_by_another_process() == "True False", seen_by_another_process()
assert seen_by_another_process() == "False False", seen_by_another_process()
assert os.listdir() == [], os.listdir()

for command in ([str(Path(sys.prefix, "bin", "lockfile-py"))], [sys.executable, "-Im", "lockfile"]):
    command += ["run", "README", "--", "test", "-e", "README.lock"]
    subprocess.run(command, check=True)
page = Path(sys.prefix, "share", "man", "man1", "lockfile-py.1")
assert page.exists(), f"{page} is missing"

print("lockfile", importlib.metadata.version("lockfile"), "works on", sys.version.split()[0])
"""


def main():
    directory = Path(sys.argv[1])
    if directory.is_file():
        check_tag(directory)
        use(directory.resolve())
        return
    (wheel,) = directory.glob("*.whl")
    (source,) = directory.glob("*.tar.gz")
    check_tag(wheel)
    check_completeness(source)
    for distribution in (wheel, source):
        print(distribution.name, end=": ", flush=True)
        use(distribution.resolve())


def check_tag(wheel):
    """One wheel serves all ordinary builds."""
    if not sysconfig.get_config_var("Py_GIL_DISABLED") and "-cp311-abi3-" not in wheel.name:
        sys.exit(f"{wheel.name} is not tagged cp311-abi3")


def check_completeness(source):
    """The source distribution has every file that is under version control."""
    if not (TREE / ".git").exists() or not shutil.which("git"):
        return
    command = ["git", "-C", TREE, "ls-files"]
    tracked = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")
    with tarfile.open(source) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    if missing := set(filter(None, tracked)) - packed:
        sys.exit(f"{source.name} lacks {', '.join(sorted(missing))} (see MANIFEST.in)")


def use(distribution):
    with tempfile.TemporaryDirectory() as scratch:
        environment = Path(scratch, "environment")
        elsewhere = Path(scratch, "elsewhere")
        elsewhere.mkdir()
        venv.create(environment, with_pip=True, symlinks=True)
        python = environment / "bin" / "python"
        for arguments in (["-m", "pip", "install", "--quiet", distribution], ["-c", USE]):
            subprocess.run([python, "-I", *arguments], cwd=elsewhere, check=True)


main()
