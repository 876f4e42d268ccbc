"""The sources lie on floors: each uses what is below it, never what is above or beside it, and no
two files stand on each other. Seen by what their object files define and want."""

import re
import subprocess
import sysconfig
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from support import FREE_THREADED

SOURCES = Path(__file__).resolve().parent.parent.parent / "csrc"
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


def arrows_of_symbols(folder):
    """Compile all that is built here, and see who defines what others want."""
    files = sorted(path for path in SOURCES.rglob("*.c") if path.parent.name != "none")
    objects = {str(path.relative_to(SOURCES)): folder / f"{i}.o" for i, path in enumerate(files)}
    python = f"-I{sysconfig.get_path('include')}"
    defined, wanted = {}, defaultdict(set)
    for file, compiled in objects.items():
        command = [*COMPILER, *LIMITED_API, python, str(SOURCES / file), "-o", str(compiled)]
        subprocess.run(command, check=True)
        table = subprocess.run(["nm", compiled], check=True, capture_output=True, text=True).stdout
        for kind, name in re.findall(r"^[0-9a-f ]{16} (\w) (\S+)$", table, re.MULTILINE):
            if kind == "U":
                wanted[file].add(name)
            elif kind.isupper():
                defined[name] = file
    uses = {(file, defined[name]) for file in wanted for name in wanted[file] if name in defined}
    return {(one, other) for one, other in uses if one != other}


def test_what_is_called_is_below(tmp_path):
    arrows = arrows_of_symbols(tmp_path)
    assert len(arrows) > 100
    assert wrong(arrows) == []


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
