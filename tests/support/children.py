"""Processes that a test starts."""

import ast
import os
import queue
import subprocess
import sys
import sysconfig
import textwrap
import threading
from pathlib import Path

import lockfile
import support

TESTS = Path(__file__).parent.parent
IMPORT_PATH = [
    *(str(TESTS), str(Path(lockfile.__file__).parent.parent)),
    *dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]),
]

PRELUDE = "from support import *\n"


def imports(code):
    """Of modules that few children need, and that take long: those that the code names."""
    names = ("ctypes", "json", "sqlite3")
    return "".join(f"import {name}\n" for name in names if f"{name}." in code)


WINE_INTERNAL_ERROR = 1359


def start(command, **keywords):
    """Wine, when busy, at times ends a process before it has begun, and then says so."""
    for _ in range(5 if support.IS_WINDOWS else 0):
        try:
            return subprocess.Popen(command, **keywords)
        except OSError as error:
            if error.winerror != WINE_INTERNAL_ERROR:
                raise
    return subprocess.Popen(command, **keywords)


class Child:
    """A Python process that runs `code`, which may `say(value)` and `hear()`, as literals.

    `sys.argv[1:]` are the arguments; `before` is code that runs before. `with` kills it at the end
    if it still runs.
    """

    def __init__(self, code, *arguments, user=None, before="", **keywords):
        prelude = PRELUDE + imports(code + before) + before
        if user is not None:
            prelude += f"become({user})\n"
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(IMPORT_PATH)}
        if support.IS_WINDOWS:  # where these tests run, what they need is found by that, too
            environment["PYTHONPATH"] += os.pathsep + os.environ.get("PYTHONPATH", "")
        # Without looking at what is installed: that takes longer than most children.
        interpreter = [sys.executable, "-S", "-c"]
        self.process = start(
            [*interpreter, prelude + textwrap.dedent(code), *map(os.fsencode, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            **keywords,
        )
        self.pid = self.process.pid
        self._lines = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.kill()

    def _read(self):
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def say(self, value):
        self.process.stdin.write(ascii(value).encode() + b"\n")
        self.process.stdin.flush()

    def hear(self):
        """The next value that the child says; fails when it ends or keeps silent."""
        line = self._lines.get(timeout=support.PATIENCE)
        assert line, "the child ended without a word"
        return ast.literal_eval(line.decode())

    def kill(self):
        """SIGKILL (unless it has ended), and return once it is gone."""
        self.process.kill()
        return self._end()

    def finish(self):
        """Let it run to its end, which must be a success."""
        self.process.stdin.close()
        code = self._end()
        assert code == 0, f"the child ended with {code}"

    def _end(self):
        code = self.process.wait(support.PATIENCE)
        self.process.stdin.close()
        self._reader.join(support.PATIENCE)
        # A close would wait for the reader, deaf to signals.
        assert not self._reader.is_alive(), "a child of the child lives, and keeps its output open"
        self.process.stdout.close()
        return code


def child_of(lock_class, code, *arguments, **keywords):
    """A child whose code knows `lock_class`, and `path` as its first argument."""
    prelude = f"""
from support.protocol import open_files
sys.stdout.reconfigure(write_through=False)  # one word, one call: its children say something too
lock_class = lockfile.{lock_class.__name__}
path = sys.argv[1]
"""
    return Child(prelude + textwrap.dedent(code), *arguments, **keywords)


def holder(lock_class, path, **keywords):
    """A child that owns the lock on `path` and releases it when it hears something."""
    child = Child(
        """
        lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
        lock.acquire()
        say(lock.unique_name)
        hear()
        lock.release()
        say("released")
        """,
        lock_class.__name__,
        path,
        **keywords,
    )
    child.unique_name = child.hear()
    return child
