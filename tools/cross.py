"""Compile and link the extension for systems that are not this one; a warning is an error.

    tools/cross.py                  all of them
    tools/cross.py freebsd musl     those whose names have one of these words in them

The compiler is zig, which brings every system's headers and C library; it compiles each of those
once, which takes about half a minute, and keeps them in ~/.cache/zig. The result is linked with
what stands in for Python's own functions, so that a function is missed that the system has not.
Nothing is run here. What is made lies in build/cross.
"""

import argparse
import concurrent.futures
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from runpy import run_path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "cross"
platforms = run_path(str(ROOT / "tools" / "platforms.py"))


class Target(NamedTuple):
    name: str
    triple: str  # as zig says it
    system: str  # of tools/platforms.py


TARGETS = (
    Target("macos-arm64", "aarch64-macos.11.0", "darwin"),
    Target("macos-x86_64", "x86_64-macos.11.0", "darwin"),
    Target("freebsd-x86_64", "x86_64-freebsd", "freebsd"),
    Target("netbsd-x86_64", "x86_64-netbsd", "netbsd"),
    Target("musl-x86_64", "x86_64-linux-musl", "linux"),
    Target("musl-aarch64", "aarch64-linux-musl", "linux"),
    Target("glibc-x86_64", "x86_64-linux-gnu.2.28", "linux"),
    Target("glibc-aarch64", "aarch64-linux-gnu.2.28", "linux"),
    Target("windows-x86_64", "x86_64-windows-gnu", "win32"),
    Target("windows-arm64", "aarch64-windows-gnu", "win32"),
    Target("portable-x86_64", "x86_64-linux-gnu.2.28", "portable"),
)

FLAGS = (
    *("-std=c11", "-O2", "-fvisibility=hidden", "-DNDEBUG"),
    *("-Wall", "-Wextra", "-Werror", "-DPy_LIMITED_API=0x030B0000"),
)
POSIX_FLAGS = ("-fPIC", "-pthread")

# What the compiler's headers of a system name, but not its copy of that system's library.
NEWER = {"netbsd": {"__kevent100"}}

# What Python's configure finds out about any of these systems, as far as the limited API asks.
PYCONFIG = """\
#ifdef _WIN32
#include <io.h>
#define MS_WINDOWS 1
#define MS_WIN32 1
#define MS_WIN64 1
#define HAVE_DECLSPEC_DLL 1
#define Py_ENABLE_SHARED 1
#define NT_THREADS 1
#define PY_SUPPORT_TIER 0
#define SIZEOF_WCHAR_T 2
#define SIZEOF_LONG 4
#else
#define SIZEOF_WCHAR_T 4
#define SIZEOF_LONG 8
#define HAVE_SSIZE_T 1
#define HAVE_SYS_TIME_H 1
#endif
#define SIZEOF_SHORT 2
#define SIZEOF_INT 4
#define SIZEOF_LONG_LONG 8
#define SIZEOF_VOID_P 8
#define SIZEOF_SIZE_T 8
#define SIZEOF_FLOAT 4
#define SIZEOF_DOUBLE 8
#define SIZEOF_TIME_T 8
#define SIZEOF_PID_T 4
#define SIZEOF_OFF_T 8
#define SIZEOF_UINTPTR_T 8
#define STDC_HEADERS 1
#define WITH_DOC_STRINGS 1
#define HAVE_STDINT_H 1
#define HAVE_INTTYPES_H 1
#define HAVE_SYS_TYPES_H 1
#define HAVE_SYS_STAT_H 1
#define HAVE_UNISTD_H 1
#define HAVE_WCHAR_H 1
#define HAVE_PROTOTYPES 1
#define HAVE_DYNAMIC_LOADING 1
#define WITH_THREAD 1
#define _GNU_SOURCE 1
#define _DARWIN_C_SOURCE 1
#define _NETBSD_SOURCE 1
#define __BSD_VISIBLE 1
"""


class Failure(Exception):
    """What the compiler has to say."""


def zig(*arguments: object) -> None:
    """Run the compiler; a warning is a failure, too."""
    command = [sys.executable, "-m", "ziglang", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0 or done.stderr.strip():
        words = [word for word in command if not word.endswith(".o")]
        raise Failure(f"{' '.join(words)}\n{done.stdout}{done.stderr}")


def python_headers() -> Path:
    """This Python's, which say the same on every system, with a configuration for all of them."""
    folder = BUILD / "include"
    shutil.copytree(sysconfig.get_path("include"), folder, dirs_exist_ok=True)
    (folder / "pyconfig.h").write_text(PYCONFIG)
    return folder


def sources(system: str) -> list[Path]:
    """All that the extension is made of there."""
    platform = [ROOT / file for file in platforms["sources"](system, ROOT)]
    others = [
        path
        for path in (ROOT / "csrc").rglob("*.c")
        if not path.is_relative_to(ROOT / "csrc" / "platform")
    ]
    return sorted([*others, *platform])


def system_flags(target: Target) -> tuple[str, ...]:
    return () if target.system == "win32" else POSIX_FLAGS


def compile_all(target: Target, *flags: str) -> list[Path]:
    """Its object files."""
    folder = BUILD / target.name
    shutil.rmtree(folder, ignore_errors=True)
    headers = python_headers()

    def compile_one(file: Path) -> Path:
        compiled = folder / file.relative_to(ROOT / "csrc").with_suffix(".o")
        compiled.parent.mkdir(parents=True, exist_ok=True)
        includes = (f"-I{ROOT / 'csrc'}", f"-I{headers}")
        command = ("cc", "-target", target.triple, *FLAGS, *system_flags(target), *flags)
        zig(*command, *includes, "-c", file, "-o", compiled)
        return compiled

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return list(pool.map(compile_one, sources(target.system)))


def wanted_of_python(target: Target) -> list[str]:
    """All of Python's functions that the sources may want."""
    words = {
        word
        for path in (ROOT / "csrc").rglob("*.[ch]")
        for word in re.findall(r"\b_?Py(?!Init)\w+", path.read_text())
    }
    # What its macros, and functions in its headers, call.
    words |= {"_Py_Dealloc", "_Py_NoneStruct", "_Py_TrueStruct", "_Py_FalseStruct"}
    words |= {"PyType_GetFlags", "PyCFunction_Type", "PyObject_CallFunction"}
    words |= {"_PyObject_CallFunction_SizeT"}
    words |= {"_Py_NotImplementedStruct", "PyType_IsSubtype", "PyObject_Vectorcall"}
    words |= {"PyErr_Format", "PyModuleDef_Init", "_PyArg_ParseTuple_SizeT", "_Py_BuildValue_SizeT"}
    words |= {"PyCMethod_New", "_PyArg_ParseTupleAndKeywords_SizeT", "_PyObject_CallMethod_SizeT"}
    return sorted(words | NEWER.get(target.system, set()))


def stand_in(target: Target) -> Path:
    """An object file that has them; on Windows, what stands for a library that has them."""
    folder = BUILD / target.name
    folder.mkdir(parents=True, exist_ok=True)
    words = wanted_of_python(target)
    if target.system == "win32":
        text = folder / "python3.def"
        text.write_text("LIBRARY python3.dll\nEXPORTS\n" + "".join(f"{word}\n" for word in words))
        machine = "arm64" if target.triple.startswith("aarch64") else "i386:x86-64"
        zig("dlltool", "-m", machine, "-d", text, "-l", folder / "python3.lib")
        return folder / "python3.lib"
    text = folder / "python.c"
    text.write_text("".join(f"char {word}[1] = {{0}};\n" for word in words))
    zig("cc", "-target", target.triple, "-fPIC", "-c", text, "-o", folder / "python.o")
    return folder / "python.o"


def link(target: Target, objects: list[Path], strict: bool = True) -> Path:
    """The extension. Strict: whatever is wanted is in the system's library, or stood in for."""
    on_windows = target.system == "win32"
    made = BUILD / target.name / ("_lockfile.pyd" if on_windows else "_lockfile.abi3.so")
    others: list[object] = [stand_in(target)] if strict or on_windows else []
    if on_windows:
        others += [f"-l{name}" for name in platforms["LIBRARIES"]["win32"]]
    else:
        others.append("-pthread")
        others += ["-Wl,-z,defs"] if strict and target.system != "darwin" else []
    zig("cc", "-target", target.triple, "-shared", *objects, *others, "-o", made)
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("words", nargs="*", metavar="WORD", help="of the names of targets")
    words = parser.parse_args().words
    chosen = [
        target for target in TARGETS if not words or any(word in target.name for word in words)
    ]
    if not chosen:
        parser.error(f"the targets are {', '.join(target.name for target in TARGETS)}")
    failed = 0
    for target in chosen:
        start = time.monotonic()
        try:
            objects = compile_all(target)
            made = link(target, objects)
            size = made.stat().st_size // 1024
            verdict = f"compiled and linked: {len(objects)} files, {size} KiB"
        except Failure as failure:
            failed += 1
            verdict = f"FAILED\n{failure}"
        took = time.monotonic() - start
        print(f"{target.name:16} {took:4.0f} s  {verdict}", flush=True)
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
