"""The tests of the interface on another processor, which an emulator stands in for.

    tools/emulated.py               all of them
    tools/emulated.py -k nesting    some: options of pytest

Debian's Python for that processor is unpacked, once, in ~/.cache, by debootstrap, which root may;
qemu runs it. Nothing of it is installed.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from runpy import run_path

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lockfile" / "arm64"
SYSTEM = CACHE / "system"
BUILD = ROOT / "build" / "emulated"
EMULATOR = "qemu-aarch64-static"
SUITE = "bookworm"
# What Python needs besides the C library, by the names of its packages.
PACKAGES = ("python3.11", "libpython3.11-stdlib", "libpython3.11-minimal", "libsqlite3-0")
PYTEST = ("pytest", "pytest-timeout", "hypothesis")
WHEELS = ("--only-binary=:all:", "--python-version=3.11", "--implementation=cp")
PLATFORMS = tuple(f"--platform=manylinux_{libc}_aarch64" for libc in ("2_28", "2_17"))
TESTS = ("tests/interface",)
OPTIONS = ("-p", "no:cacheprovider", "-q", "--import-mode=importlib")
# What the emulator has not.
CALLS = "a process cannot be stopped at its system calls"
NAMES = "the kernel knows the process as the emulator's"
LEFT_OUT = {
    "test_all_of_interrupted.py::test_who_name_them_in_opposite_orders": CALLS,
    "test_try_acquire.py::test_it_costs_what_acquire_costs": CALLS,
    "test_try_acquire.py::test_who_tries_does_not_look_for_the_owner": CALLS,
    "test_owner.py::test_command_of_another_process": NAMES,
    "test_owner.py::test_process_is_known_by_what_it_has_open": NAMES,
}


def run(*command: object) -> None:
    subprocess.run(list(map(str, command)), check=True, cwd=ROOT)


def unpack() -> None:
    """Debian's packages, as files."""
    if (SYSTEM / "usr" / "bin" / "python3.11").exists():
        return
    shutil.rmtree(SYSTEM, ignore_errors=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    options = ("--foreign", "--arch=arm64", "--variant=minbase", f"--include={','.join(PACKAGES)}")
    run("debootstrap", *options, SUITE, SYSTEM)
    for package in (SYSTEM / "var" / "cache" / "apt" / "archives").glob("*.deb"):
        run("dpkg-deb", "-x", package, SYSTEM)


def build() -> None:
    """The package, with the extension for that processor."""
    cross = run_path(str(ROOT / "tools" / "cross.py"))
    (target,) = (each for each in cross["TARGETS"] if each.name == "glibc-aarch64")
    made = cross["link"](target, cross["compile_all"](target), strict=False)
    shutil.rmtree(BUILD, ignore_errors=True)
    shutil.copytree(ROOT / "lockfile", BUILD / "lockfile", ignore=shutil.ignore_patterns("*.so"))
    shutil.copy(made, BUILD / "lockfile")
    for name in ("tests", "examples", "csrc", "tools"):  # what is here has another extension
        shutil.copytree(ROOT / name, BUILD / name)
    for name in ("pyproject.toml", "conftest.py", "setup.py"):
        shutil.copy(ROOT / name, BUILD)
    run(sys.executable, "setup.py", "--quiet", "egg_info", "--egg-base", BUILD)


def python() -> Path:
    """What starts that Python, as a program of this machine."""
    script = BUILD / "python3"
    program = SYSTEM / "usr" / "bin" / "python3.11"
    words = map(shlex.quote, map(str, (EMULATOR, "-L", SYSTEM, "-0", script, program)))
    script.write_text(f'#!/bin/sh\nexec {" ".join(words)} "$@"\n')
    script.chmod(0o755)
    return script


def main() -> None:
    missing = [name for name in (EMULATOR, "debootstrap", "dpkg-deb") if not shutil.which(name)]
    if missing:
        sys.exit(f"missing: {', '.join(missing)} (apt-get install qemu-user-static debootstrap)")
    unpack()
    build()
    packages = BUILD / "packages"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--target", packages)
    run(*pip, *WHEELS, *PLATFORMS, *PYTEST)
    names = {
        "PYTHONPATH": os.pathsep.join(map(str, (BUILD, packages))),
        "PYTHONHOME": str(SYSTEM / "usr"),
    }
    for test, reason in LEFT_OUT.items():
        print(f"left out: {test}: {reason}")
    left_out = [f"--deselect=tests/interface/{test}" for test in LEFT_OUT]
    command = (python(), "-m", "pytest", *OPTIONS, *left_out, *(sys.argv[1:] or TESTS))
    print(*command, flush=True)
    subprocess.run(list(map(str, command)), check=True, cwd=BUILD, env=os.environ | names)


if __name__ == "__main__":
    main()
