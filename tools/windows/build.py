"""Build the extension module for Windows on another system, into the tree and into a wheel.

usage: build.py DIRECTORY     DIRECTORY: see setup; the wheel goes to its dist/
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path
from runpy import run_path

import setuptools.build_meta

TREE = Path(__file__).resolve().parent.parent.parent
TAG = "cp311-abi3-win_amd64"
COMPILER = os.environ.get("WINDOWS_CC", "x86_64-w64-mingw32-gcc").split()
platforms = run_path(str(TREE / "tools" / "platforms.py"))
FOLDERS = ("", "python/", "core/", "mechanisms/", "mechanisms/*/")
OPTIONS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-DPy_LIMITED_API=0x030B0000")
# What the compiler's own libraries have goes into the module: nobody has them on Windows.
LIBRARIES = tuple(f"-l{name}" for name in platforms["LIBRARIES"]["win32"])
LINK = ("-shared", "-static", "-s", "-l:python3.lib", *LIBRARIES)


# For tests: in front of these calls stand those of tests/windows/injected.c.
INJECTED = TREE / "tests" / "windows" / "injected.c"
WRAP = ("-Wl,--wrap=NtCreateFile", "-Wl,--wrap=nt_set")


def compile_module(base, target, *more):
    python = base / "python-3.11"
    sources = sorted(file for folder in FOLDERS for file in TREE.glob(f"csrc/{folder}*.c"))
    sources += [TREE / file for file in platforms["sources"]("win32", TREE)]
    paths = (f"-I{TREE / 'csrc'}", f"-I{python / 'include'}", f"-L{python / 'libs'}")
    command = [*COMPILER, *OPTIONS, *paths, "-o", target, *sources, *more, *LINK]
    if subprocess.run(command).returncode != 0:
        sys.exit("the extension module does not compile for Windows")


def make_injected(base, directory):
    """The package once more, for tests."""
    shutil.rmtree(directory, ignore_errors=True)
    package = directory / "lockfile"
    shutil.copytree(TREE / "lockfile", package, ignore=shutil.ignore_patterns("*.so", "*.pyd"))
    compile_module(base, package / "_lockfile.pyd", INJECTED, *WRAP)


def make_metadata(directory):
    """The same as on any system, but for the tag."""
    os.chdir(TREE)
    name = setuptools.build_meta.prepare_metadata_for_build_wheel(str(directory))
    metadata = Path(directory, name)
    text = f"Wheel-Version: 1.0\nGenerator: tools/windows\nRoot-Is-Purelib: false\nTag: {TAG}\n"
    (metadata / "WHEEL").write_text(text)
    (metadata / "RECORD").unlink(missing_ok=True)
    return metadata


def record_line(name, data):
    digest = urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}\n"


def make_wheel(module, metadata, directory):
    package = [path for path in TREE.glob("lockfile/**/*") if path.suffix in (".py", ".pyi")]
    package.append(TREE / "lockfile/py.typed")
    members = {path.relative_to(TREE).as_posix(): path for path in package}
    members["lockfile/_lockfile.pyd"] = module
    for path in metadata.rglob("*"):
        if path.is_file():
            members[f"{metadata.name}/{path.relative_to(metadata)}"] = path
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    wheel = directory / f"{metadata.name.removesuffix('.dist-info')}-{TAG}.whl"
    record = f"{metadata.name}/RECORD"
    lines = ""
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in sorted(members.items()):
            data = path.read_bytes()
            archive.writestr(name, data)
            lines += record_line(name, data)
        archive.writestr(record, lines + f"{record},,\n")
    return wheel


def main():
    base = Path(sys.argv[1]).resolve()
    module = TREE / "lockfile" / "_lockfile.pyd"
    compile_module(base, module)
    make_injected(base, base / "injected")
    with tempfile.TemporaryDirectory() as scratch:
        print(make_wheel(module, make_metadata(scratch), base / "dist"))


if __name__ == "__main__":
    main()
