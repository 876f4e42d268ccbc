"""Builds the extension module; everything else stands in pyproject.toml."""

import shutil
import sys
import sysconfig
from glob import glob
from pathlib import Path
from runpy import run_path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# Of the platforms, only one's: this one's, or what LOCKFILE_PLATFORM names.
platforms = run_path("tools/platforms.py")
PLATFORM = platforms["sources"](platforms["system"]())
if not PLATFORM:
    sys.exit(
        f"lockfile does not know {platforms['system']()}: docs/platforms.rst lists what it knows, "
        "and csrc/platform/system.h says what another system has to offer"
    )
FOLDERS = ("", "python/", "core/", "mechanisms/", "mechanisms/*/")

# One binary serves Python 3.11 and all later ones, but free-threaded builds know no limited API.
LIMITED_API = not sysconfig.get_config_var("Py_GIL_DISABLED")

if sys.platform == "win32":
    COMPILE, LINK = ["/std:c11", "/experimental:c11atomics"], []
else:
    # A function outside the limited API must not pass as one that is declared implicitly.
    WARNINGS = ["-Wall", "-Wextra", "-Werror=implicit-function-declaration"]
    COMPILE = ["-std=c11", "-pthread", "-fvisibility=hidden", *WARNINGS]
    LINK = ["-pthread"]

MISSING = """
lockfile is being compiled here, since pip has found no wheel of it for this system and Python
(or was told to use none). For that is missing:

{missing}

Debian, Ubuntu:  apt-get install gcc libc6-dev python3-dev
Fedora:          dnf install gcc python3-devel
Alpine:          apk add gcc musl-dev python3-dev
macOS:           xcode-select --install
FreeBSD, NetBSD: the compiler is in the system
Windows:         Visual Studio's Build Tools, with "Desktop development with C++"
"""


class Build(build_ext):
    """Says what is missing, before a compiler says it in its own way."""

    def build_extensions(self):
        command = getattr(self.compiler, "compiler_so", None)  # one that has none finds its own
        header = Path(sysconfig.get_path("include"), "Python.h")
        missing = []
        if command and not shutil.which(command[0]):
            missing.append(f"  - a C compiler: there is no {command[0]} (CC=... names another)")
        if not header.exists():
            missing.append(f"  - the headers of Python {sys.version.split()[0]}: no {header}")
        if missing:
            sys.exit(MISSING.format(missing="\n".join(missing)))
        super().build_extensions()


setup(
    cmdclass={"build_ext": Build},
    ext_modules=[
        Extension(
            "lockfile._lockfile",
            sources=[
                *sorted(file for folder in FOLDERS for file in glob(f"csrc/{folder}*.c")),
                *PLATFORM,
            ],
            depends=sorted(glob("csrc/**/*.h", recursive=True)),
            include_dirs=["csrc"],
            define_macros=[("Py_LIMITED_API", "0x030B0000")] if LIMITED_API else [],
            py_limited_api=LIMITED_API,
            extra_compile_args=COMPILE,
            extra_link_args=LINK,
            libraries=list(platforms["LIBRARIES"].get(platforms["system"](), ())),
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED_API else {},
)
