"""Another user of a public directory puts something in our way, before every system call.

    python tests/campaigns/hostile.py                      everything
    python tests/campaigns/hostile.py SQLiteFileLock       one class
    python tests/campaigns/hostile.py --every 5            only each fifth attack, as the tests do

The directory is sticky, and everybody may write in it. A process of an ordinary user, the victim,
does one operation on a lock there. Before the N-th system call that reads a name, another ordinary
user, the attacker, puts something under one of the names that the operation uses: a symbolic or
hard link to the victim's files, a pipe, a socket, a directory, a file. What stands there already
is replaced if the kernel lets the attacker. Calls that read no name do not notice, so no attack
is lost by leaving them out. Then:

- the victim's files are what they were, and where a link led to nothing, nothing was made;
- it succeeded or raised what is documented, with a reason, and did not hang;
- if it owns, nobody else gets the lock; who held the lock, holds it still;
- once the attacker's things are gone the lock is free, and nothing of the victim's is left.

Hard links to the victim's files are made by root here: the kernel lets others make them only where
fs.protected_hardlinks is 0.
"""

import argparse
import contextlib
import ctypes
import itertools
import os
import shutil
import socket
import stat
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import lockfile
import support
from campaigns import faults
from campaigns.faults import Defect, demand
from support import protocol
from support.lock_classes import NAMES, can_be_shared, kind_of

VICTIM, ATTACKER = support.ORDINARY_USER, support.ORDINARY_USER - 1

# Calls that read names, beside those that the other campaign stops at.
protocol.CALLS.update(
    {
        "x86_64": {"ask": (21, 269, 439), "remove": (84, 87, 263)},
        "aarch64": {"ask": (48, 439)},
    }.get(os.uname().machine, {})
)
NAMING = "open link unlink stat mkdir rename node watch list ask remove"
KINDS = [kind for kind in (*NAMING.split(), "link text") if kind in protocol.CALLS]

# fstat(), which glibc spells newfstatat() of an empty name.
STATUS_OF_OPEN_FILE = {"x86_64": (5,), "aarch64": (80,)}.get(os.uname().machine, ())
STATUS_AT = {"x86_64": 262, "aarch64": 79}.get(os.uname().machine)
EMPTY_NAME = 0x1000


def reads_name(call):
    """Could it notice what stands under a name?"""
    of_open_file = call.number in STATUS_OF_OPEN_FILE or (
        call.number == STATUS_AT and call.arguments[3] & EMPTY_NAME
    )
    return call.kind != "say" and not of_open_file


# What the victim does; it is stopped from "ready" on.
VICTIM_CODE = """
    from campaigns import hostile
    hostile.be_victim()
    be_stopped()
    while told := hear():
        lock, operation = hostile.prepare(*told)
        say(lock.unique_name)
        hear()
        say(hostile.outcome(lambda: operation.run(lock)) | {"mine": hostile.owns(lock)})
        while hear() == "release":
            say(hostile.outcome(lock.release) if hostile.owns(lock) else {"error": None})
        say("over")
    """

# Another process of the victim's: an owner, a contender, or one that dies while it owns.
RIVAL_CODE = """
    from campaigns import hostile
    hostile.be_victim()
    locks = {}
    while told := hear():
        what, class_name, path, keywords = told
        if what != "release":
            lock = getattr(lockfile, class_name)(path, **keywords)
        if what == "die":
            if (child := os.fork()) == 0:
                lock.acquire()
                os._exit(0)
            os.waitpid(child, 0)
            say(None)
        else:
            say(hostile.outcome(lock.release if what == "release" else lock.acquire)["error"])
    """


def be_victim():
    """Be the victim from now on, and as ordinary a process as if one had always been it."""
    support.become(VICTIM)
    may_be_looked_at = 4
    ctypes.CDLL(None).prctl(may_be_looked_at, 1, 0, 0, 0)


def outcome(function):
    """What came of a call, to be told."""
    try:
        function()
    except Exception as error:
        documented = isinstance(error, lockfile.Error)
        return {"error": type(error).__name__, "text": str(error), "documented": documented}
    return {"error": None}


def owns(lock):
    try:
        return lock.i_am_locking()
    except lockfile.UnlockError:
        return None


# What is done, and what is there before: nothing, a lock of the victim's, held, shared or stale, or
# a lock of the attacker's that looks stale.


class Operation(faults.Operation):
    def __init__(self, method, *arguments, attacked=False, looks=False, **keywords):
        super().__init__(method, *arguments, **keywords)
        self.attacked, self.looks = attacked, looks


OPERATIONS = {
    "acquire": Operation("acquire", 0.01),
    "acquire what is held": Operation("acquire", 0.005, held=True),
    "acquire what is stale": Operation("acquire", 0.01, stale=True),
    "acquire what cannot be broken": Operation("acquire", 0.005, attacked=True),
    "break_lock of what cannot be broken": Operation("break_lock", attacked=True),
    "look": Operation("is_locked", held=True, looks=True),
    "look at what is stale": Operation("owner", stale=True, looks=True),
    "look at what cannot be broken": Operation("owner", attacked=True, looks=True),
    "read": Operation("acquire", 0.01, reads=True),
    "read what is stale": Operation("acquire", 0.01, stale=True, reads=True),
    "read what cannot be broken": Operation("acquire", 0.005, attacked=True, reads=True),
    "join a reader": Operation("acquire", 0.01, beside_reader=True, reads=True),
    "acquire what is read": Operation("acquire", 0.005, beside_reader=True),
    "look at what is read": Operation("owners", beside_reader=True, looks=True),
}
for same in ("release", "break_lock", "leave", "leave a reader", "downgrade", "break what is read"):
    OPERATIONS[same] = faults.OPERATIONS[same]


def operations(class_name):
    """What can be done with that class."""
    kind = kind_of(class_name)
    can_share = can_be_shared(kind.lock_class)
    return {
        name: operation
        for name, operation in OPERATIONS.items()
        if (can_share or not operation.shares) and not (kind.is_row and operation.attacked)
    }


def mode(shared):
    """Classes that cannot share do not know the word."""
    return {"shared": True} if shared else {}


def prepare(class_name, path, name):
    """In the victim: the lock, and what is to be done with it."""
    operation = OPERATIONS[name]
    lock = getattr(lockfile, class_name)(path, **mode(operation.reads))
    if operation.before:
        operation.before(lock)
    return lock, operation


# What the attacker plants: each makes `name`.


def make_file(name, mode, contents=b""):
    with open(name, "xb") as file:
        file.write(contents)
    os.chmod(name, mode)


def make_directory(name, mode):
    os.mkdir(name)
    os.chmod(name, mode)


def make_pipe(name):
    os.mkfifo(name)
    os.chmod(name, 0o666)


def make_socket(name):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(name)


def make_own_link(name):
    other = os.path.join(os.path.dirname(name), "attackers")
    make_file(other, 0o666, b"attacker's")
    os.link(other, name)


def make_device(name):
    os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.chown(name, ATTACKER, ATTACKER)


def as_root(make):
    """What only root may plant, or whoever fs.protected_hardlinks=0 lets link."""

    def plant(name):
        make_file(name, 0)  # where the attacker may put nothing, root plants nothing for him
        os.unlink(name)
        with acting_as(0):
            make(name)

    return plant


def home():
    return Path(os.environ["HOSTILE_HOME"])


PLANTS = {
    "a symbolic link to a file": lambda name: os.symlink(home() / "secret", name),
    "a symbolic link to an empty file": lambda name: os.symlink(home() / "empty", name),
    "a symbolic link to a directory": lambda name: os.symlink(home(), name),
    "a symbolic link to nothing": lambda name: os.symlink(home() / "missing", name),
    "a symbolic link to itself": lambda name: os.symlink(name, name),
    "a hard link to a file": as_root(lambda name: os.link(home() / "secret", name)),
    "a hard link to an empty file": as_root(lambda name: os.link(home() / "empty", name)),
    "a hard link to the attacker's file": make_own_link,
    "a pipe": make_pipe,
    "a socket": make_socket,
    "a device": as_root(make_device),
    "a directory": lambda name: make_directory(name, 0o777),
    "a closed directory": lambda name: make_directory(name, 0),
    "a file": lambda name: make_file(name, 0o666, b"attacker's"),
    "a file that nobody may read": lambda name: make_file(name, 0),
    "an empty file": lambda name: make_file(name, 0o644),
}


def targets(class_name, path, unique_name):
    """The names under which an attacker may put something."""
    directory, unique = os.path.split(path)[0], os.path.basename(unique_name)
    if kind_of(class_name).is_row:
        database = os.path.join(directory, ".lockfile.sqlite3")
        return {
            "the database": database,
            "the beacons": database + "-beacons",
            "the log": database + "-wal",
            "the log's index": database + "-shm",
            "the journal": database + "-journal",
        }
    lock_file = kind_of(class_name).lock_file_of(path)
    inside = lock_file if kind_of(class_name).is_directory else directory
    return {
        "the lock file": lock_file,
        "the unique name": os.path.join(directory, unique),
        "the next unique name": os.path.join(directory, unique + ".1"),
        "the attacker's unique name": os.path.join(inside, protocol.DEAD),
    }


@contextlib.contextmanager
def acting_as(user):
    """Be another user for a while, as far as permissions go."""
    former = os.geteuid()
    os.seteuid(0)
    os.setegid(user)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(former)
        os.seteuid(former)


def remove(name):
    """Whatever it is."""
    if stat.S_ISDIR(os.lstat(name).st_mode):
        os.chmod(name, 0o700)
        shutil.rmtree(name)
    else:
        os.unlink(name)


def plant(name, make):
    """As the attacker. False: the kernel forbids it."""
    with acting_as(ATTACKER):
        try:
            with contextlib.suppress(FileNotFoundError):
                remove(name)
            make(name)
        except (PermissionError, FileExistsError, FileNotFoundError, NotADirectoryError):
            return False
    return True


def is_open_to_attack(name):
    """Can the attacker put something there, or something else in place of what is there?"""
    try:
        return os.lstat(name).st_uid == ATTACKER
    except FileNotFoundError:
        with acting_as(ATTACKER):
            return os.access(os.path.dirname(name), os.W_OK, effective_ids=True)
    except NotADirectoryError:
        return False


def leave_unbreakable(class_name, path):
    """A lock of the attacker's whose owner is dead."""
    with acting_as(ATTACKER):
        if kind_of(class_name).is_directory:
            make_directory(path + ".lock", 0o777)
            make_file(os.path.join(path + ".lock", protocol.DEAD), 0o644)
        else:
            os.chmod(protocol.plant_as(kind_of(class_name).lock_class, path), 0o644)


class Home:
    """A directory of the victim's, with files that must stay as they are."""

    def __init__(self):
        self.path = Path(tempfile.mkdtemp(prefix="lockfile-home-"))
        for name, contents in (("secret", b"precious " * 1000), ("empty", b"")):
            file = self.path / name
            file.write_bytes(contents)
            file.chmod(0o600)
            os.chown(file, VICTIM, VICTIM)
            os.utime(file, (1, 1))
        os.chown(self.path, VICTIM, VICTIM)
        self.before = self.state()

    def state(self):
        return {
            file.name: (file.read_bytes(), *self.status(file)) for file in self.path.iterdir()
        } | {".": (b"", *self.status(self.path))}

    def status(self, file):
        status = file.stat()
        return oct(status.st_mode), status.st_uid, status.st_ino, status.st_mtime_ns

    def owns(self, status):
        return any(was[3] == status.st_ino for was in self.before.values())

    def check(self):
        for name, now in self.state().items():
            demand(name in self.before, f"made: {name}")
            was = self.before[name]
            demand(now[0] == was[0], f"written into: {name}")
            demand(now == was, f"changed: {name}, {was[1:]}, {now[1:]}")
        demand(len(self.state()) == len(self.before), "removed")

    def remove(self):
        shutil.rmtree(self.path)


class Campaign:
    """The victim's two processes, its home, and what has been tried."""

    def __init__(self, class_name):
        self.class_name = class_name
        self.cases, self.defects, self.messages = 0, [], set()
        self.begin_anew()

    def begin_anew(self):
        self.home = Home()
        os.environ["HOSTILE_HOME"] = str(self.home.path)
        self.child = protocol.SteppedChild(VICTIM_CODE, kinds=(*KINDS, "say"))
        self.rival = support.Child(RIVAL_CODE)

    def end(self):
        self.child.kill()
        self.rival.kill()
        self.home.remove()

    def ask_rival(self, what, path, timeout=0, shared=False):
        self.rival.say([what, self.class_name, path, {"timeout": timeout} | mode(shared)])
        return self.rival.hear()

    def prepare(self, operation, path):
        if operation.held:
            refused = self.ask_rival("acquire", path, 1, operation.beside_reader)
            demand(refused is None, f"no lock to begin with: {refused}")
        if operation.stale:
            self.ask_rival("die", path, 1)
        if operation.attacked:
            leave_unbreakable(self.class_name, path)

    def begin(self, name, path):
        """Up to the operation; the child's unique name."""
        self.prepare(OPERATIONS[name], path)
        self.child.say([self.class_name, path, name])
        unique_name = self.child.run_on()
        self.child.say("go")
        return unique_name

    def survey(self, name):
        """Before which calls the attacker can put something where: pairs of number and target."""
        openings, number = [], 0
        with public_directory() as path:
            names = targets(self.class_name, path, self.begin(name, path))
            while self.child.next_call().kind != "say":
                if reads_name(self.child.call):
                    number += 1
                    openings += [(number, each) for each in names if is_open_to_attack(names[each])]
            self.conclude(OPERATIONS[name], path)
        return openings

    def attack(self, name, number, target, what):
        """One case. False: the kernel does not let the attacker do that."""
        with public_directory() as path:
            unique_name = self.begin(name, path)
            planted = self.stop_before(number) and plant(
                targets(self.class_name, path, unique_name)[target],
                PLANTS[what],
            )
            self.conclude(OPERATIONS[name], path)
        return planted

    def stop_before(self, number):
        """The call of that number which reads a name. False: there are not so many."""
        while number > 0 and self.child.next_call().kind != "say":
            number -= reads_name(self.child.call)
        return number == 0

    def conclude(self, operation, path):
        """Let the operation end, and see what came of it."""
        report = self.child.run_on()
        self.check_report(operation, path, report)
        self.home.check()
        if report["mine"] or (operation.owns and report["error"] is None):
            demand(self.ask_rival("acquire", path) is not None, "two own")
        released = self.release()
        if not kind_of(self.class_name).is_row:
            demand(released is None, f"cannot release: {released}")
        self.home.check()
        self.wipe(os.path.dirname(path))
        demand(self.release() is None, "cannot release afterwards")
        self.child.say("over")
        self.child.run_on()
        self.check_that_all_is_well(operation, path)

    def release(self):
        self.child.say("release")
        return self.child.run_on()["error"]

    def wipe(self, directory):
        """Away with all that the attacker has left."""
        for entry in list(os.scandir(directory)):
            status = entry.stat(follow_symlinks=False)
            if status.st_uid == ATTACKER or self.home.owns(status):
                remove(entry.path)

    def check_report(self, operation, path, report):
        error, text = report["error"], report.get("text", "")
        on_files = not kind_of(self.class_name).is_row
        demand(error is None or report["documented"], f"{error}: {text}")
        demand(not text.endswith((path, "already locked")), f"no reason: {text}")
        self.messages.add(f"{error}: {text.replace(path, 'README')}")
        if operation.held and not operation.owns:
            demand(report["mine"] is not True, "two own")
        if operation.owns:
            mine = report["mine"]
            cannot_tell = mine is None and not on_files  # the attacker keeps it from the database
            demand(cannot_tell or mine is (error is None), f"{error}, but owned: {mine}")
            demand(error != "LockFailed" or not on_files, f"{error}: {text}")
        elif operation.method == "release":
            demand(error is None or not on_files, f"{error}: {text}")
        else:
            demand(not (on_files and operation.looks and error), f"{error}: {text}")

    def check_that_all_is_well(self, operation, path):
        if operation.held:
            error = self.ask_rival("release", path)
            broken = operation.method == "break_lock"
            demand(error is None or (broken and error == "NotLocked"), f"the holder: {error}")
        demand(self.ask_rival("acquire", path, 5) is None, "nobody can own any more")
        demand(self.ask_rival("release", path) is None, "it cannot be released any more")
        left = support.names(os.path.dirname(path))
        demand(left == [], f"left behind: {left}")

    def attacks(self):
        """All that can be tried."""
        for name in operations(self.class_name):
            for number, target in self.survey(name):
                for what in PLANTS:
                    yield name, number, target, what

    def run(self, every=1):
        """All attacks, or each so many-th."""
        for name, number, target, what in itertools.islice(self.attacks(), 0, None, every):
            try:
                self.cases += self.attack(name, number, target, what)
            except (Defect, AssertionError) as defect:
                self.cases += 1
                self.defects.append(f"{name}, {what} as {target} before call {number}: {defect}")
                self.end()
                self.begin_anew()


@contextlib.contextmanager
def public_directory():
    """A path in a fresh directory in which all may write."""
    directory = tempfile.mkdtemp(prefix="lockfile-hostile-")
    os.chmod(directory, 0o1777)
    try:
        yield os.path.join(directory, "README")
    finally:
        shutil.rmtree(directory)


def campaign(class_name, every=1):
    """Run one; what it has found."""
    found = Campaign(class_name)
    try:
        found.run(every)
    finally:
        found.end()
    return found


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("which", nargs="*", help=", ".join(NAMES))
    parser.add_argument("--every", type=int, default=1, help="only each so many-th attack")
    parser.add_argument("--messages", action="store_true", help="show what the victim was told")
    arguments = parser.parse_args()
    failed = 0
    for class_name in arguments.which or NAMES:
        start = time.monotonic()
        found = campaign(class_name, arguments.every)
        failed += len(found.defects)
        took = time.monotonic() - start
        print(f"{class_name:15} {found.cases:6} cases, {len(found.defects)} defects, {took:.0f} s")
        for line in found.defects + (sorted(found.messages) if arguments.messages else []):
            print(f"      {line}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
