"""Where connections come from: one source for each way to connect. It keeps a few free ones."""

import weakref

from lockfile.postgresql.connecting import Connect, adopting, connecting
from lockfile.postgresql.session import Row, Session
from lockfile.postgresql.waits import Steps

# Free connections that a source keeps: each takes one of the server's few places.
KEPT = 4


class Source:
    def __init__(self, conninfo: str, connect: Connect | None) -> None:
        self.conninfo = conninfo
        self.connect = connect
        self.scope: Row = ()  # what the last connection has reached
        self.noted = 0  # what time it was on the server, in microseconds: it is later now
        self._free: list[Session] = []

    def take(self, application: str) -> Session | None:
        """A free connection, preferably one with that name. It need not live: whoever asks by it
        sees that, and connects anew."""
        while (session := self._pop(application)) is not None:
            if session.reason is None:
                return session
            session.close()
        return None

    def _pop(self, application: str) -> Session | None:
        for session in reversed(self._free[:]):
            if session.application == application and self._remove(session):
                return session
        try:
            return self._free.pop()
        except IndexError:
            return None

    def _remove(self, session: Session) -> bool:
        """Whether it was we who took it."""
        try:
            self._free.remove(session)
        except ValueError:
            return False
        return True

    def give_back(self, session: Session) -> None:
        """One that holds nothing: the server has said so."""
        if len(self._free) < KEPT and session.reason is None and session.is_idle():
            self._free.append(session)
        else:
            session.close()

    def close_free(self) -> None:
        while (session := self._pop("")) is not None:
            session.close()

    def forget(self) -> None:
        """In a forked child."""
        self._free = []

    def __reduce__(self) -> tuple[object, ...]:
        """A copy is the same one, in this process."""
        return source_of, (self.conninfo, self.connect)

    def finding_scope(self, application: str) -> Steps[None]:
        """By connecting, if that was never done."""
        if not self.scope:
            self.give_back((yield from self.connecting(application)))

    # ---- New ones ----

    def connecting(self, application: str) -> Steps[Session]:
        if self.connect is None:
            session = yield from connecting(self.conninfo, application)
        else:
            session = yield from adopting(self.connect)
        self.scope = session.scope
        return session


# Those of a program's own functions go with them.
_by_conninfo: dict[str, Source] = {}
_by_function: "weakref.WeakValueDictionary[Connect, Source]" = weakref.WeakValueDictionary()


def source_of(conninfo: str, connect: Connect | None) -> Source:
    if connect is None:
        return _by_conninfo.get(conninfo) or _by_conninfo.setdefault(
            conninfo, Source(conninfo, connect)
        )
    try:
        source = _by_function.get(connect)
        return source or _by_function.setdefault(connect, Source(conninfo, connect))
    except TypeError:
        return Source(conninfo, connect)  # a function that is no key: of this lock alone


def all_sources() -> list[Source]:
    return [*_by_conninfo.values(), *_by_function.values()]
