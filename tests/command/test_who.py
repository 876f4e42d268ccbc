"""who: who holds locks."""

import json
import os
import sqlite3
import subprocess
import time
from contextlib import closing

import pytest

import lockfile
from support import Child, names, wait_until
from support.command import CLASS_NAMES, Started, run

LOCK = """
lock = getattr(lockfile, sys.argv[1])(sys.argv[2], **json.loads(sys.argv[3]))
lock.acquire()
say(os.getpid())
hear()
"""


def told(*arguments):
    """What programs are told."""
    done = run("who", "--json", *arguments)
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert done.returncode == (0 if any(each["held"] for each in found) else 1)
    return found


def test_free_lock_is_nobodys(any_class, path):
    kind = CLASS_NAMES[any_class.__name__]
    (found,) = told("--class", kind, path)
    assert (found["held"], found["owners"], found["waiting"]) == (False, [], 0)
    done = run("who", "--class", kind, path)
    assert done.returncode == 1
    assert done.stdout.splitlines()[1].split() == [path, "nobody", *"----"]
    assert names(os.path.dirname(path)) == []


def test_owner_is_told(any_class, path):
    kind = CLASS_NAMES[any_class.__name__]
    with Child(LOCK, any_class.__name__, path, json.dumps({"threaded": False})) as child:
        pid = child.hear()
        (found,) = told("--class", kind, path)
        assert found["path"] == path
        assert found["lock_file"] == any_class(path).lock_file
        assert found["held"]
        (owner,) = found["owners"]
        assert (owner["pid"], owner["thread"], owner["alive"]) == (pid, None, True)
        assert any_class.__name__ in owner["command"]
        line = run("who", "--class", kind, path).stdout.splitlines()[1].split()
        assert line[:3] == [path, f"{lockfile.FileLock(path).hostname}:{pid}", "yes"]
        child.say("end")
        child.finish()


def test_since_when_is_told(path):
    before = time.time()
    with lockfile.FileLock(path):
        (found,) = told(path)
        # A file system's clock ticks a little behind.
        assert before - 1 <= found["owners"][0]["since"] <= time.time()
        assert found["owners"][0]["thread"] is not None


@pytest.mark.leaves_files
def test_dead_owner_is_told(path):
    with Child(LOCK, "LinkFileLock", path, "{}") as child:
        pid = child.hear()
        child.kill()
    (found,) = told(path)
    assert not found["held"]
    assert (found["owners"][0]["pid"], found["owners"][0]["alive"]) == (pid, False)
    line = run("who", path).stdout.splitlines()[1].split()
    assert line[2] == "no"


@pytest.mark.parametrize("name", ["LinkFileLock", "MkdirFileLock", "SymlinkLockFile"])
def test_who_waits_is_counted(name, path):
    lock_class = getattr(lockfile, name)
    kind = CLASS_NAMES[name]
    waits = ["run", "--class", kind, path, "--", "true"]
    with lock_class(path) as lock:
        assert told("--class", kind, path)[0]["waiting"] == 0
        with Started(*waits) as one, Started(*waits) as other:
            wait_until(lambda: told("--class", kind, path)[0]["waiting"] == 2, "two who wait")
            lock.release()
            assert (one.status(), other.status()) == (0, 0)
            lock.acquire()


def test_directory_is_listed(tmp_path):
    """Its locks, and nothing that only looks like one."""
    tmp_path.joinpath("Cargo.lock").write_text("not a lock")
    tmp_path.joinpath("empty.lock").touch()
    tmp_path.joinpath("directory.lock").mkdir()
    tmp_path.joinpath("link.lock").symlink_to("elsewhere")
    tmp_path.joinpath(f"{lockfile.FileLock('x').hostname}--1").touch()
    assert told(tmp_path) == []
    locks = {
        name: getattr(lockfile, name)(tmp_path / f"by {kind}") for name, kind in CLASS_NAMES.items()
    }
    named = lockfile.FileLock(tmp_path / "x", lock_file=tmp_path / "named")
    with lockfile.all_of(*locks.values(), named):
        found = told(tmp_path)
        by_file = {each["lock_file"]: each for each in found}
        assert sorted(by_file) == sorted(lock.lock_file for lock in [*locks.values(), named])
        assert len(found) == 6
        assert all(each["held"] for each in found)
        assert {each["owners"][0]["pid"] for each in found} == {os.getpid()}
        assert by_file[named.lock_file]["path"] is None
        assert (
            by_file[locks["LinkFileLock"].lock_file]["path"] == locks["LinkFileLock"].path.__str__()
        )
        table = run("who", tmp_path).stdout.splitlines()
        assert len(table) == 7
    assert run("who", tmp_path).stdout.count("\n") == 1
    for name in "Cargo.lock", "empty.lock", "link.lock":
        tmp_path.joinpath(name).unlink()
    tmp_path.joinpath("directory.lock").rmdir()
    tmp_path.joinpath(f"{lockfile.FileLock('x').hostname}--1").unlink()


def test_lock_on_a_directory_is_told_beside_those_in_it(tmp_path):
    directory = tmp_path / "directory"
    directory.mkdir()
    with lockfile.FileLock(directory), lockfile.FileLock(directory / "inside"):
        found = told(directory)
    assert [each["path"] for each in found] == [str(directory), str(directory / "inside")]


def test_looking_changes_nothing(tmp_path):
    with lockfile.FileLock(tmp_path / "README"):
        before = {name: os.stat(tmp_path / name).st_mtime_ns for name in names(tmp_path)}
        told(tmp_path)
        after = {name: os.stat(tmp_path / name).st_mtime_ns for name in names(tmp_path)}
    assert after == before


def test_names_do_not_steer_the_terminal(tmp_path):
    path = tmp_path / "\x1b[31mred\n.txt"
    with lockfile.FileLock(path):
        done = run("who", tmp_path)
    assert "\x1b" not in done.stdout
    assert len(done.stdout.splitlines()) == 2


def test_foreign_lock_file_is_told(path):
    with open(f"{path}.lock", "w"):
        pass
    (found,) = told(path)
    assert found["held"]
    assert found["owners"][0]["pid"] is None
    os.unlink(f"{path}.lock")


def test_what_cannot_be_seen_is_told(path, other_user, tmp_path):
    done = run("who", tmp_path / "absent" / "README")
    assert done.returncode == 73
    assert done.stderr == f"lockfile-py: {tmp_path / 'absent'}: No such file or directory\n"
    done = run("who", "x" * 300, cwd=tmp_path)
    assert done.returncode == 1  # such a lock file nobody can have made
    done = run("who", "/".join(["x" * 250] * 20), cwd=tmp_path)
    assert done.returncode == 73
    assert done.stderr.startswith("lockfile-py: ")


def trap(directory, kind):
    """What anybody may put there, in the place of a database."""
    database = directory / ".lockfile.sqlite3"
    if kind == "pipe":
        os.mkfifo(database)
    elif kind == "text":
        database.write_text("no database" * 100)
    else:
        with closing(sqlite3.connect(database)) as connection:
            connection.executescript(kind)


ENDLESS = """
CREATE VIEW "lockfile: locks" AS
WITH RECURSIVE endless(lock) AS (SELECT x'61' UNION ALL SELECT lock FROM endless)
SELECT lock FROM endless;
"""


@pytest.mark.parametrize("kind", ["pipe", "text", ENDLESS, "CREATE TABLE users (name);"])
def test_trap_in_the_place_of_a_database_keeps_nobody(tmp_path, kind):
    """The other locks are told, and so is the trap."""
    trap(tmp_path, kind)
    before = os.listdir(tmp_path)
    with lockfile.FileLock(tmp_path / "README"):
        done = run("who", tmp_path)
    assert done.returncode == 73
    assert done.stdout.splitlines()[1].startswith(str(tmp_path / "README"))
    assert ".lockfile.sqlite3" in done.stderr
    assert "Traceback" not in done.stderr
    found = os.listdir(tmp_path)
    for name in found:
        tmp_path.joinpath(name).unlink()
    assert found == before == [".lockfile.sqlite3"]


def test_rows_that_name_no_lock_are_left_out(tmp_path):
    lock = lockfile.SQLiteFileLock(tmp_path / "README")
    with lock:
        with closing(sqlite3.connect(lock.database)) as connection, connection:
            for name in b"", b"a\0b", "text", b".", b"..", b"a/":
                connection.execute(
                    'INSERT INTO "lockfile: locks" SELECT ?, owner, beacon_file, beacon_byte + 1 '
                    'FROM "lockfile: locks" LIMIT 1',
                    (name,),
                )
        (found,) = told(tmp_path)
        assert found["path"] == str(tmp_path / "README")
        with closing(sqlite3.connect(lock.database)) as connection, connection:
            connection.execute('DELETE FROM "lockfile: locks" WHERE lock <> ?', (b"README.lock",))


def test_database_without_a_lock_is_no_failure(tmp_path):
    tmp_path.joinpath(".lockfile.sqlite3").touch()
    assert told(tmp_path) == []


def test_directory_that_may_not_be_read_is_told(public_directory, other_user, tmp_path):
    code = "raise SystemExit(lockfile._cli.main(['who', *sys.argv[1:]]))"
    before = "import shutil, sqlite3, json, lockfile._cli.who\n"
    path = public_directory / "README"
    for mode in 0o711, 0o744:
        with lockfile.FileLock(path, threaded=False):
            public_directory.chmod(mode)
            keywords = {"user": other_user, "before": before, "stderr": subprocess.PIPE}
            with Child(code, str(public_directory), "/dev/shm/README", **keywords) as child:
                assert child.process.wait() == 73
                told = child.process.stderr.read().decode()
                child.process.stderr.close()
                assert "Permission denied" in told
                assert "Traceback" not in told
                lines = child._lines.get()
                assert lines.startswith(b"LOCK")


def test_directory_is_no_pid_file(tmp_path):
    assert told("--class", "pid", tmp_path) == []
