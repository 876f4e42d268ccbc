"""Who holds a lock, as the server knows it: application_name says who is behind a connection."""

import functools
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from lockfile import Owner

# What the server keeps of it, in bytes.
_LONGEST = 63
_PREFIX = "lockfile "
_NAME = re.compile(r"lockfile (.*)-([0-9a-f]*)-([0-9]+)", re.DOTALL)


class Holder(NamedTuple):
    """One of those who hold a lock now; None: not known."""

    hostname: str | None
    pid: int | None
    thread: int | None
    alive: bool
    since: datetime | None  # by the server's clock
    shared: bool
    backend: int  # the process that serves its connection

    def owner(self) -> Owner:
        since = self.since.timestamp() if self.since is not None else None
        rest = {"since": since, "shared": self.shared}
        return Owner((self.hostname, self.pid, self.thread, self.alive), rest)


def _application_name(name: str) -> str:
    """HOST-THREAD-PID as the server keeps it: of a long host name, the beginning."""
    host, thread, process = name.rsplit("-", 2)
    rest = f"-{thread}-{process}"
    host = host.encode("ascii", "replace").decode("ascii")
    return f"{_PREFIX}{host[: _LONGEST - len(_PREFIX) - len(rest)]}{rest}"


# It is asked for at each call.
application_name: Callable[[str], str] = functools.lru_cache(maxsize=64)(_application_name)


def read_holder(
    application: str | None, backend: int, microseconds: int | None, shared: bool
) -> Holder:
    found = _NAME.fullmatch(application or "")
    since = datetime.fromtimestamp(microseconds / 1e6, UTC) if microseconds is not None else None
    if found is None:
        return Holder(None, None, None, True, since, shared, backend)
    host, thread, process = found.groups()
    number = int(thread, 16) if thread else None
    return Holder(host, int(process), number, True, since, shared, backend)


def describe(holder: Holder) -> str:
    """ "held by thread T of process P on host H, which is alive, since ..." """
    since = f", since {holder.since:%Y-%m-%d %H:%M:%S} UTC" if holder.since is not None else ""
    if holder.pid is None:
        return f"held by an unknown owner (server process {holder.backend}){since}"
    thread = f"thread {holder.thread} of " if holder.thread is not None else ""
    return f"held by {thread}process {holder.pid} on host {holder.hostname}, which is alive{since}"
