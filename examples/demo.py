"""Four processes write one file under a lock, and one of them is killed while it owns it.

    python examples/demo.py                   every lock class of the package
    python examples/demo.py LinkFileLock      this one only
    python examples/demo.py --without-lock    the same program without a lock: it fails

In its turn, a process appends a record to the ledger or rewrites the whole ledger. In the end the
ledger is examined. A proof that cannot fail proves nothing, so the same program runs without
a lock too, and must leave a damaged ledger. The exit status is 0 only if all was proven.
"""

import argparse
import contextlib
import hashlib
import itertools
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lockfile

LOCK_CLASSES = ("LinkFileLock", "MkdirFileLock", "SQLiteFileLock")
NAMES = ("ada", "bert", "cleo", "dora")
VICTIM = "cleo"
TURNS = 24
FATAL_TURN = 8  # the victim is killed in this one of its turns
LAST_TURNS = 6  # the others take so many more when that has happened
REWRITE_EVERY = 6  # every sixth turn rewrites the ledger, the others append to it
WORK = 0.001  # seconds between reading the ledger and writing it
KILLED = 1 if sys.platform == "win32" else -signal.SIGKILL  # the return code of who was
DEADLINE = 10.0  # seconds for one run; nothing here waits longer


class NoLock:
    """What a program without a lock has: everybody may write at any time."""

    def __init__(self, path: str) -> None:
        self.lock_file = self.unique_name = path

    def acquire(self, timeout: float | None = None) -> None:
        pass

    def release(self) -> None:
        pass

    def owner(self) -> None:
        return None


def class_named(name: str) -> Any:
    return NoLock if name == "NoLock" else getattr(lockfile, name)


# The ledger: a line with a total, then numbered records, each with a checksum over all before it.

SUM_LENGTH = 12
NO_SUM = "0" * SUM_LENGTH


def checksum(previous: str, text: str) -> str:
    return hashlib.sha256(f"{previous} {text}".encode()).hexdigest()[:SUM_LENGTH]


def total(records: int, last_sum: str) -> bytes:
    return f"total {records:05} {last_sum}\n".encode()


def whole_lines(content: bytes) -> bytes:
    """All but a last line without its end: the half record of an owner that was killed."""
    return content[: content.rfind(b"\n") + 1]


def next_record(content: bytes, name: str, turn: int) -> bytes:
    """The record that follows this content, and ends in the next checksum."""
    previous = content[-SUM_LENGTH - 1 : -1].decode(errors="replace")
    number = content.count(b"\n")
    text = f"{number:05} {name} {turn:02}"
    return f"{text} {checksum(previous, text)}\n".encode()


def append_record(ledger: Path, name: str, turn: int, die: bool = False) -> int:
    """Add a record at the end, and say how many bytes of a half one had to be cut off first."""
    with ledger.open("r+b") as file:
        content = file.read()
        whole = whole_lines(content)
        time.sleep(WORK)
        record = next_record(whole, name, turn)
        file.seek(len(whole))
        file.truncate()
        file.write(record[: len(record) // 2] if die else record)
    return len(content) - len(whole)


def rewrite_ledger(ledger: Path, name: str, turn: int) -> int:
    """Write everything, a record more and the new total to a file, and put that in place."""
    content = ledger.read_bytes()
    whole = whole_lines(content)
    time.sleep(WORK)
    records = whole[whole.find(b"\n") + 1 :] + next_record(whole, name, turn)
    new = ledger.with_suffix(f".{name}")
    new.write_bytes(total(records.count(b"\n"), records.decode()[-SUM_LENGTH - 1 : -1]) + records)
    new.replace(ledger)
    return len(content) - len(whole)


# A worker is a process of its own. It keeps a diary, a file that the main program reads.


def work(name: str, class_name: str, path: str, diary: str) -> None:
    lock, ledger = class_named(class_name)(path), Path(path)
    with open(diary, "a", buffering=1) as file:

        def note(event: str, **details: Any) -> None:
            file.write(json.dumps({"event": event, **details}) + "\n")

        note("is ready")
        for turn in range(1, TURNS + 1):
            if turn in (1, TURNS - LAST_TURNS + 1):
                sys.stdin.readline()  # until the main program lets us go on
            asked = time.monotonic_ns()
            note("asks")
            lock.acquire(timeout=DEADLINE)
            times = {"asked": asked, "entered": time.monotonic_ns()}
            if name == VICTIM and turn == FATAL_TURN:
                append_record(ledger, name, turn, die=True)
                note("is to be killed", **times, unique_name=lock.unique_name)
                sys.stdin.readline()
                sys.exit("nobody killed me")
            rewrote = turn % REWRITE_EVERY == 0
            cut_off = (rewrite_ledger if rewrote else append_record)(ledger, name, turn)
            times["left"] = time.monotonic_ns()
            lock.release()
            note("took a turn", **times, rewrote=rewrote, cut_off=cut_off)


# A run: all workers at once, one of them killed on the way.


class NotProven(Exception):
    """A run that cannot go on."""


@dataclass
class Turn:
    """One worker's time as the owner, in nanoseconds of the monotonic clock."""

    name: str
    asked: int
    entered: int
    left: int
    rewrote: bool = False
    cut_off: int = 0
    killed: bool = False


@dataclass
class Run:
    """What a run left to look at; the turns are in the order in which they began."""

    turns: list[Turn]
    ledger: str
    victim: int  # process number
    killed_at: int
    listing: str  # of the directory, just before the kill
    owner: Any  # as the lock named it just before the kill
    leftovers: list[str]
    failed: list[str]

    def successor(self) -> Turn | None:
        return next((turn for turn in self.turns if turn.entered >= self.killed_at), None)

    def hand_offs(self) -> list[float]:
        """Milliseconds from one process that left to another one that waited and entered."""
        return [
            (turn.entered - previous.left) / 1e6
            for previous, turn in itertools.pairwise(self.turns)
            if previous.name != turn.name and turn.asked < previous.left and not previous.killed
        ]


def entries(diary: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in whole_lines(diary.read_bytes()).splitlines()]


def turns_in(diary: Path, killed_at: int) -> Iterator[Turn]:
    for entry in entries(diary):
        event = entry.pop("event")
        if event == "took a turn":
            yield Turn(diary.name, **entry)
        elif event == "is to be killed":
            yield Turn(diary.name, entry["asked"], entry["entered"], killed_at, killed=True)


class Workers:
    """All workers of a run. Leaving the block ends them, whatever happened in it."""

    def __init__(self, class_name: str, ledger: Path, diaries: Path) -> None:
        self.diaries = diaries
        self.deadline = time.monotonic() + DEADLINE
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in NAMES:
            diary = diaries / name
            diary.touch()
            command = [
                sys.executable,
                __file__,
                "--work",
                name,
                class_name,
                str(ledger),
                str(diary),
            ]
            self.processes[name] = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self.processes.values():
            process.kill()
            process.communicate()

    def let_go_on(self, names: Iterable[str]) -> None:
        for name in names:
            stdin = self.processes[name].stdin
            with contextlib.suppress(BrokenPipeError):  # its traceback tells why
                if stdin:
                    stdin.write(b"\n")

    def until(self, event: str, names: Iterable[str]) -> None:
        """Wait until the newest entry of each worker is this one."""
        for name in names:
            while not any(entry["event"] == event for entry in entries(self.diaries / name)[-1:]):
                if self.processes[name].poll() is not None:
                    raise NotProven(f"{name} ended before it {event}")
                if time.monotonic() > self.deadline:
                    raise NotProven(f"{name} was waited for too long, until it {event}")
                time.sleep(0.001)

    def until_done(self) -> list[str]:
        """Wait for all, and return who ended badly: the victim alone has to be killed."""
        for name, process in self.processes.items():
            try:
                process.wait(max(0.0, self.deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise NotProven(f"{name} was not done after {DEADLINE:.0f} seconds") from None
        wanted = {name: KILLED if name == VICTIM else 0 for name in NAMES}
        return [name for name in NAMES if self.processes[name].returncode != wanted[name]]


def run(class_name: str, base: Path) -> Run:
    """Let the workers write, kill the victim while it owns, and collect what is left."""
    directory, diaries = base / "files", base / "diaries"
    directory.mkdir(parents=True)
    diaries.mkdir()
    ledger = directory / "ledger.txt"
    ledger.write_bytes(total(0, NO_SUM))
    lock = class_named(class_name)(str(ledger))
    lock.acquire(timeout=DEADLINE)  # what this leaves there may be there in the end too
    lock.release()
    before = set(os.listdir(directory))

    with Workers(class_name, ledger, diaries) as workers:
        others = [name for name in NAMES if name != VICTIM]
        workers.until("is ready", NAMES)
        workers.let_go_on(NAMES)
        workers.until("is to be killed", [VICTIM])
        workers.let_go_on(others)
        if class_name != "NoLock":
            workers.until("asks", others)
        unique_name = entries(diaries / VICTIM)[-1]["unique_name"]
        notes = {lock.lock_file: "the lock file", unique_name: f"{VICTIM}'s unique file"}
        listing, owner = list_directory(directory, notes), lock.owner()
        killed_at = time.monotonic_ns()
        workers.processes[VICTIM].kill()
        failed = workers.until_done()

    turns = [turn for name in NAMES for turn in turns_in(diaries / name, killed_at)]
    return Run(
        turns=sorted(turns, key=lambda turn: turn.entered),
        ledger=ledger.read_text(errors="replace"),
        victim=workers.processes[VICTIM].pid,
        killed_at=killed_at,
        listing=listing,
        owner=owner,
        leftovers=sorted(set(os.listdir(directory)) - before),
        failed=failed,
    )


def list_directory(directory: Path, notes: dict[str, str]) -> str:
    rows = []
    for path in sorted(directory.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # another worker's, gone again
            status = path.lstat()
            numbers = f"{status.st_nlink:5}  {status.st_ino:9}  {status.st_size:5}"
            rows.append((str(path.relative_to(directory)), numbers, notes.get(str(path), "")))
    width = max(len(name) for name, _numbers, _note in rows)
    titles = ("name", "links      inode  bytes", "")
    return "\n".join(
        f"{name:{width}}  {rest}  {note}".rstrip() for name, rest, note in [titles, *rows]
    )


# The proof: each check is how many faults it found, what is proven if none, and what else is said.

Check = tuple[int, str, str]


def check_ledger(run: Run) -> list[Check]:
    """Is every record there exactly once, in order, and each checksum right?"""
    expected = set(itertools.product(NAMES, range(1, TURNS + 1)))
    expected -= {(VICTIM, turn) for turn in range(FATAL_TURN, TURNS + 1)}
    found: Counter[tuple[str, int]] = Counter()
    sums, damaged = [NO_SUM], 0
    first, *records = run.ledger.splitlines(keepends=True) or [""]
    for number, record in enumerate(records, 1):
        text, _space, end = record.rpartition(" ")
        if text.startswith(f"{number:05} ") and end == checksum(sums[-1], text) + "\n":
            _number, name, turn = text.split()
            found[name, int(turn)] += 1
        else:
            damaged += 1
        sums.append(end.rstrip("\n"))
    totals = [total(count, last).decode() for count, last in enumerate(sums)]
    lost = sum(record not in found for record in expected)
    surplus = sum(count - (record in expected) for record, count in found.items())
    every = f"each of the {len(expected)} records is in the file, and each exactly once"
    sums_right = f"numbers and checksums of all {len(records)} records are right"
    return [
        (lost + surplus, every, f"of {len(expected)} records {lost} are lost, {surplus} surplus"),
        (damaged, sums_right, f"{damaged} records have a wrong number or checksum"),
        (first not in totals, "the total agrees with the records", "the total is wrong"),
    ]


def check_turns(run: Run) -> list[Check]:
    """Did anybody own while another one did, and did all workers end as they should?"""
    ends = itertools.accumulate((turn.left for turn in run.turns), max)
    overlaps = sum(turn.entered < end for turn, end in zip(run.turns[1:], ends, strict=False))
    alone = f"in {len(run.turns)} turns, no two processes ever owned at once"
    return [
        (overlaps, alone, f"{overlaps} turns began while another one lasted"),
        (
            len(run.failed),
            "all others did all their turns",
            f"ended badly: {', '.join(run.failed)}",
        ),
    ]


def check_recovery(run: Run) -> list[Check]:
    successor = run.successor()
    waited = (successor.entered - run.killed_at) / 1e6 if successor else math.inf
    taken = f"the killed owner's lock was taken over after {waited:.2f} ms"
    left = f"left in the directory: {', '.join(run.leftovers)}"
    return [
        (waited > 1000, taken, "nobody took the killed owner's lock over within a second"),
        (len(run.leftovers), "nothing of the lock is left in the directory", left),
    ]


# The report.


def say(text: str, indent: int = 4) -> None:
    for line in text.splitlines():
        print(f"{'':{indent}}{line}".rstrip())


def headline(text: str, underline: str = "") -> None:
    print(f"\n{text}\n{underline * len(text)}")


def say_order(run: Run) -> None:
    """One letter a turn."""
    headline("  Who owned, turn by turn (small: appended, capital: rewrote, *: killed)")
    initials = ((turn, turn.name[0]) for turn in run.turns)
    letters = ["*" if turn.killed else x.upper() if turn.rewrote else x for turn, x in initials]
    say("".join(letters))


def say_timeline(run: Run) -> None:
    """A lane for each process, for some milliseconds on either side of the kill."""
    headline("  Around the kill (a column is 0.25 ms)")
    column, columns, middle = 250_000, 76, 38  # a column in nanoseconds
    lanes = {name: [" "] * columns for name in NAMES}

    def draw(name: str, begin: int, end: int, mark: str) -> None:
        first, last = ((when - run.killed_at) // column + middle for when in (begin, end))
        for place in range(max(first, 0), min(last + 1, columns)):
            lanes[name][place] = mark

    for turn in run.turns:
        draw(turn.name, turn.asked, turn.entered, ".")
    for turn in run.turns:
        draw(turn.name, turn.entered, turn.left, "#" if turn.rewrote else "=")
    draw(VICTIM, run.killed_at, run.killed_at, "X")
    for name, lane in lanes.items():
        say(f"{name:5}|{''.join(lane)}|")
    say(f"{'':5} {'':{middle}}^ SIGKILL")
    say("waits: .   owns and appends: =   owns and rewrites: #   killed: X")


def say_recovery(run: Run) -> None:
    headline("  How the killed owner's lock was recovered")
    say(f"While {VICTIM} (process {run.victim}) owned the lock, the directory held:")
    say(run.listing, 6)
    if run.owner:
        alive = {True: "alive", False: "dead", None: "perhaps alive"}[run.owner.alive]
        say(f"owner() said: host {run.owner.hostname}, process {run.owner.pid}, {alive}.")
    successor = run.successor()
    if successor:
        waited = (successor.entered - run.killed_at) / 1e6
        say(f"   0.00 ms  SIGKILL: {VICTIM} leaves its lock behind, and half a record in the file.")
        say(
            f"{waited:7.2f} ms  {successor.name} has proven the owner dead, removed its lock, owns;"
        )
        say(f"            it cuts off the half record ({successor.cut_off} bytes) and goes on.")


def say_hand_offs(run: Run) -> None:
    times = sorted(run.hand_offs())
    if not times:
        return
    headline(f"  Hand-offs to a waiting process ({len(times)} of the {len(run.turns)} turns)")
    p99 = times[math.ceil(len(times) * 0.99) - 1]
    say(f"median {statistics.median(times):.3f} ms   p99 {p99:.3f} ms   max {times[-1]:.3f} ms\n\n")
    bounds = [0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5, math.inf]
    for low, high in itertools.pairwise(bounds):
        count = sum(low <= value < high for value in times)
        if low <= times[-1] and high > times[0]:
            label = f"from {low:.2f} ms" if high == math.inf else f"{low:.2f} to {high:.2f} ms"
            say(f"{label:>15}  {count:3}  {'#' * math.ceil(count * 54 / len(times))}")


def say_proof(checks: list[Check]) -> bool:
    headline("  Is the file whole?")
    for faults, proven, refuted in checks:
        say(f"NOT SO  {refuted}" if faults else f"proven  {proven}")
    return not any(faults for faults, _proven, _refuted in checks)


def show_lock(class_name: str, base: Path) -> bool:
    """Run with this lock, tell what happened, and say whether everything was proven."""
    headline(class_name, "=")
    result = run(class_name, base)
    say_order(result)
    say_timeline(result)
    say_recovery(result)
    say_hand_offs(result)
    return say_proof(check_ledger(result) + check_turns(result) + check_recovery(result))


def show_without_lock(base: Path) -> bool:
    """Run without a lock, tell what happened, and say whether the file is whole even so."""
    headline("The same program without a lock", "=")
    result = run("NoLock", base)
    say_order(result)
    say_timeline(result)
    return say_proof(check_ledger(result) + check_turns(result))


def show_control(base: Path) -> bool:
    """Run without a lock, and say whether the examination of the ledger finds that out."""
    headline("Could the proof have failed? The same program without a lock", "=")
    found = [refuted for faults, _proven, refuted in check_ledger(run("NoLock", base)) if faults]
    print()
    for refuted in found:
        say(f"found   {refuted}")
    if not found:
        say("NOT SO  the file was whole even without a lock")
    return bool(found)


def main() -> int:
    parser = argparse.ArgumentParser(description="Processes write one file, and one is killed.")
    parser.add_argument("lock_class", nargs="*", help="classes to show (default: all there are)")
    parser.add_argument("--without-lock", action="store_true", help="use no lock, and fail")
    arguments = parser.parse_args()
    known = [name for name in LOCK_CLASSES if hasattr(lockfile, name)]
    unknown = [name for name in arguments.lock_class if name not in known]
    if unknown:
        parser.error(f"no such lock class: {', '.join(unknown)}; there are {', '.join(known)}")

    print(f"{', '.join(NAMES)}: {len(NAMES)} processes that write one file, {TURNS} turns each.")
    print(
        f"In its turn {FATAL_TURN}, {VICTIM} is killed (SIGKILL) while it owns the lock, with half"
    )
    print("a record written. The others go on.")
    # Windows removes no database that this process has open since it has looked at a row.
    on_windows = sys.platform == "win32"
    made = tempfile.TemporaryDirectory(prefix="lockfile-demo-", ignore_cleanup_errors=on_windows)
    with made as name:
        base = Path(os.path.realpath(name))
        try:
            if arguments.without_lock:
                proven = show_without_lock(base / "none")
            else:
                classes = arguments.lock_class or known
                shown = [show_lock(each, base / each) for each in classes]
                # Without a lock, Windows refuses what they do at once, and so ends them too soon.
                proven = all(shown) and (on_windows or show_control(base / "none"))
        except NotProven as reason:
            say(f"NOT SO  {reason}")
            proven = False
    print("\nEverything was proven." if proven else "\nNOT everything was proven.")
    return 0 if proven else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(*sys.argv[2:])
    else:
        sys.exit(main())
