"""What threads make of the connections that they share: how these end, and when."""

import os
import textwrap

import pytest

from lockfile import SQLiteFileLock
from support import Child, OtherThread, also_preloaded

# So many connections an interpreter keeps.
KEPT = 8


@pytest.fixture
def paths(tmp_path):
    """In as many databases, one more than are kept open."""
    for number in range(KEPT + 1):
        (tmp_path / str(number)).mkdir()
    return [str(tmp_path / str(number) / "README") for number in range(KEPT + 1)]


def use(path):
    with SQLiteFileLock(path):
        pass


def open_databases(path):
    """Of those that are or were beside the path."""
    links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    files = [os.readlink(link) for link in links if os.path.islink(link)]
    database = f"{os.path.dirname(path)}/.lockfile.sqlite3"
    return [file for file in files if file in (database, f"{database} (deleted)")]


def close_by_using_others(paths):
    assert open_databases(paths[0])
    for path in paths[1:]:
        use(path)
    assert not open_databases(paths[0])


def test_connection_that_another_thread_has_made_is_closed_at_once(paths):
    with OtherThread() as thread:
        thread.run(use, paths[0])
        close_by_using_others(paths)


def test_connection_that_another_thread_has_used_is_closed_at_once(paths):
    with OtherThread() as thread:
        lock = SQLiteFileLock(paths[0])
        lock.acquire()
        thread.run(lock.break_lock)
        assert not lock.is_locked()
        close_by_using_others(paths)


def test_connection_whose_database_was_replaced_is_closed_at_once(paths):
    path = paths[0]
    with OtherThread() as thread:
        thread.run(use, path)
        (before,) = open_databases(path)
        os.unlink(before)
        use(path)
        assert open_databases(path) == [before]


def test_fork_waits_until_a_connection_is_closed(paths, preloadable, monkeypatch):
    library = preloadable("slow_close.c")
    monkeypatch.setenv("LD_PRELOAD", also_preloaded(library))
    code = """
        library, paths = sys.argv[1], sys.argv[2:]

        def use(path):
            with lockfile.SQLiteFileLock(path):
                pass

        for path in paths[:-1]:
            use(path)
        begun, begins = os.pipe()
        ctypes.CDLL(library).slow_next_close(begins)
        thread = threading.Thread(target=use, args=(paths[-1],))  # which makes one too many
        thread.start()
        os.read(begun, 1)
        child = os.fork()
        if child == 0:
            try:
                signal.alarm(20)  # SQLite may wait for ever
                use(paths[0])
                os._exit(7)
            finally:
                os._exit(1)
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        thread.join()
        """
    with Child("import signal\n" + textwrap.dedent(code), library, *paths) as child:
        assert child.hear() == 7
        child.finish()


def test_fork_waits_for_the_first_import_of_sqlite(path):
    """Python locks a module while it is imported: a child has a copy of that, locked for ever."""
    code = """
        import signal
        from support.protocol import has_settled

        class SlowLoader:
            def __init__(self, loader):
                self.loader = loader
                self.create_module = loader.create_module

            def exec_module(self, module):
                importing.set()
                wait_until(lambda: forking and has_settled(os.getpid()), "the fork or its end")
                self.loader.exec_module(module)

        class SlowFinder:
            def find_spec(self, name, *arguments):
                if name == "_sqlite3":
                    specs = [finder.find_spec(name, *arguments) for finder in sys.meta_path[1:]]
                    spec = next(filter(None, specs))
                    spec.loader = SlowLoader(spec.loader)
                    return spec

        def use():
            with lockfile.SQLiteFileLock(sys.argv[1]):
                pass

        forking = False
        importing = threading.Event()
        assert "_sqlite3" not in sys.modules
        sys.meta_path.insert(0, SlowFinder())
        thread = threading.Thread(target=use)
        thread.start()
        importing.wait()
        forking = True
        child = os.fork()
        if child == 0:
            signal.alarm(PATIENCE)
            use()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        thread.join()
        """
    with Child(code, path) as child:
        child.finish()
