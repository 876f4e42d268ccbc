"""Builds the extension module; everything else stands in pyproject.toml."""

import sys
import sysconfig
from glob import glob

from setuptools import Extension, setup

WINDOWS = sys.platform == "win32"
LINUX = sys.platform.startswith("linux")
PLATFORM = ["os_win32.c"] if WINDOWS else ["os_posix.c", "os_linux.c" if LINUX else "os_other.c"]
SOURCES = [path for path in glob("csrc/*.c") if not path.startswith("csrc/os_")]

# One binary serves Python 3.11 and all later ones, but free-threaded builds know no limited API.
LIMITED_API = not sysconfig.get_config_var("Py_GIL_DISABLED")

if WINDOWS:
    compile_options, link_options = ["/std:c11", "/W4"], []
else:
    # A function outside the limited API must not pass as one that is declared implicitly.
    warnings = ["-Wall", "-Wextra", "-Werror=implicit-function-declaration"]
    compile_options = ["-std=c11", "-pthread", "-fvisibility=hidden", *warnings]
    link_options = ["-pthread"]

setup(
    ext_modules=[
        Extension(
            "lockfile._lockfile",
            sources=sorted([*SOURCES, *(f"csrc/{name}" for name in PLATFORM)]),
            depends=sorted(glob("csrc/*.h")),
            define_macros=[("Py_LIMITED_API", "0x030B0000")] if LIMITED_API else [],
            py_limited_api=LIMITED_API,
            extra_compile_args=compile_options,
            extra_link_args=link_options,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED_API else {},
)
