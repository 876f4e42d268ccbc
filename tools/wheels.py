"""Build the wheels for Linux, for each C library and processor, and for Windows, and check each.

    tools/wheels.py                 all of them
    tools/wheels.py musl            those whose names have this word in them

The compiler is zig, which brings the C libraries; otherwise it is the build of every user's. Each
wheel is looked at by auditwheel (does it run where its tag says?) and abi3audit (does it use
Python's stable interface alone?). What this machine can run is installed and used. The one for
Windows is made by mingw-w64 and tools/windows/build.py, and used under Wine. The wheels are put
into dist/wheels.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import NamedTuple

from elftools.elf.elffile import ELFFile

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "wheels"
MADE = ROOT / "dist" / "wheels"


class Wheel(NamedTuple):
    tag: str
    triple: str  # as zig says it

    @property
    def machine(self) -> str:
        return self.triple.partition("-")[0]

    @property
    def is_musl(self) -> bool:
        return self.triple.endswith("musl")


WHEELS = (
    Wheel("manylinux_2_28_x86_64", "x86_64-linux-gnu.2.28"),
    Wheel("manylinux_2_28_aarch64", "aarch64-linux-gnu.2.28"),
    Wheel("musllinux_1_2_x86_64", "x86_64-linux-musl"),
    Wheel("musllinux_1_2_aarch64", "aarch64-linux-musl"),
)

WINDOWS = "win_amd64"
WINDOWS_PYTHONS = ("3.11", "3.13")

# Debian's is 1.2.3, which the first systems had that musllinux_1_2 stands for. (musl-tools)
MUSL = Path("/usr/lib/x86_64-linux-musl/libc.so")


def run(*command: object, **environment: str) -> str:
    """Run to the end; what it says is shown only if it fails."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}")
    return done.stdout


def stand_in_for_musl(wheel: Wheel, folder: Path) -> Path:
    """A library of the name that musl has where it is installed; zig's has another."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"libc.musl-{wheel.machine}.so.1"
    (folder / "libc.c").write_text("int nothing;\n")
    zig = (sys.executable, "-m", "ziglang", "cc", "-target", wheel.triple, "-shared", "-nostdlib")
    run(*zig, f"-Wl,-soname,{name}", folder / "libc.c", "-o", folder / name)
    return folder / name


def build(wheel: Wheel) -> Path:
    """By setup.py, as for every user."""
    folder = BUILD / wheel.tag
    shutil.rmtree(folder, ignore_errors=True)
    compiler = f"{sys.executable} -m ziglang cc -target {wheel.triple}"
    linker = f"{compiler} -shared -s"
    if wheel.is_musl:
        linker += f" -nostdlib {stand_in_for_musl(wheel, folder / 'libc')}"
    run(
        *(sys.executable, "setup.py", "--quiet", "build", "--build-base", folder),
        *("bdist_wheel", "--plat-name", wheel.tag, "--dist-dir", folder / "made"),
        CC=compiler,
        LDSHARED=linker,
        CPPFLAGS=f"{os.environ.get('CPPFLAGS', '')} -Werror",
        LOCKFILE_PLATFORM="linux",
        _PYTHON_HOST_PLATFORM=f"linux-{wheel.machine}",
    )
    (made,) = (folder / "made").glob("*.whl")
    MADE.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(made, MADE))


def wanted(made: Path) -> set[str]:
    """What the extension wants of others."""
    with zipfile.ZipFile(made) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".so"))
        with archive.open(name) as file:
            table = ELFFile(file).get_section_by_name(".dynsym")
            symbols = list(table.iter_symbols())
    return {symbol.name for symbol in symbols if symbol["st_shndx"] == "SHN_UNDEF"}


def musl() -> set[str]:
    """What an old musl has."""
    if not MUSL.exists():
        sys.exit(f"{MUSL} is not there: apt-get install musl-tools")
    with MUSL.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".dynsym")
        return {symbol.name for symbol in table.iter_symbols()}


def audit(wheel: Wheel, made: Path) -> None:
    """Does it keep what its name promises?"""
    paths = ("--ldpaths", BUILD / wheel.tag / "libc") if wheel.is_musl else ()
    told = run(sys.executable, "-m", "auditwheel", "show", *paths, made)
    if f'platform tag: "{wheel.tag}"' not in " ".join(told.split()):
        sys.exit(told)
    run(sys.executable, "-m", "abi3audit", "--strict", "--report", made)
    if wheel.is_musl:
        missing = {name for name in wanted(made) if not name.startswith(("Py", "_Py"))} - musl()
        if missing:
            sys.exit(f"{made.name} wants what musl 1.2.3 has not: {', '.join(sorted(missing))}")


def runs_here(wheel: Wheel) -> bool:
    return wheel.machine == platform.machine() and not wheel.is_musl


def make_for_windows() -> None:
    """Build it, look at it, install and use it by each Python for Windows."""
    tools, base = ROOT / "tools" / "windows", ROOT / ".windows"
    run(tools / "setup", base, sys.executable)
    run(sys.executable, tools / "build.py", base)
    (made,) = (base / "dist").glob("*.whl")
    run(sys.executable, "-m", "abi3audit", "--strict", "--report", made)
    for version in WINDOWS_PYTHONS:
        run(tools / "try-wheel", base, version)
    MADE.mkdir(parents=True, exist_ok=True)
    shutil.copy(made, MADE)
    print(f"{made.name}: audited, used under Wine by Python {' and '.join(WINDOWS_PYTHONS)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("words", nargs="*", metavar="WORD", help="of the names of wheels")
    words = parser.parse_args().words
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        sys.exit("these wheels are for Python's stable interface, which this Python has not")
    chosen = [wheel for wheel in WHEELS if not words or any(word in wheel.tag for word in words)]
    for wheel in chosen:
        made = build(wheel)
        audit(wheel, made)
        if runs_here(wheel):
            run(sys.executable, ROOT / "tools" / "check_dist.py", made)
        verdict = "used" if runs_here(wheel) else "not run here"
        print(f"{made.name}: audited, {verdict}", flush=True)
    count = len(chosen)
    if not words or any(word in WINDOWS for word in words):
        make_for_windows()
        count += 1
    print(f"{count} passed, 0 failed")


if __name__ == "__main__":
    main()
