"""What the measurements share: helper processes, directories, rows of the table."""

import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WORKER = [sys.executable, str(HERE / "worker.py")]
CHILD_LIFE = 300.0  # seconds after which a helper process is killed, so that nothing ever hangs


@dataclass
class Settings:
    """What is measured, where, and how thoroughly."""

    lock_class: str
    bare: Path
    directories: dict[str, Path]
    quick: bool

    @property
    def fastest(self) -> Path:
        """A directory where the file system costs least, for what does not depend on it."""
        return next(iter(self.directories.values()))

    def choose(self, thorough: int, quick: int) -> int:
        return quick if self.quick else thorough


@dataclass
class Row:
    """One line of the table: `met` says whether the figure reaches its target."""

    what: str
    figure: str
    target: str = ""
    met: bool | None = None

    def __str__(self) -> str:
        verdict = {True: "met", False: "MISSED", None: ""}[self.met]
        return f"{self.what:42}  {self.figure:48}  {self.target:16}  {verdict}".rstrip()


class Child:
    """A helper process that answers a line with a line."""

    def __init__(self, *command: Any) -> None:
        words = [str(word) for word in command]
        pipes: dict[str, Any] = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "text": True,
            "bufsize": 1,
        }
        self.process = subprocess.Popen(words, **pipes)
        self.reaper = threading.Timer(CHILD_LIFE, self.process.kill)
        self.reaper.daemon = True
        self.reaper.start()

    def say(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")

    def hear(self) -> str:
        assert self.process.stdout
        line: str = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a helper process ended: {self.process.args!r}")
        return line.rstrip("\n")

    def ask(self, line: str) -> str:
        self.say(line)
        return self.hear()

    def kill(self) -> None:
        self.reaper.cancel()
        self.process.kill()
        self.process.communicate()

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()


@contextmanager
def children(commands: Iterable[list[Any]]) -> Iterator[list[Child]]:
    """Several helper processes, each of which has said that it is ready."""
    with ExitStack() as stack:
        started = [stack.enter_context(Child(*command)) for command in commands]
        for child in started:
            child.hear()
        yield started


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


def median_and_spread(values: list[float], form: str = ".2f") -> str:
    """The median, and the quartiles around it: noisy machines have long tails on either side."""
    middle = statistics.median(values)
    return f"{middle:{form}} ({percentile(values, 25):{form}} to {percentile(values, 75):{form}})"


def p50_p99_max(milliseconds: list[float]) -> str:
    p50, p99 = statistics.median(milliseconds), percentile(milliseconds, 99)
    return f"p50 {p50:.3f}  p99 {p99:.3f}  max {max(milliseconds):.3f} ms"
