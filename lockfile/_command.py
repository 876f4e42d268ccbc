"""What runs the process that owns a lock: for messages, on Linux."""

import os
import sys

# Of descriptors: whoever has more is not worth the time.
MANY = 10_000


def _has_open(pid: int, device: int, inode: int) -> bool:
    """Whether the process has that file open: its number alone proves nothing, since numbers are
    reused, and count from one again in each container."""
    with os.scandir(f"/proc/{pid}/fd") as descriptors:
        for _, descriptor in zip(range(MANY), descriptors, strict=False):
            try:
                status = os.stat(descriptor.path)
            except FileNotFoundError:
                continue  # it was closed meanwhile, or has no name
            if (status.st_dev, status.st_ino) == (device, inode):
                return True
    return False


def _quoted(argument: str) -> str:
    """As shlex does it; but an import may not come to its end, where a signal's handler raises."""
    plain = argument.isascii() and all(each.isalnum() or each in "@%+=:,./-_" for each in argument)
    if argument and plain:
        return argument
    return "'" + argument.replace("'", "'\"'\"'") + "'"


def find(pid: int, device: int, inode: int) -> str | None:
    """The command line of a process which has that file open; None: that is not ours to know."""
    if sys.platform != "linux":
        return None
    try:
        if pid != os.getpid() and not _has_open(pid, device, inode):
            return None
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            line = file.read().rstrip(b"\0")
    except OSError:
        return None
    arguments = line.split(b"\0") if line else []  # none of one that has just died
    return " ".join(_quoted(os.fsdecode(argument)) for argument in arguments) or None
