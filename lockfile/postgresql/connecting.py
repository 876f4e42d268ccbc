"""How a connection is made, and which ones are refused: those that would let two owners in."""

import contextlib
import inspect
import ipaddress
import math
import os
import socket
import time
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lockfile.postgresql import statements
from lockfile.postgresql.session import (
    Lost,
    Making,
    Session,
    copy_of,
    gate,
    is_in_use,
    making_alone,
    one_line,
)
from lockfile.postgresql.waits import Addresses, Await, Resolve, Steps, Wait

# A program's own way to connect: returns a psycopg connection, or an awaitable of one.
Connect = Callable[[], Any]

_PATIENCE = 10.0  # seconds, unless the program says otherwise (connect_timeout)
_OLDEST = 140000

# What notices within some seconds that the server cannot be reached any more.
_KEEPALIVES: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 1,
    "keepalives_interval": 1,
    "keepalives_count": statements.CLIENT_SECONDS - 1,
    "tcp_user_timeout": statements.CLIENT_SECONDS * 1000,
}
_SOCKET_OPTIONS = {
    "TCP_KEEPIDLE": 1,
    "TCP_KEEPINTVL": 1,
    "TCP_KEEPCNT": statements.CLIENT_SECONDS - 1,
    "TCP_USER_TIMEOUT": statements.CLIENT_SECONDS * 1000,
}


class Refused(Exception):
    """The connection is of no use: why."""


def connecting(conninfo: str, application: str) -> Steps[Session]:
    """A new session. Raises Lost, Refused, or psycopg's error."""
    settings = conninfo_to_dict(conninfo)
    addresses = yield from _resolving(settings)
    settings |= _KEEPALIVES | addresses
    settings |= {"target_session_attrs": "read-write", "application_name": application}
    patience = settings.get("connect_timeout") or os.environ.get("PGCONNECT_TIMEOUT") or _PATIENCE
    until = time.monotonic() + (float(patience) if float(patience) > 0 else _PATIENCE)
    text = make_conninfo("", **settings).encode()
    session = yield from _reaching(text, until)
    try:
        session.application = application
        yield from introducing(session)
    except BaseException:
        session.close()
        raise
    return session


def _starting(text: bytes) -> Steps[Session]:
    """libpq may look for an address here, and when it is polled."""
    yield from ()
    return Session(pq.PGconn.connect_start(text))


def _reaching(text: bytes, until: float) -> Steps[Session]:
    while True:
        session = yield from making_alone(lambda: _starting(text))
        try:
            if (yield from _polling(session, until)):
                return session
        except BaseException:
            session.close()
            raise


def _polling(session: Session, until: float) -> Steps[bool]:
    """False: a child has a copy."""
    pgconn = session.pgconn
    while True:
        with Making() as making:
            status = pgconn.connect_poll()
            if session.note_descriptor() and not making.is_for_us_alone(session):
                return False
        if session.reason is not None:  # a signal handler has forked
            raise Lost(session.reason)
        if status == pq.PollingStatus.OK:
            pgconn.nonblocking = 1
            return True
        if status == pq.PollingStatus.FAILED or pgconn.status == pq.ConnStatus.BAD:
            raise psycopg.OperationalError(one_line(pgconn.get_error_message()))
        if time.monotonic() >= until:
            raise psycopg.OperationalError("the server does not answer")
        writes = status == pq.PollingStatus.WRITING
        yield Wait(session.descriptor, until, writable=writes, reads=not writes)


# ---- Names of hosts ----


def _needs_resolving(host: str) -> bool:
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return False
    return bool(host) and host[0] not in "/@"


def _resolving(settings: dict[str, Any]) -> Steps[dict[str, str]]:
    """hostaddr for a task, which must not sleep in libpq for it; host stays, for certificates.
    A service may say all that, too: only libpq knows."""
    if settings.get("service") or os.environ.get("PGSERVICE") or os.environ.get("PGHOSTADDR"):
        return {}
    hosts = str(settings.get("host") or os.environ.get("PGHOST") or "").split(",")
    ports = str(settings.get("port") or os.environ.get("PGPORT") or "").split(",")
    if settings.get("hostaddr") or not any(map(_needs_resolving, hosts)):
        return {}
    ports = ports * len(hosts) if len(ports) == 1 else ports
    pairs = tuple(zip(hosts, ports, strict=False))
    found = yield Resolve(tuple(host if _needs_resolving(host) else "" for host in hosts))
    return _addresses(pairs, found)


def _addresses(pairs: tuple[tuple[str, str], ...], found: Addresses) -> dict[str, str]:
    """Each host as often as it has addresses; one without stays, for libpq to complain of."""
    if found is None:
        return {}
    rows = [
        (host, port, address)
        for (host, port), addresses in zip(pairs, found, strict=False)
        for address in addresses or [""]
    ]
    host, port, address = (",".join(column) for column in zip(*rows, strict=True))
    found_out = {"host": host, "hostaddr": address}
    return found_out | {"port": port} if port.strip(",") else found_out


# ---- A connection that the program makes ----


def adopting(connect: Connect) -> Steps[Session]:
    """A new session. Raises Lost, Refused, or what connect raises."""
    session = yield from making_alone(lambda: _calling(connect))
    try:
        yield from introducing(session)
        yield from _check_age(session)
    except BaseException:
        session.close()
        raise
    return session


def _calling(connect: Connect) -> Steps[Session]:
    made = connect()
    if inspect.isawaitable(made):
        made = yield Await(made)
    return adopt(made)


def _check_age(session: Session) -> Steps[None]:
    """Forks know nothing of a connection that was made before connect was called. By the server's
    clock, since libpq does not say."""
    if session.last_fork == -math.inf:
        return
    [(age,)] = yield from session.ask(statements.AGE)
    if time.monotonic() - float(age or 0) < session.last_fork:
        raise Refused(
            "connect has returned a connection from before this process forked, which a child has, "
            "too, and would keep alive: make a new one"
        )


def adopt(connection: Any) -> Session:
    """What connect= has returned."""
    pgconn = getattr(connection, "pgconn", None)
    if pgconn is None:
        raise TypeError(f"connect must return a psycopg connection, not {type(connection)!r}")
    with gate.lock:
        if is_in_use(pgconn):
            raise Refused("connect has returned a connection that serves another owner already")
        session = Session(pgconn, connection)
    connection._pool = None  # it says nothing when it goes away: we close what it is made of
    pgconn.nonblocking = 1
    _keep_alive(session.descriptor)
    return session


def _keep_alive(descriptor: int) -> None:
    with contextlib.suppress(OSError), gate.lock, copy_of(descriptor) as end:
        if end.family == getattr(socket, "AF_UNIX", None):
            return
        end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _SOCKET_OPTIONS.items():
            if hasattr(socket, name):
                end.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


# ---- Whom we have reached ----


def introducing(session: Session) -> Steps[None]:
    """Raises Refused, if locks of this session would exclude nobody."""
    pgconn = session.pgconn
    if pgconn.transaction_status != pq.TransactionStatus.IDLE:
        raise Refused("the connection is in a transaction")
    if pgconn.server_version < _OLDEST:
        raise Refused(f"the server is older than PostgreSQL 14 ({pgconn.server_version})")
    [row] = yield from session.ask(statements.INTRODUCE)
    backend, standby, read_only, started, database = row[:5]
    if backend != str(pgconn.backend_pid):
        raise Refused(
            "there is a pooler between us and the server (its process "
            f"{backend} calls itself {pgconn.backend_pid}), which may give one owner's session "
            "to another: connect to the server itself"
        )
    if standby == "t" or read_only == "t":
        raise Refused("the server is a standby, or read-only: its locks exclude nobody elsewhere")
    session.scope, session.backend = (started, database), int(backend)
    with contextlib.suppress(psycopg.Error):
        yield from session.ask(statements.CHECK_CLIENT)
