"""Numbers that grow with every grant of a name: rows of one table of ours."""

import psycopg

from lockfile.postgresql import statements
from lockfile.postgresql.holds import Hold
from lockfile.postgresql.session import Lost, Session
from lockfile.postgresql.waits import Steps


def counting(hold: Hold, name: str) -> Steps[int]:
    """By the very session that holds the lock: its end is the end of the right to count."""
    session = hold.session
    try:
        return (yield from _counting(session, hold.key, name))
    except (Lost, psycopg.Error):
        raise
    except GeneratorExit:
        session.close()
        raise
    except BaseException:
        yield from session.interrupt()  # the lock is kept
        raise


def _counting(session: Session, key: int, name: str) -> Steps[int]:
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    try:
        return (yield from _count(session, key, text))
    except psycopg.errors.UntranslatableCharacter:  # by the database, whose encoding lacks it
        text = text.encode("ascii", "backslashreplace").decode("ascii")
        return (yield from _count(session, key, text))


def _count(session: Session, key: int, text: str) -> Steps[int]:
    try:
        [(token,)] = yield from session.ask(statements.COUNT_TOKEN, key, text)
    except psycopg.errors.UndefinedTable:
        yield from _make_table(session)
        [(token,)] = yield from session.ask(statements.COUNT_TOKEN, key, text)
    return int(token or 0)


def _make_table(session: Session) -> Steps[None]:
    """Others may be making it, too."""
    try:
        yield from session.ask(statements.MAKE_TOKENS)
    except (
        psycopg.errors.UniqueViolation,
        psycopg.errors.DuplicateObject,
        psycopg.errors.DuplicateTable,
    ):
        pass  # and it is there now: the server lets us know no sooner
