"""Builds the extension module; everything else stands in pyproject.toml."""

import sys
import sysconfig
from glob import glob

from setuptools import Extension, setup

if not sys.platform.startswith("linux"):
    sys.exit(
        "lockfile knows only Linux so far: csrc/platform/system.h says what another has to offer"
    )

# Of the platforms, only this one's.
PLATFORM = ("posix", "linux")
FOLDERS = (
    *("", "python/", "core/", "mechanisms/", "mechanisms/*/"),
    *(f"platform/{name}/" for name in PLATFORM),
)

# One binary serves Python 3.11 and all later ones, but free-threaded builds know no limited API.
LIMITED_API = not sysconfig.get_config_var("Py_GIL_DISABLED")

# A function outside the limited API must not pass as one that is declared implicitly.
WARNINGS = ["-Wall", "-Wextra", "-Werror=implicit-function-declaration"]

setup(
    ext_modules=[
        Extension(
            "lockfile._lockfile",
            sources=sorted(file for folder in FOLDERS for file in glob(f"csrc/{folder}*.c")),
            depends=sorted(glob("csrc/**/*.h", recursive=True)),
            include_dirs=["csrc"],
            define_macros=[("Py_LIMITED_API", "0x030B0000")] if LIMITED_API else [],
            py_limited_api=LIMITED_API,
            extra_compile_args=["-std=c11", "-pthread", "-fvisibility=hidden", *WARNINGS],
            extra_link_args=["-pthread"],
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED_API else {},
)
