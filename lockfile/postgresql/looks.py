"""What is asked of the server besides: who holds a lock."""

from collections.abc import Sequence
from typing import NamedTuple

import psycopg

from lockfile.postgresql import statements
from lockfile.postgresql.holders import Holder, read_holder
from lockfile.postgresql.session import Lost, Row, Session
from lockfile.postgresql.sources import Source
from lockfile.postgresql.waits import Steps


class Seen(NamedTuple):
    """A holder, and what tells its grant from others by the same process of the server."""

    holder: Holder
    grant: tuple[str | None, str | None, str | None]
    is_old: bool  # since the time that the look was about, or longer


def _read(row: Row) -> Seen:
    backend, started, asked, changed, application, shared, is_old = row
    microseconds = int(changed) if changed is not None else None
    holder = read_holder(application, int(backend or 0), microseconds, shared == "t")
    return Seen(holder, (backend, started, asked), is_old == "t")


def look(session: Session, key: int, since: int | None = None) -> Steps[list[Seen]]:
    """Who holds it. since: when one must have it, to be old: in microseconds of the server's."""
    rows = yield from session.ask(statements.HOLDERS, key, since)
    return [_read(row) for row in rows]


def asking(
    source: Source, application: str, statement: bytes, *parameters: object
) -> Steps[list[Row]]:
    """By a connection that holds nothing. Raises Lost, Refused, or psycopg's error."""
    session = source.take(application)
    if session is not None:
        try:
            return (yield from _asking(source, session, statement, parameters))
        except Lost:
            pass  # it was gone already, and nobody had told
    session = yield from source.connecting(application)
    return (yield from _asking(source, session, statement, parameters))


def _asking(
    source: Source, session: Session, statement: bytes, parameters: Sequence[object]
) -> Steps[list[Row]]:
    try:
        rows = yield from session.ask(statement, *parameters)
    except psycopg.Error:
        source.give_back(session)  # it was refused, and that is all
        raise
    except BaseException:
        session.close()
        raise
    source.give_back(session)
    return rows


def holders_by(source: Source, application: str, key: int) -> Steps[list[Seen]]:
    rows = yield from asking(source, application, statements.HOLDERS, key, None)
    return [_read(row) for row in rows]


def terminating(source: Source, application: str, key: int, seen: Seen) -> Steps[bool]:
    """Whether that grant is no more."""
    rows = yield from asking(source, application, statements.TERMINATE, key, *seen.grant)
    if all(row == ("t",) for row in rows):
        return True
    left = yield from holders_by(source, application, key)  # it may have ended just before
    return all(each.grant != seen.grant for each in left)
