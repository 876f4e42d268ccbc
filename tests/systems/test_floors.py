"""The sources lie on floors: each uses what is below it, never what is above or beside it, and no
two files stand on each other. Seen by what their object files define and want."""

import functools
import re
import subprocess
import sysconfig
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from runpy import run_path

import pytest

from support import FREE_THREADED

SOURCES = Path(__file__).resolve().parent.parent.parent / "csrc"
PLATFORM = SOURCES / "platform"
# From below; what stands on one floor is side by side.
FLOORS = (
    *("platform", "core", "mechanisms/python_call"),
    *("mechanisms/files|mechanisms/sqlite", "python", "_lockfile"),
)
COMPILER = ("gcc", "-std=c11", "-c", "-w", f"-I{SOURCES}")
LIMITED_API = () if FREE_THREADED else ("-DPy_LIMITED_API=0x030B0000",)  # as setup.py has it


def room(file):
    """The floor that a file is on, and the wing of it."""
    for floor, wings in enumerate(FLOORS):
        for wing in wings.split("|"):
            if file == wing or file.startswith((f"{wing}/", f"{wing}.")):
                return floor, wing
    raise AssertionError(f"{file} is on no floor")


def wrong(arrows):
    """What goes up or aside, and what goes round, of (from, to)."""
    found = [f"{one} uses {other}" for one, other in sorted(arrows) if not goes_down(one, other)]
    below = defaultdict(set)
    for one, other in arrows:
        below[one].add(other)
    try:
        TopologicalSorter(below).prepare()
    except CycleError as cycle:
        found.append(f"in a circle: {' <- '.join(cycle.args[1])}")
    return found


def goes_down(one, other):
    (floor, wing), (other_floor, other_wing) = room(one), room(other)
    return wing == other_wing or other_floor < floor


def files_of(system):
    """All that is built for a system."""
    platforms = run_path(str(SOURCES.parent / "tools" / "platforms.py"))
    platform = [SOURCES.parent / file for file in platforms["sources"](system, SOURCES.parent)]
    others = [path for path in SOURCES.rglob("*.c") if not path.is_relative_to(PLATFORM)]
    return sorted([*platform, *others])


@pytest.fixture
def symbols_of(tmp_path):
    """What an object file defines, and what it wants; each source is compiled but once."""
    python = f"-I{sysconfig.get_path('include')}"

    @functools.cache
    def symbols(path):
        compiled = tmp_path / str(path.relative_to(SOURCES)).replace("/", "-")
        command = [*COMPILER, *LIMITED_API, python, str(path), "-o", str(compiled)]
        subprocess.run(command, check=True)
        table = subprocess.run(["nm", compiled], check=True, capture_output=True, text=True).stdout
        found = re.findall(r"^[0-9a-f ]{16} (\w) (\S+)$", table, re.MULTILINE)
        wanted = {name for kind, name in found if kind == "U"}
        return {name for kind, name in found if kind.isupper()} - wanted, wanted

    return symbols


def definitions(symbols_of, system):
    """Which file defines each name; and the names that each file wants."""
    defined, wanted = {}, {}
    for path in files_of(system):
        file = str(path.relative_to(SOURCES))
        names, wanted[file] = symbols_of(path)
        defined |= dict.fromkeys(names, file)
    return defined, wanted


def test_what_is_called_is_below(symbols_of):
    for system in ("linux", "portable"):
        defined, wanted = definitions(symbols_of, system)
        uses = {(file, defined[name]) for file in wanted for name in wanted[file] & set(defined)}
        arrows = {(one, other) for one, other in uses if one != other}
        assert len(arrows) > 100
        assert wrong(arrows) == []
    # And what all POSIX systems have uses nothing else.
    names = set().union(*wanted.values()) - set(defined)
    assert {"flock", "linkat", "pselect"} <= names
    assert not names & {"inotify_init1", "renameat2", "statx", "mknodat", "ppoll"}


def test_what_is_included_is_below():
    arrows = set()
    for path in SOURCES.rglob("*.[ch]"):
        file = str(path.relative_to(SOURCES))
        includes = re.findall(r'^#include "(.*)"', path.read_text(), re.MULTILINE)
        arrows |= {(file, other) for other in includes}
    assert len(arrows) > 100
    assert wrong(arrows) == []


@pytest.mark.parametrize(
    "one, other",
    [
        ("core/table.c", "mechanisms/files/link.c"),
        ("mechanisms/files/link.c", "mechanisms/sqlite/pool.c"),
        ("platform/posix/files.c", "core/table.c"),
    ],
)
def test_arrow_that_does_not_go_down_is_found(one, other):
    assert wrong({(one, other)}) == [f"{one} uses {other}"]


def test_circle_is_found():
    assert wrong({("core/a.c", "core/b.c"), ("core/b.c", "core/a.c")})
