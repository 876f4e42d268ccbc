"""What the tests of the protocol share: names on disk, planted locks, a process that is stopped."""

import contextlib
import ctypes
import os
import re
import select
import socket
import stat
import struct
import textwrap
import time

import support
from support import MACHINE
from support.lock_classes import kind_of

with contextlib.suppress(ImportError):
    import fcntl

HOST = socket.gethostname().replace("/", "_")

# Greedy from the left is lazy from the right: a host name may contain "-" and ".".
UNIQUE_NAME = re.compile(
    r"(?P<host>.+)-(?P<thread>[0-9a-f]*)-(?P<pid>[0-9]+)(?:\.(?P<suffix>.+))?", re.DOTALL
)

# An owner of our host that no longer lives: whoever had this name keeps no beacon.
DEAD = f"{HOST}-7f00deadbeef-3999999"


def skip(reason):
    import pytest  # not for each child: that takes longer than all it does

    pytest.skip(reason)


def parsed(name):
    """A unique name as (host, thread, process, suffix)."""
    found = UNIQUE_NAME.fullmatch(os.path.basename(name))
    assert found, name
    return (
        found["host"],
        found["thread"] and int(found["thread"], 16),
        int(found["pid"]),
        found["suffix"],
    )


def inode(path):
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def unique_base(lock):
    return os.path.basename(lock.unique_name)


def contents(directory):
    """All that is in there, by its inodes."""
    return {
        os.path.join(where, name): inode(os.path.join(where, name))
        for where, directories, files in os.walk(directory)
        for name in directories + files
    }


def make_file(name):
    open(name, "x").close()


def stamp(path):
    """What the package makes has the sticky bit."""
    os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) | stat.S_ISVTX)


def plant_unique(path, name=DEAD, contents=b""):
    """Just the unique file of an owner that is killed before it links."""
    unique = os.path.join(os.path.dirname(path), name)
    with open(unique, "xb") as file:
        file.write(contents)
    stamp(unique)
    return unique


def plant(path, name=DEAD, contents=b""):
    """A lock file as an owner of that unique name leaves it when it is killed."""
    unique = plant_unique(path, name, contents)
    os.link(unique, f"{path}.lock")
    return unique


def plant_as(lock_class, path, name=DEAD):
    """The same, as an owner by that class leaves it, if that makes files of another kind."""
    kind = kind_of(lock_class)
    if kind.is_pid_file:
        unique = plant_unique(path, name, b"3999999\n")
        os.link(unique, path)
    elif kind.lock_file == "symlink":
        lock_file = os.fsencode(os.path.basename(path)) + b".lock"
        unique = plant_unique(path, name, b"lock file: %s\n" % lock_file)
        os.symlink(name, f"{path}.lock")
    else:
        unique = plant(path, name)
    return unique


def swept_clean(lock_class, path):
    """Does the recovery of a stale lock leave nothing in its directory?"""
    with lock_class(path):
        pass
    if not kind_of(lock_class).is_row:
        plant_as(lock_class, path, name=DEAD + ".9")
        with lock_class(path):
            pass
    return support.names(os.path.dirname(path)) == []


@contextlib.contextmanager
def beacon(path, mode=None):
    """Keep the kernel's lock on a file, as an owner or somebody who looks does."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if mode is None else mode) | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def is_proven_dead(pid):
    """Has the process come to its end, reaped or not?"""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return True


def sleeps_in(pid, thread=None):
    """The state letter of a thread: "S" when it waits for something."""
    with open(f"/proc/{pid}/task/{thread or pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0] == b"S"


def wake_ups(pid, thread=None):
    """How often the thread has gone to sleep so far."""
    with open(f"/proc/{pid}/task/{thread or pid}/status") as file:
        return int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", file.read(), re.MULTILINE)[1])


def has_settled(pid, thread=None):
    """Has it gone to sleep for long, past the look that follows shortly after the first?"""
    before = wake_ups(pid, thread)
    time.sleep(0.02)
    return sleeps_in(pid, thread) and wake_ups(pid, thread) == before


def open_files(pid="self"):
    """The names of what a process has open, without databases, which it keeps."""
    return [name for name in all_that_is_open(pid) if not support.is_databases(name)]


def all_that_is_open(pid="self"):
    found = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # what listed them
            found.append(os.readlink(f"/proc/{pid}/fd/{number}"))
    return found


WATCH = "anon_inode:inotify"


def inotify_descriptors(pid):
    """How many inotify descriptors the process has open."""
    return open_files(pid).count(WATCH)


def all_open_but_watches():
    """By this process: when a watch is opened and closed depends on how long somebody waits."""
    return sorted(name for name in all_that_is_open() if name != WATCH)


@contextlib.contextmanager
def inotify_of(pid):
    """Whether the process that sleeps by inotify has been told anything that it has not read."""
    [number] = [
        int(name)
        for name in os.listdir(f"/proc/{pid}/fd")
        if os.readlink(f"/proc/{pid}/fd/{name}") == "anon_inode:inotify"
    ]
    process = os.pidfd_open(pid)
    descriptor = ctypes.CDLL(None).syscall(PIDFD_GETFD, process, number, 0)
    os.close(process)
    if descriptor < 0:
        skip("pidfd_getfd() is not to be had")
    try:
        yield lambda: bool(select.select([descriptor], [], [], 0)[0])
    finally:
        os.close(descriptor)


def watches(pid):
    """How many files the process has watched by inotify."""
    count = 0
    for number in os.listdir(f"/proc/{pid}/fdinfo"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/fdinfo/{number}") as file:
            count += file.read().count("inotify wd:")
    return count


def processor_seconds(pid):
    """The time that the process has kept a processor busy."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


PIDFD_GETFD = 438  # on every architecture

# A thread that the kernel stops just before certain system calls, until we let it go on:
# seccomp's user notification.

CALLS = {
    "x86_64": {
        "open": (257, 2),
        "flock": (73,),
        "link": (265, 86),
        "unlink": (263, 87),
        "stat": (262, 5, 332, 4, 6),
        "close": (3,),
        "fcntl": (72,),
        "mkdir": (83, 258),
        "rename": (82, 264, 316),
        "statfs": (137, 138),
        "list": (217,),
        "watch": (254, 294),
        "sleep": (271, 270, 35, 230),
        "mode": (90, 91, 268),
        "write": (18,),
        "read": (17,),
        "truncate": (76, 77),
        "sync": (74, 75),
        "touch": (280,),
        "node": (133, 259),
        "link text": (89, 267),
        "symlink": (88, 266),
        "hear": (0,),
        "say": (1,),
    },
    "aarch64": {
        "open": (56,),
        "flock": (32,),
        "link": (37,),
        "unlink": (35,),
        "stat": (79, 80, 291),
        "close": (57,),
        "fcntl": (25,),
        "mkdir": (34,),
        "rename": (38, 276),
        "statfs": (43, 44),
        "list": (61,),
        "watch": (26, 27),
        "sleep": (73, 72, 101, 115),
        "mode": (52, 53),
        "write": (68,),
        "read": (67,),
        "truncate": (45, 46),
        "sync": (82, 83),
        "touch": (88,),
        "node": (33,),
        "link text": (78,),
        "symlink": (36,),
        "hear": (63,),
        "say": (64,),
    },
}.get(MACHINE, {})
# Of openat, linkat, unlinkat, and so on; and of the calls without "at".
NAME_ARGUMENT = {"open": 1, "link": 3, "unlink": 1, "mkdir": 1, "rename": 3, "symlink": 2}
OLD_NAME_ARGUMENT = {"open": 0, "link": 1, "unlink": 0, "mkdir": 0, "rename": 1, "symlink": 1}
OLD_CALLS = {2, 82, 83, 86, 87, 88} if MACHINE == "x86_64" else set()
NANOSLEEP = {"x86_64": 35, "aarch64": 101}.get(MACHINE)
PSELECT = {"x86_64": 270, "aarch64": 72}.get(MACHINE)
SET_FILTER, NEW_LISTENER, NO_NEW_PRIVILEGES = 1, 1 << 3, 38
SECCOMP = {"x86_64": 317, "aarch64": 277}.get(MACHINE)
RECEIVE, SEND = 0xC0502100, 0xC0182101
ALLOW, NOTIFY, GO_ON = 0x7FFF0000, 0x7FC00000, 1


def stop_before(kinds, say_to=1):
    """From now on this thread stops before calls of these kinds.

    Whoever has the descriptor that is returned may let it go on.
    """
    load, jump_if_equal, answer = 0x20, 0x15, 0x06
    program = [(load, 0, 0, 0)]  # the number of the system call
    for kind in kinds:
        for number in CALLS[kind]:
            if kind == "say":  # only to the standard output
                program += [
                    (jump_if_equal, 0, 3, number),
                    (load, 0, 0, 16),
                    (jump_if_equal, 0, 1, say_to),
                ]
                program += [(answer, 0, 0, NOTIFY)]
                program += [(load, 0, 0, 0)]
            else:
                program += [(jump_if_equal, 0, 1, number), (answer, 0, 0, NOTIFY)]
    program += [(answer, 0, 0, ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    filter_ = struct.pack("@HP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot renounce privileges")
    listener = libc.syscall(SECCOMP, SET_FILTER, NEW_LISTENER, filter_)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "cannot stop before system calls")
    return listener


def send_listener(number, kinds):
    """In the child: be stopped from now on by the parent at the other end of socket `number`."""
    with socket.socket(fileno=number) as parent:
        listener = stop_before(kinds)
        socket.send_fds(parent, [b"stopped"], [listener])
    # The listener stays open here too: nobody closes it under a thread that is stopped.


class Call:
    """A system call that a stopped thread is about to make."""

    def __init__(self, notification):
        self.identity, self.thread, _, self.number = struct.unpack_from("=QIIi", notification)
        self.arguments = struct.unpack_from("=6Q", notification, 32)
        self.kind = next(kind for kind, numbers in CALLS.items() if self.number in numbers)
        self.name = self._name()

    def __repr__(self):
        return f"<{self.kind} {self.name or ''}>"

    def _name(self):
        """The base name of the file that it makes, opens or removes."""
        which = (OLD_NAME_ARGUMENT if self.number in OLD_CALLS else NAME_ARGUMENT).get(self.kind)
        if which is None:
            return None
        with open(f"/proc/{self.thread}/mem", "rb", buffering=0) as memory:
            memory.seek(self.arguments[which])
            name = b""
            while b"\0" not in name:  # never past the end of a page
                name += memory.read(256 - (self.arguments[which] + len(name)) % 256)
        return os.path.basename(os.fsdecode(name.partition(b"\0")[0]))

    @property
    def creates(self):
        which = 1 if self.number in OLD_CALLS else 2
        return self.kind == "open" and bool(self.arguments[which] & os.O_CREAT)

    def file(self, pid):
        """Where the descriptor that it is about points to."""
        return os.readlink(f"/proc/{pid}/fd/{self.arguments[0]}")


def planned_pause(call):
    """How long a thread that is about to sleep means to, in seconds."""
    which = {NANOSLEEP: 0, PSELECT: 4}.get(call.number, 2)
    with open(f"/proc/{call.thread}/mem", "rb", buffering=0) as memory:
        memory.seek(call.arguments[which])
        seconds, nanoseconds = struct.unpack("@qq", memory.read(16))
    return seconds + nanoseconds / 1e9


class SteppedChild(support.Child):
    """A child that stops before each call of `kinds`, once its code has said `be_stopped()`."""

    def __init__(self, code, *arguments, kinds, keeps=(), **keywords):
        if not CALLS:
            skip("the numbers of this machine's system calls are not known")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        prelude = f"""
from support import protocol
sys.stdout.reconfigure(write_through=False)  # one word, one call
def be_stopped():
    protocol.send_listener({theirs.fileno()}, {tuple(kinds)!r})
"""
        self.call = None
        self._listener = None
        self._socket = ours
        with theirs:
            super().__init__(
                prelude + textwrap.dedent(code),
                *arguments,
                pass_fds=[theirs.fileno(), *keeps],
                **keywords,
            )

    def next_call(self):
        """Let the call happen that it is stopped before; the next one."""
        if self._listener is None:
            self._begin()
        self.go_on()
        assert self._happens(support.PATIENCE), "the child ended"
        self.call = self._receive()
        return self.call

    def run_to(self, kind, name=None, where=lambda call: True):
        """Let it run until it is about to make such a call."""
        seen = []
        while True:
            call = self.next_call()
            seen.append(call)
            if call.kind == kind and name in (None, call.name) and where(call):
                return call
            assert call.kind != "say", f"it came to its end without a {kind} of {name}: {seen}"

    def run_on(self):
        """Let it run freely to its next word, and return that."""
        while self.call is None or self.call.kind != "say":
            self.next_call()
        self.go_on()
        return self.hear()

    def finish(self):
        """Let it run to its end, which must be a success."""
        self.process.stdin.close()
        while self._happens(support.PATIENCE):
            self.call = self._receive()
            self.go_on()
        super().finish()

    def _begin(self):
        self._socket.settimeout(support.PATIENCE)
        message, descriptors, _, _ = socket.recv_fds(self._socket, 16, 1)
        assert message == b"stopped", "seccomp notifications are not to be had"
        [self._listener] = descriptors
        self._socket.close()

    def _happens(self, seconds):
        """Does it come to a call (or else to its end)?"""
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        [(_, happened)] = poll.poll(seconds * 1000) or [(None, None)]
        assert happened is not None, "the child hangs"
        return bool(happened & select.POLLIN)

    def _receive(self):
        notification = bytearray(80)
        fcntl.ioctl(self._listener, RECEIVE, notification)
        return Call(notification)

    def go_on(self):
        """Let the call happen that it is stopped before."""
        if self.call is not None:
            fcntl.ioctl(self._listener, SEND, struct.pack("=QqiI", self.call.identity, 0, 0, GO_ON))
            self.call = None

    def fail(self, error):
        """Let the call not happen but fail."""
        self._reply(0, error)

    def answer(self, result):
        """Let the call not happen, though it seems to."""
        self._reply(result, 0)

    def _reply(self, result, error):
        reply = struct.pack("=QqiI", self.call.identity, result, -error, 0)
        fcntl.ioctl(self._listener, SEND, reply)
        self.call = None

    def _end(self):
        self._socket.close()
        if self._listener is not None:
            os.close(self._listener)
            self._listener = None
        return super()._end()


def begin(child):
    """Let it prepare its next round: it is stopped before the first step of that then."""
    child.say("prepare")
    assert child.run_on() == "ready"
    child.say("go")
