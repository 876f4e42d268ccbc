"""The page for those who want a lock across machines does what it says."""

import contextlib
import io
import re
import textwrap
from pathlib import Path

import pytest

from lockfile.postgresql import PostgreSQLLock
from support import PATIENCE, in_thread

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "machines.rst"


def blocks(kind):
    pattern = rf"^\.\. code-block:: {kind}\n\n((?: {{4}}.*\n|\n)+)"
    found = re.findall(pattern, PAGE.read_text(), re.M)
    return [textwrap.dedent(block) for block in found]


@pytest.fixture
def page(server):
    """What the page has defined; its database is the tests'."""
    server.sql("DROP TABLE IF EXISTS report")
    for block in blocks("sql"):
        server.sql(block)
    names = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for block in blocks("python"):
            exec(block.replace("host=db dbname=app", server.conninfo), names)
    names["printed"] = printed.getvalue()
    yield names
    server.sql("DROP TABLE report")


def test_all_of_the_page_runs(page, server):
    assert page["printed"].count("nobody else is in here") == 2
    assert server.sql("SELECT body FROM report") == [("all is well",)]


def test_resource_refuses_who_comes_too_late(page, server):
    with PostgreSQLLock("nightly report") as lock:
        late = lock.token

    def next_one():
        with PostgreSQLLock("nightly report") as lock:
            page["write"]("the next one's", lock.token)

    in_thread(next_one)
    with pytest.raises(RuntimeError, match="somebody else"):
        page["write"]("too late", late)
    assert server.sql("SELECT body FROM report") == [("the next one's",)]


@pytest.mark.parametrize("is_taken", [False, True])
def test_work_stops_when_the_lock_is_lost(page, server, capsys, monkeypatch, is_taken):
    locks, done = [], []
    next_one = PostgreSQLLock("nightly report", owner="object")

    class Kept(PostgreSQLLock):
        def __enter__(self):
            locks.append(self)
            return super().__enter__()

    def first(token):
        assert token == locks[0].token
        [backend] = [holder.backend for holder in locks[0].owners()]
        server.sql("SELECT pg_terminate_backend(%s, 5000)", backend)
        told = locks[0]._settings.on_lost.__closure__[0].cell_contents
        assert told.wait(PATIENCE)
        if is_taken:
            next_one.acquire()
        done.append("first")

    monkeypatch.setitem(page, "PostgreSQLLock", Kept)
    assert not page["make_report"]([first, lambda token: done.append("second")])
    assert done == ["first"]
    why = "is locked, but not by" if is_taken else "is not locked"
    assert f"begin anew: nightly report {why}" in capsys.readouterr().out
    if is_taken:
        next_one.release()


def test_work_that_keeps_its_lock_is_done(page):
    done = []
    assert page["make_report"]([done.append])
    assert len(done) == 1
