"""Owners that do what a test tells them: the main thread, other threads, a process of its own."""

import copy
import json
import os
import pickle
import signal
import threading
import traceback

import lockfile
from support import PATIENCE, Child, OtherThread


class Owner:
    """Whom a lock can belong to: a thread, or a whole process (`thread` is None then)."""

    def __init__(self, pid, thread):
        self.pid = pid
        self.thread = thread
        self.has_ended = False


class Shelf:
    """The lock objects of one process, by number, and what is done to them.

    All answers can be said in JSON; an exception of ours is answered by the name of its class, and
    if something has failed, by what it says, too.
    """

    def __init__(self):
        self._locks = {}

    def who(self):
        """The calling process, and the calling thread."""
        return [os.getpid(), threading.get_ident()]

    def put(self, number, lock):
        """Keep a lock object, which may come pickled."""
        self._locks[number] = pickle.loads(bytes.fromhex(lock)) if isinstance(lock, str) else lock

    def pickled(self, number):
        return pickle.dumps(self._locks[number]).hex()

    def copied(self, number, how):
        """A copy of the object, made in one of the ways that Python has."""
        ways = {
            "copy": copy.copy,
            "deepcopy": copy.deepcopy,
            "pickle": lambda lock: pickle.loads(pickle.dumps(lock)),
        }
        return ways[how](self._locks[number])

    def drop(self, number):
        """Delete the object."""
        del self._locks[number]

    def clear(self):
        """Delete all objects."""
        self._locks.clear()

    def assign_timeout(self, number, timeout):
        self._locks[number].timeout = timeout

    def delete_timeout(self, number):
        del self._locks[number].timeout

    def call(self, number, name, *arguments):
        """Call a method, or read an attribute."""
        return answer_of(self._locks[number], name, *arguments)

    def calls(self, *calls):
        """Several calls, one after the other."""
        return [self.call(*call) for call in calls]

    def new(self, lock_class, path, threaded, name):
        """Call a method of a lock object that is made for this call only."""
        return answer_of(getattr(lockfile, lock_class)(path, threaded), name)

    def fork(self, *calls):
        """A forked child makes the calls and dies at once: its number, and the answers."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                answers = self.calls(*calls)
            except BaseException:
                answers = traceback.format_exc()
            os.write(writer, json.dumps(answers).encode())
            os._exit(0)
        os.close(writer)
        with open(reader) as file:
            answers = file.read()
        os.waitpid(pid, 0)
        return [pid, json.loads(answers)]


def answer_of(lock, name, *arguments):
    """What a method returns or raises, or an attribute is, as it can be said."""
    try:
        answer = getattr(lock, name)
        if callable(answer):
            answer = answer(*arguments)
    except lockfile.Error as error:
        name = type(error).__name__
        return f"{name}: {error}" if name in ("UnlockError", "LockFailed") else name
    if answer is lock:
        return None
    if isinstance(answer, list):
        return [list(owner) for owner in answer]
    return list(answer) if isinstance(answer, tuple) else answer


class Here:
    """The calling thread."""

    def __init__(self, shelf, process_owner=None):
        self._shelf = shelf
        self._meet(process_owner)

    def _meet(self, process_owner):
        pid, thread = self.do("who")
        self._owners = {True: Owner(pid, thread), False: process_owner or Owner(pid, None)}
        self.pid = pid

    def owner(self, threaded):
        """Who calls, as a lock sees it."""
        return self._owners[threaded]

    def do(self, name, *arguments):
        """Have the shelf over there do something."""
        return self.begin(name, *arguments)()

    def begin(self, name, *arguments):
        """Have it begun; what is returned waits for the answer."""
        answer = getattr(self._shelf, name)(*arguments)
        return lambda: answer


class Thread(Here):
    """Another thread of this process, which keeps its locks on the same shelf."""

    def __init__(self, shelf, process_owner):
        self._thread = OtherThread()
        self._thread.__enter__()
        super().__init__(shelf, process_owner)

    def begin(self, name, *arguments):
        outcome = self._thread.start(getattr(self._shelf, name), *arguments)
        return lambda: outcome.result(PATIENCE)

    def end(self):
        """Let the thread end; what it owns stays its own."""
        self.owner(True).has_ended = True
        self._thread.__exit__(None, None, None)


class Nursery:
    """A program that forks one process after the other: sooner done than to start each anew."""

    CODE = """
        from support.actors import Shelf

        while pid := os.fork():
            _, status = os.waitpid(pid, 0)
            say({"ended": status})
        shelf = Shelf()
        while (message := hear()) not in (None, ["end"]):
            say(getattr(shelf, message[0])(*message[1:]))
        """

    def __init__(self):
        self._child = Child(self.CODE)
        self._process = None

    def process(self):
        """The one that lives now."""
        if self._process is None:
            self._process = Process(self._child)
        return self._process

    def end(self):
        """Let it come to the end of its program."""
        self._child.say(["end"])
        assert self._last_word() == 0

    def kill(self):
        """SIGKILL; it is gone when this returns."""
        os.kill(self.process().pid, signal.SIGKILL)
        assert self._last_word() == signal.SIGKILL

    def _last_word(self):
        self._process = None
        while not isinstance(word := self._child.hear(), dict):
            pass  # an answer that nobody has waited for
        return word["ended"]

    def close(self):
        self._child.kill()


class Process(Here):
    """A process of its own, with one thread and a shelf."""

    def __init__(self, child):
        self._child = child
        self._meet(None)

    def begin(self, name, *arguments):
        self._child.say([name, *arguments])
        return self._answer

    def _answer(self):
        answer = self._child.hear()
        assert not isinstance(answer, dict), f"the process has {answer}"
        return answer
