"""Processes and threads are stopped, killed, interrupted and forked while they lock.

    python tests/campaigns/torture.py                              ten minutes for each class
    python tests/campaigns/torture.py --seconds 60 LinkFileLock    one class, one minute
    python tests/campaigns/torture.py --seed 7                     the same choices again

For each class, three or four phases share the time:

- mixed: processes of one and of several threads, each thread an owner or all of them one, lock a
  few paths: with and without timeouts, twice, by nested `with`. They fork while they own, and
  their children join in. Never are two in at once (witness.py tells), and after each Ctrl-C the
  lock object agrees with that.
- readers: processes and threads that share locks, and such that have them alone: never is one of
  these in beside anybody. They downgrade, and are refused what would be an upgrade.
- break_lock: locks are broken all the time. Two may be in; everything else must hold. On one path
  locks are broken only after a timeout, and none that is younger than half of it.
- classic: beside processes that use the classic package on the same paths. They are killed too,
  and nobody recovers their locks: our waiters time out until an administrator (this process)
  removes them. Not for SQLiteFileLock, since the classic one does not exclude other processes.

Meanwhile this process kills workers and starts them anew; stops some for a moment, an owner for
longer than waiters look, a waiter until others have had the lock in turns; and sends SIGINT in
storms.

At the end every worker comes to its end by itself, with no descriptor left; no process is left, and
after one more lock on each path, no file and no row. Who makes no progress for a minute is a
defect too, with the stacks of all. The choices follow from the seed; when they meet does not.
"""

import argparse
import contextlib
import ctypes
import faulthandler
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import venv
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import lockfile
from campaigns import witness, workers
from campaigns.witness import COUNTS, INSIDE, SLOTS, THREADS, WAITING
from support.leftovers import left_behind
from support.lock_classes import NAMES, kind_of
from support.protocol import swept_clean

HERE = Path(__file__).resolve().parent
CLASSIC = "lockfile==0.12.2"
CLASSIC_ENVIRONMENT = HERE.parent.parent / ".venv-classic"

# Who makes no progress for so long, hangs.
PATIENCE = 60

# So long is anybody stopped who may be in the middle of something. (A break_lock() and a busy
# database are waited for for a second, and half of a breaker's timeout is a little more.)
LONGEST_STOP = 0.1

SLEEP = {"x86_64": b"271", "aarch64": b"73"}.get(platform.machine())  # ppoll: a wait


class Phase:
    """Workers on some places in a fresh directory, and what is done to them."""

    kinds = ()
    places = 2
    for_ever = None

    def __init__(self, class_name, chance):
        self.class_name = class_name
        self.lock_class = getattr(lockfile, class_name)
        self.chance = chance
        self.done = dict.fromkeys(("kills", "stops", "long stops", "SIGINTs", "restarts"), 0)
        self.processes = {}  # what is alive: number of the process -> worker
        self.stopped = {}  # until when

    def run(self, seconds):
        """Torment them for so long. A line of figures, and the defects."""
        self.scratch = tempfile.mkdtemp(prefix="lockfile-torture-")
        self.directory = os.path.join(self.scratch, "locks")
        os.mkdir(self.directory)
        self.record = witness.Record(self.scratch)
        self.world = workers.World(
            self.lock_class,
            self.directory,
            self.places,
            self.record,
            self.scratch,
            self.for_ever,
        )
        self.kinds = self.kinds_of(kind_of(self.class_name))
        self.dumps = open(os.path.join(self.scratch, "stacks"), "w+")
        try:
            self.torment(time.monotonic() + seconds)
            self.check_aftermath()
            return self.figures(), self.record.defects()
        finally:
            self.kill_all()
            self.dumps.close()
            shutil.rmtree(self.scratch)

    def kinds_of(self, kind):
        """A PID file's owner is the process: whose thread it is, it does not say."""
        if not kind.is_pid_file:
            return self.kinds
        single = [workers.BREAKERS, workers.ONE_BREAKER]
        return tuple(
            workers.ONE_BREAKER if each in single else workers.ONE_PROCESS for each in self.kinds
        )

    def torment(self, end):
        for worker in range(len(self.kinds)):
            self.start(worker)
        self.start_others()
        while time.monotonic() < end and not self.record.stopped:
            [action] = self.chance.choices(
                [self.kill, self.stop, self.interrupt, self.more], [8, 6, 6, 2]
            )
            action()
            self.let_go_on()
            self.reap()
            self.look_for_hangs()
            time.sleep(self.chance.random() * 0.04)
        self.record.stop()
        self.let_go_on(all_of_them=True)
        self.wait_for_the_end()

    def figures(self):
        counts = {name: self.record.total(name) for name in COUNTS} | self.done
        overlaps = sum(line.startswith("overlap") for line in self.record.defects())
        return ", ".join(f"{count} {name}" for name, count in counts.items() if count) + (
            f", {overlaps} overlaps"
        )

    def defect(self, text):
        self.record.defect("defect", text)

    # Processes

    def start(self, worker):
        """Fork a worker."""
        seed = self.chance.random()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # until it has a handler
        process = os.fork()
        if process == 0:
            code = 1
            try:
                kind = self.kinds[worker]
                code = workers.work(self.world, kind, worker, random.Random(seed), self.dumps)
            except BaseException:
                self.defect(traceback.format_exc())
            finally:
                os._exit(code)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        self.processes[process] = worker

    def start_others(self):
        """For phases with other workers."""

    def own(self):
        """Who locks with ours."""
        return [process for process, worker in self.processes.items() if worker < len(self.kinds)]

    def pick(self):
        return self.chance.choice(list(self.processes))

    def reap(self):
        """Take leave of who has ended, and start workers anew. False: there is nobody left."""
        while True:
            try:
                process, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if process == 0:
                return True
            self.judge_end(process, os.waitstatus_to_exitcode(status))

    def judge_end(self, process, code):
        worker = self.processes.pop(process, None)
        self.stopped.pop(process, None)
        if worker is None:  # a worker's child, whose parent is dead
            fine = code in (0, workers.LEFT_WHILE_INSIDE)
        else:
            fine = code == workers.LEFT_WHILE_INSIDE or (code == 0 and self.record.stopped)
        if not fine:
            self.defect(f"process {process} ended with {code}")
        if worker is not None and not self.record.stopped:
            self.done["restarts"] += 1
            self.restart(worker)

    def restart(self, worker):
        for thread in range(THREADS):
            self.slot(worker, thread).put("beat", 0)
            self.slot(worker, thread).put("state", 0)
        self.start(worker)

    def slot(self, worker, thread=0):
        return self.record.slot(worker * THREADS + thread)

    # What is done to them

    def kill(self):
        self.kill_in_time(self.pick())

    def kill_in_time(self, process):
        """Mostly while it owns or shortly after, when there is something to be left."""
        if self.chance.random() < 0.7:
            self.wait_for_owner([process])
            time.sleep(self.chance.random() * 0.0005)
        self.kill_process(process)

    def wait_for_owner(self, processes):
        """Until one of them owns, or it has taken too long. It may have released by then."""
        first = [self.processes[process] * THREADS for process in processes]
        slots = [self.record.slot(number + thread) for number in first for thread in range(THREADS)]
        deadline = time.monotonic() + 0.1
        while all(slot.get("state") < INSIDE for slot in slots) and time.monotonic() < deadline:
            time.sleep(0.0001)

    def kill_process(self, process):
        self.end(process, self.stop_a_breaker)
        self.done["kills"] += 1
        self.restart(self.processes.pop(process))

    def stop_a_breaker(self, dead):
        """One of those who may be breaking what the dead has left, at some point of that."""
        others = [process for process in self.own() if process not in (dead, *self.stopped)]
        if others:
            time.sleep(self.chance.random() * 0.0003)
            self.stop_process(self.chance.choice(others))

    def end(self, process, meanwhile=None):
        """SIGKILL, unless it has ended by itself meanwhile."""
        os.kill(process, signal.SIGKILL)
        if meanwhile:
            meanwhile(process)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        self.stopped.pop(process, None)
        if code not in (-signal.SIGKILL, workers.LEFT_WHILE_INSIDE):
            self.defect(f"process {process} ended with {code}")

    def stop(self):
        """Any worker for a moment; one of a single thread for longer, if we see what it does."""
        process = self.pick()
        if process in self.stopped:
            return
        self.stop_process(process)
        worker, now = self.processes[process], time.monotonic()
        if self.is_single(worker) and self.wait_for_stop(process):
            state = self.slot(worker).get("state")
            if state >= INSIDE and self.chance.random() < 0.3:
                self.done["long stops"] += 1
                self.stopped[process] = now + 1.1 + self.chance.random()
            elif state >= WAITING and self.sleeps(process) and self.chance.random() < 0.3:
                self.watch_others_pass(process, worker, state - WAITING)

    def stop_process(self, process):
        os.kill(process, signal.SIGSTOP)
        self.done["stops"] += 1
        self.stopped[process] = time.monotonic() + self.chance.random() * LONGEST_STOP

    def is_single(self, worker):
        return worker < len(self.kinds) and len(self.kinds[worker]) == 1

    def wait_for_stop(self, process):
        """True: it is stopped; it may have ended instead."""
        status = os.waitid(os.P_PID, process, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        return status.si_code == os.CLD_STOPPED

    def sleeps(self, process):
        """Was it stopped in the wait of a contender? That keeps nothing locked."""
        with open(f"/proc/{process}/syscall", "rb") as file:
            return SLEEP is not None and file.read().split()[0] == SLEEP

    def watch_others_pass(self, process, worker, place):
        """A contender that is stopped keeps nobody else from the lock."""
        self.done["waiters passed"] = self.done.get("waiters passed", 0) + 1
        self.let_go_on(but=process)
        before = self.record.total(f"acquired {place}")
        deadline = time.monotonic() + PATIENCE
        while self.record.total(f"acquired {place}") < before + 3 and not self.record.stopped:
            if time.monotonic() > deadline:
                return self.hang(f"worker {worker}, stopped while it waits, stops the others")
            self.reap()
            time.sleep(0.001)

    def let_go_on(self, all_of_them=False, but=None):
        """Those who have been stopped long enough; or all, but for one."""
        now = time.monotonic()
        for process, until in list(self.stopped.items()):
            if process != but and (all_of_them or but is not None or now > until):
                del self.stopped[process]
                os.kill(process, signal.SIGCONT)

    def interrupt(self):
        """A storm of Ctrl-C. (Whoever is no worker of ours would die of it.)"""
        process = self.pick()
        if self.processes[process] >= len(self.kinds):
            return
        for _ in range(self.chance.randrange(1, 20)):
            os.kill(process, signal.SIGINT)
            self.done["SIGINTs"] += 1
            time.sleep(self.chance.random() * 0.003)

    def more(self):
        """For phases that do more."""

    # Who hangs

    def look_for_hangs(self):
        for number in range(SLOTS):
            beat = self.record.slot(number).get("beat")
            if beat and time.monotonic_ns() - beat > PATIENCE * 10**9:
                who = f"worker {number // THREADS}, thread {number % THREADS}"
                return self.hang(f"{who}, makes no progress")

    def hang(self, text):
        """Say who stood where, and end the phase."""
        self.defect(f"{text}: {self.stacks()}")
        self.record.stop()

    def stacks(self):
        self.let_go_on(all_of_them=True)
        found = []
        for process in descendants():
            if self.processes.get(process, 0) < len(self.kinds):
                size = os.fstat(self.dumps.fileno()).st_size
                os.kill(process, signal.SIGUSR1)
                time.sleep(0.2)  # it dumps by itself
                self.dumps.seek(size)
                found.append(f"[{process}] {innermost(self.dumps.read())}")
        return " ".join(found)

    def wait_for_the_end(self):
        deadline = time.monotonic() + PATIENCE
        while self.reap():
            if time.monotonic() > deadline:
                self.hang(f"{len(self.processes)} workers do not come to their end")
                return self.kill_all()
            time.sleep(0.005)

    def kill_all(self):
        for process in children():
            os.kill(process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)

    # Afterwards

    def check_aftermath(self):
        """A fresh process locks each path once more: it gets it, and nothing is left then."""
        process = os.fork()
        if process == 0:
            signal.alarm(PATIENCE)
            try:
                self.lock_all()
            except BaseException:
                self.defect(f"afterwards: {traceback.format_exc()}")
            finally:
                os._exit(0)
        if os.waitpid(process, 0)[1] != 0:
            self.defect("afterwards, a fresh process cannot lock")

    def lock_all(self):
        for path in self.world.paths:
            with self.lock_class(path, timeout=PATIENCE):
                pass
        swept_clean(self.lock_class, self.world.paths[0])
        left = os.listdir(self.directory)
        if kind_of(self.lock_class).is_row:
            left = left_behind(self.directory)
        if left:
            self.defect(f"left behind: {left}")


class Mixed(Phase):
    name = "mixed"
    kinds = (
        workers.THREE_THREADS,
        workers.MIXED_THREADS,
        workers.ONE_PROCESS,
        workers.COMMON_THREADS,
        workers.ONE_THREAD,
    )


class Sharing(Phase):
    """Readers and writers. (Nobody breaks a lock: two in, one of them a writer, is a defect.)"""

    name = "readers"
    kinds = (
        workers.SHARERS,
        workers.ONE_SHARER,
        workers.SHARERS,
        workers.ONE_SHARER,
        workers.ONE_SHARER,
    )


class Breaking(Phase):
    name = "break_lock"
    kinds = (workers.BREAKERS, workers.ONE_BREAKER, workers.BREAKERS, workers.ONE_BREAKER)


class BesideClassic(Phase):
    """Two workers and, on each place, two processes with the classic package."""

    name = "classic"
    kinds = (workers.THREE_THREADS, workers.ONE_PROCESS)
    for_ever = 0.3  # while nobody removes the lock of a dead one
    crew_size = 2

    def __init__(self, class_name, chance, python):
        super().__init__(class_name, chance)
        self.python = python
        self.done |= {"classic killed": 0, "classic locks left, and not broken": 0}

    def start_others(self):
        for place in range(self.places):
            self.start_crew(place)

    def crew(self, place):
        """The numbers of the classic workers of one place."""
        first = len(self.kinds) + place * self.crew_size
        return range(first, first + self.crew_size)

    def start_crew(self, place):
        for worker in self.crew(place):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.said_file(worker))  # what the one before has said
            arguments = [
                self.class_name,
                self.world.paths[place],
                place,
                worker * THREADS,
                self.scratch,
                self.chance.random(),
            ]
            program = [self.python, "-I", HERE / "classic_worker.py", *map(str, arguments)]
            self.processes[os.posix_spawn(self.python, program, os.environ)] = worker

    def restart(self, worker):
        if worker < len(self.kinds):
            super().restart(worker)
        else:
            self.start_crew((worker - len(self.kinds)) // self.crew_size)

    def kill(self):
        """One of ours. (The classic ones are killed where we see to what they leave.)"""
        self.kill_in_time(self.chance.choice(self.own()))

    def more(self):
        """All classic workers of a place are killed. What they leave is held, and stays so."""
        place = self.chance.randrange(self.places)
        crew = [process for process, worker in self.processes.items() if worker in self.crew(place)]
        names = [self.unique_name(self.processes[process]) for process in crew]
        if None in names:
            return  # one has just been started
        if self.chance.random() < 0.7:
            self.wait_for_owner(crew)
        for process in crew:
            self.end(process)
            del self.processes[process]
            self.done["classic killed"] += 1
        lock_file = self.world.paths[place] + ".lock"
        if self.is_classic(lock_file, names):
            self.done["classic locks left, and not broken"] += 1
            self.watch_it_stay(lock_file, place)
            self.remove(lock_file)
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
        self.start_crew(place)

    def unique_name(self, worker):
        """What a classic worker has said that its unique file is called, if it has yet."""
        try:
            with open(self.said_file(worker)) as file:
                return file.read() or None
        except FileNotFoundError:
            return None

    def said_file(self, worker):
        return os.path.join(self.scratch, f"classic-{worker * THREADS}")

    def is_classic(self, lock_file, names):
        """Is what is there now a lock that one of the dead has left? Nobody else makes such."""
        if kind_of(self.class_name).needs_hard_links:
            left = [os.lstat(name).st_ino for name in names if os.path.exists(name)]
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(lock_file)
                # One link only: killed in its release. One of ours has two while it is there; but
                # it may go between the search for its name and the answer, and is not found again.
                alone = status.st_nlink == 1 and identity(lock_file) == identity_of(status)
                return status.st_ino in left or alone
            return False
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(lock_file, os.O_RDONLY | os.O_DIRECTORY)
            try:
                inside = os.listdir(descriptor)
                # Empty: killed in its acquire() or release(). Ours never is under this name.
                still = os.lstat(lock_file).st_ino == os.fstat(descriptor).st_ino
                return still and (
                    not inside or any(os.path.basename(name) in inside for name in names)
                )
            finally:
                os.close(descriptor)
        return False

    def watch_it_stay(self, lock_file, place):
        """Until ours have timed out a number of times, and so have looked at it."""
        self.let_go_on(all_of_them=True)
        before = identity(lock_file)
        enough = self.record.total(f"timeouts {place}") + 10
        deadline = time.monotonic() + PATIENCE
        while self.record.total(f"timeouts {place}") < enough and not self.record.stopped:
            if time.monotonic() > deadline:
                return self.hang("nobody times out on a classic lock")
            self.reap()
            time.sleep(0.001)
        if identity(lock_file) != before:
            self.defect("a lock that a classic process left was broken")

    def remove(self, lock_file):
        """As an administrator does."""
        if os.path.isdir(lock_file):
            shutil.rmtree(lock_file)
        else:
            os.unlink(lock_file)


def identity(file):
    try:
        return identity_of(os.lstat(file))
    except FileNotFoundError:
        return None


def identity_of(status):
    return status.st_ino, status.st_mtime_ns


def innermost(stacks, frames=3):
    """Of each thread's stack, where it is."""
    found = []
    for stack in stacks.split("\n\n"):
        lines = [line.rpartition("/")[2] for line in stack.splitlines()]
        found.append("; ".join(lines[1 : 1 + frames]))
    return " | ".join(found)


def children():
    """Who is our child, or has become it."""
    return [process for process, parent in parents().items() if parent == os.getpid()]


def descendants():
    """Our children, theirs, and so on."""
    parent_of = parents()
    found = [os.getpid()]
    for process in found:
        found += [child for child, parent in parent_of.items() if parent == process]
    return found[1:]


def parents():
    """Each process's parent."""
    found = {}
    for number in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            with open(f"/proc/{number}/stat", "rb") as file:
                found[int(number)] = int(file.read().rpartition(b")")[2].split()[1])
    return found


def adopt_orphans():
    """Let processes whose parent dies become our children."""
    become_subreaper = 36
    if ctypes.CDLL(None, use_errno=True).prctl(become_subreaper, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot adopt orphans")


def classic_python(environment):
    """The Python of an environment with the classic package, made if need be; None: impossible."""
    python = environment / "bin" / "python"
    show = [python, "-Ic", "from importlib.metadata import version as v; print(v('lockfile'))"]
    if not python.exists():
        venv.create(environment, symlinks=True)
    if subprocess.run(show, capture_output=True).returncode != 0:
        pip = [sys.executable, "-m", "pip", "--python", python, "--retries", "1", "--timeout", "15"]
        subprocess.run([*pip, "install", "--quiet", CLASSIC], capture_output=True)
    found = subprocess.run(show, capture_output=True, text=True).stdout.strip()
    return str(python) if found == CLASSIC.partition("==")[2] else None


def phases(class_name, seed, environment):
    """The phases of one class, or sentences that say why not."""
    yield Mixed(class_name, random.Random(f"{seed} mixed"))
    yield Breaking(class_name, random.Random(f"{seed} break_lock"))
    if kind_of(class_name).can_share:
        yield Sharing(class_name, random.Random(f"{seed} readers"))
    if kind_of(class_name).is_row:
        yield "skipped: the classic SQLite lock does not exclude other processes"
    elif not kind_of(class_name).excludes_classic:
        yield "skipped: what the classic class of that name leaves is not told from ours yet"
    elif (python := classic_python(environment)) is None:
        yield f"skipped: {CLASSIC} cannot be installed from the package index"
    else:
        yield BesideClassic(class_name, random.Random(f"{seed} classic"), python)


def campaign(class_name, seconds, seed, environment):
    """Print a line for each phase. How many defects there were."""
    failed = 0
    planned = list(phases(class_name, seed, environment))
    to_run = [phase for phase in planned if isinstance(phase, Phase)]
    for phase in planned:
        if isinstance(phase, str):
            print(f"{class_name:14} classic     {phase}", flush=True)
            continue
        figures, defects = phase.run(seconds / len(to_run))
        failed += len(defects)
        print(f"{class_name:14} {phase.name:10}  {figures}, {len(defects)} defects", flush=True)
        for defect in defects[:20]:
            print(f"    {defect}", flush=True)
    return failed


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("classes", nargs="*", metavar="CLASS", help=", ".join(NAMES))
    parser.add_argument("--seconds", type=float, default=600, help="for each class")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--classic", type=Path, default=CLASSIC_ENVIRONMENT, metavar="DIRECTORY")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.classes if name not in NAMES]
    if unknown:
        parser.error(f"no such class: {', '.join(unknown)}")
    seed = arguments.seed if arguments.seed is not None else random.randrange(2**32)
    print(f"seed {seed}", flush=True)
    adopt_orphans()
    with tempfile.TemporaryDirectory() as scratch:
        wrong = witness.try_out(scratch)
    if wrong:
        print(f"the detector does not work here: {wrong}")
        return 1
    failed = 0
    for class_name in arguments.classes or NAMES:
        failed += campaign(class_name, arguments.seconds, seed, arguments.classic)
    return 1 if failed else 0


if __name__ == "__main__":
    faulthandler.enable()
    sys.exit(main())
