"""Libraries that a test puts in front of the C library, in C."""

import os
import shlex
import subprocess
import sysconfig
from pathlib import Path

PRELOADED = Path(__file__).parent / "preloaded"


def compiled(directory, name):
    """A library of PRELOADED, built by the compiler that builds the extension.

    OSError: there is none.
    """
    library = (directory / name).with_suffix(".so")
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC"))
    options = ["-std=c11", "-Wall", "-Wextra", "-O1", "-fPIC", "-shared", "-pthread"]
    command = [*compiler, *options, "-o", str(library), str(PRELOADED / name), "-ldl"]
    subprocess.run(command, check=True)
    return library


def also_preloaded(library):
    """The value of LD_PRELOAD that adds a library to those there are."""
    return f"{os.environ.get('LD_PRELOAD', '')} {library}".strip()
