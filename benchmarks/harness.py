"""What the measurements share: helper processes, directories, samples, and what is made of them."""

import json
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from contestants import Contestant

HERE = Path(__file__).parent
PATIENCE = 60.0  # seconds for one answer of a helper process, so that nothing ever hangs


class Refused(Exception):
    """A contestant did not do what was measured; the reason stands where its figure would."""


@dataclass
class Settings:
    """What is measured, where, and how thoroughly."""

    contestants: list[Contestant]
    bare: Path
    directories: dict[str, Path]
    quick: bool
    peers_python: Path | None = None

    @property
    def fastest(self) -> Path:
        """A directory where the file system costs least, for what does not depend on it."""
        return next(iter(self.directories.values()))

    @property
    def ours(self) -> list[Contestant]:
        return [contestant for contestant in self.contestants if contestant.ours]

    @property
    def waiting(self) -> list[Contestant]:
        return [contestant for contestant in self.contestants if contestant.waits]

    def choose(self, thorough: int, quick: int) -> int:
        return quick if self.quick else thorough

    def interpreter(self, contestant: Contestant) -> Path:
        python = self.peers_python if contestant.peer else Path(sys.executable)
        assert python
        return python

    def worker(self, role: str, contestant: Contestant, path: Path, *words: object) -> list[object]:
        """The command of a helper process."""
        program = [self.interpreter(contestant), HERE / "worker.py"]
        return [*program, role, contestant.name, path, *map(json.dumps, words)]


@dataclass
class Row:
    """One line of the table: `met` says whether the figure reaches its target."""

    what: str
    figure: str
    target: str = ""
    met: bool | None = None

    @property
    def verdict(self) -> str:
        return {True: "met", False: "MISSED", None: ""}[self.met]

    def __str__(self) -> str:
        return f"{self.what:58}  {self.figure:52}  {self.target:16}  {self.verdict}".rstrip()


@dataclass
class Sample:
    """What one contestant did in one round of one case; or why it has no figures there."""

    measurement: str
    case: str
    contestant: str
    round: int
    figures: dict[str, Any] = field(default_factory=dict)
    failure: str = ""


class Results:
    """All samples, and the questions that tables and plots ask."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self.samples = list(samples)

    def of(self, measurement: str, case: str, contestant: str) -> list[Sample]:
        wanted = (measurement, case, contestant)
        return [
            sample
            for sample in self.samples
            if (sample.measurement, sample.case, sample.contestant) == wanted
        ]

    def cases(self, measurement: str) -> list[str]:
        found = [sample.case for sample in self.samples if sample.measurement == measurement]
        return list(dict.fromkeys(found))

    def contestants(self, measurement: str, case: str) -> list[str]:
        """Who took part, in the order of the first round."""
        wanted = (measurement, case)
        found = [s.contestant for s in self.samples if (s.measurement, s.case) == wanted]
        return list(dict.fromkeys(found))

    def failure(self, measurement: str, case: str, contestant: str) -> str:
        """Why there are no figures: one bad round is enough."""
        failures = [sample.failure for sample in self.of(measurement, case, contestant)]
        return next((failure for failure in failures if failure), "")

    def values(self, measurement: str, case: str, contestant: str, figure: str) -> list[Any]:
        """One figure, or one list of them, a round; nothing from one who failed."""
        if self.failure(measurement, case, contestant):
            return []
        samples = self.of(measurement, case, contestant)
        return [sample.figures[figure] for sample in samples if figure in sample.figures]

    def pooled(self, measurement: str, case: str, contestant: str, figure: str) -> list[float]:
        """The lists of all rounds, in one."""
        return [
            value
            for values in self.values(measurement, case, contestant, figure)
            for value in values
        ]

    def ratios(
        self, measurement: str, case: str, figure: str, contestant: str, base: tuple[str, str]
    ) -> list[float]:
        """A figure as a multiple of the base's (a case and a contestant), within each round."""
        if self.failure(measurement, case, contestant) or self.failure(measurement, *base):
            return []
        of_base = {sample.round: sample.figures for sample in self.of(measurement, *base)}
        return [
            number(sample.figures[figure]) / number(of_base[sample.round][figure])
            for sample in self.of(measurement, case, contestant)
            if sample.figures.get(figure) and of_base.get(sample.round, {}).get(figure)
        ]


def number(figure: float | list[float]) -> float:
    """A list of figures counts as its median."""
    return statistics.median(figure) if isinstance(figure, list) else figure


class Child:
    """A helper process that answers a line with a line; its own children end with it."""

    def __init__(self, *command: Any, **environment: str) -> None:
        pipes: dict[str, Any] = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "start_new_session": True,
            "env": {**os.environ, **environment},
        }
        self.failure = ""
        self.process = subprocess.Popen([str(word) for word in command], **pipes)

    def say(self, line: str) -> None:
        assert self.process.stdin
        if self.failure:
            raise Refused(self.failure)
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def hear(self, patience: float = PATIENCE) -> str:
        assert self.process.stdout
        if not select.select([self.process.stdout], [], [], patience)[0]:
            self.fail(f"no answer within {patience:.0f} s")
        line: bytes = self.process.stdout.readline()
        if not line:
            self.fail("its process ended")
        return line.decode().rstrip("\n")

    def fail(self, reason: str) -> NoReturn:
        """Refuse this and whatever is asked later: the answers no longer fit the requests."""
        self.failure = reason
        raise Refused(reason)

    def ask(self, line: str) -> str:
        self.say(line)
        return self.hear()

    def report(self, patience: float = PATIENCE) -> Any:
        """An answer with figures in it, or with the reason for having none."""
        answer = json.loads(self.hear(patience))
        if isinstance(answer, dict) and "failure" in answer:
            self.fail(answer["failure"])
        return answer

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *exception: object) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


def report_of(
    settings: Settings,
    role: str,
    contestant: Contestant,
    *words: object,
    patience: float = PATIENCE,
) -> Any:
    """What a helper process says that does one thing in a fresh directory, and ends."""
    with tempfile.TemporaryDirectory(dir=settings.fastest) as directory:
        command = settings.worker(role, contestant, Path(directory) / "data", *words)
        with Child(*command, TMPDIR=directory) as child:
            return child.report(patience)


def rotated(contestants: list[Contestant], turn: int) -> list[Contestant]:
    middle = turn % len(contestants)
    return contestants[middle:] + contestants[:middle]


def interleaved(
    measurement: str,
    case: str,
    contestants: list[Contestant],
    rounds: int,
    run: Callable[[Contestant], dict[str, Any]],
) -> Iterator[Sample]:
    """Let each contestant run once a round, in turn; one that failed does not come again."""
    failed = set()
    for turn in range(rounds):
        for contestant in rotated(contestants, turn):
            if contestant.name in failed:
                continue
            sample = Sample(measurement, case, contestant.name, turn)
            try:
                sample.figures = run(contestant)
            except Refused as refused:
                sample.failure = str(refused)
                failed.add(contestant.name)
            yield sample


def compile_bare(directory: Path) -> Path:
    """Build the C program that makes the bare system calls."""
    program = directory / "bare"
    options = ["-std=c11", "-O2", "-Wall", "-Wextra", "-o", str(program)]
    subprocess.run([os.environ.get("CC", "cc"), *options, str(HERE / "bare.c")], check=True)
    return program


def file_system(directory: str) -> str:
    """The type of the file system that the directory is on."""
    path = os.path.realpath(directory)
    best, name = "", "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _device, mounted, kind = line.split()[:3]
        if (path + "/").startswith(mounted.rstrip("/") + "/") and len(mounted) >= len(best):
            best, name = mounted, kind
    return name


def scratch_directories(stack: ExitStack) -> dict[str, Path]:
    """A fresh directory in memory and one on a disk, by the names of their file systems."""
    directories: dict[str, Path] = {}
    in_memory = ("tmpfs", "ramfs")
    candidates = ["/dev/shm", "/var/tmp", tempfile.gettempdir(), str(HERE)]
    for wanted in (True, False):
        for parent in candidates:
            if os.access(parent, os.W_OK) and (file_system(parent) in in_memory) == wanted:
                name = stack.enter_context(
                    tempfile.TemporaryDirectory(prefix="lockfile-bench-", dir=parent)
                )
                directories[file_system(parent)] = Path(name)
                break
    return directories


def percentile(values: list[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def figure(value: float) -> str:
    """Three digits, which is more than a noisy machine can tell."""
    if value and abs(value) < 1:
        return f"{value:.3g}"
    return f"{value:,.{max(0, 3 - len(str(int(abs(value)))))}f}"


def median_and_spread(values: list[float]) -> str:
    """The median, and the quartiles around it: noisy machines have long tails on either side."""
    quartiles = (percentile(values, 25), percentile(values, 75))
    low, high = map(figure, quartiles)
    return f"{figure(statistics.median(values))} ({low} to {high})"


def p50_p99_max(values: list[float]) -> str:
    p50, p99, most = statistics.median(values), percentile(values, 99), max(values)
    return f"p50 {figure(p50)}  p99 {figure(p99)}  max {figure(most)} ms of {len(values):,}"
