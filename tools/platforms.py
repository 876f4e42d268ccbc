"""Which sources of csrc/platform a system is built from."""

import os
import sys
from pathlib import Path

# Folders, and single files of others'. What POSIX says is in posix/; waits.c is what macOS lacks of
# it. "portable" is no system, but what all POSIX systems have, as on one that none knows: it is
# built on Linux, to be tested.
_POSIX = ("posix",)
_LIKE_BSD = ("portable/system.c", "portable/readers.c", "kqueue")
PLATFORMS = {
    "linux": (*_POSIX, "linux"),
    "portable": (*_POSIX, "portable", "none", "linux/where.c"),
    "darwin": (*_POSIX, *_LIKE_BSD, "macos"),
    "freebsd": (*_POSIX, *_LIKE_BSD, "portable/locks.c", "bsd"),
    "netbsd": (*_POSIX, *_LIKE_BSD, "portable/locks.c", "bsd"),
    "win32": ("windows",),
}
LACKING = {"darwin": ("posix/waits.c",)}


# The libraries that it calls.
LIBRARIES = {"win32": ("ntdll", "bcrypt", "user32")}


def system() -> str:
    """The one that is built for; the environment may name another."""
    chosen = os.environ.get("LOCKFILE_PLATFORM") or sys.platform
    return chosen.rstrip("0123456789") if chosen not in PLATFORMS else chosen


def sources(name: str, tree: Path = Path()) -> list[str]:
    """Its files below csrc, beginning with that; none if the system is not known."""
    platform = Path("csrc", "platform")
    found: list[Path] = []
    for part in PLATFORMS.get(name, ()):
        path = tree / platform / part
        found += path.glob("*.c") if path.is_dir() else [path]
    lacking = {tree / platform / file for file in LACKING.get(name, ())}
    return sorted(str(file.relative_to(tree)) for file in set(found) - lacking)
