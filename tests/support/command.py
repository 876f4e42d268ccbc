"""The command: as a child process, and on a terminal of its own."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import lockfile
from support import PATIENCE, TESTS
from support.lock_classes import CLASS_NAMES  # noqa: F401  (who tests the command, asks here)

COMMAND = [sys.executable, "-m", "lockfile"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(lockfile.__file__).parent.parent)}

# A command that says what it is told, and what signals it gets, and ends when it hears "end".
TALKER = """
import os, signal, sys
def tell(number, frame):
    os.write(1, f"{signal.Signals(number).name}\\n".encode())
for each in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGRTMIN):
    signal.signal(each, tell)
os.write(1, b"begun\\n")
while (line := os.read(0, 100)) and line != b"end\\n":
    pass
sys.exit(7)
"""
TALKING = [sys.executable, "-c", TALKER]

# A command that does not end by SIGTERM alone.
STUBBORN = "import signal; signal.signal(15, signal.SIG_IGN); print('begun', flush=True)"
STUBBORN = [sys.executable, "-c", f"{STUBBORN}; signal.pause()"]


def run(*arguments, **keywords):
    """Run lockfile-py to its end: its status, and what it has written."""
    keywords = {"stdin": subprocess.DEVNULL, "env": ENVIRONMENT, "timeout": PATIENCE} | keywords
    return subprocess.run(
        [*COMMAND, *map(os.fspath, arguments)], capture_output=True, text=True, **keywords
    )


class Started:
    """lockfile-py, while it runs; `with` kills it, and what it runs, if they still do."""

    def __init__(self, *arguments, **keywords):
        keywords = {"env": ENVIRONMENT, "start_new_session": True} | keywords
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        command = [*COMMAND, *map(os.fspath, arguments)]
        self.process = subprocess.Popen(command, text=True, **pipes | keywords)
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # all of them have ended
        self.process.wait(PATIENCE)
        for file in (self.process.stdin, self.process.stdout, self.process.stderr):
            if file is not None:
                file.close()

    def hear(self):
        """The next line of its output."""
        return self.process.stdout.readline().rstrip("\n")

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def send(self, number):
        self.process.send_signal(number)

    def status(self):
        """Its status, once it has ended."""
        return self.process.wait(PATIENCE)

    def complaint(self):
        """What it has written to its standard error until its end."""
        return self.process.stderr.read()


class Terminal:
    """lockfile-py on a terminal of its own, whose session it leads."""

    def __init__(self, *arguments, columns=80, rows=24, **keywords):
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        begin = [sys.executable, str(TESTS / "support" / "on_terminal.py")]
        self.process = subprocess.Popen(
            [*begin, *COMMAND, *map(os.fspath, arguments)],
            env=ENVIRONMENT,
            **dict.fromkeys(("stdin", "stdout", "stderr"), slave),
            start_new_session=True,
            **keywords,
        )
        os.close(slave)
        self.pid = self.process.pid
        self.shown = ""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(PATIENCE)
        self.close()

    def close(self):
        """Hang up."""
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def type(self, text):
        os.write(self._master, text.encode())

    def see(self, text, count=1):
        """Return when that was shown so often; all that was shown since the beginning."""
        deadline = time.monotonic() + PATIENCE
        while self.shown.count(text) < count:
            assert time.monotonic() < deadline, f"{text!r} is not shown: {self.shown!r}"
            assert self._read(0.1) is not None, f"{text!r} was not shown: {self.shown!r}"
        return self.shown

    def _read(self, seconds):
        """None: nobody has the terminal open any more."""
        if not select.select([self._master], [], [], seconds)[0]:
            return ""
        try:
            text = os.read(self._master, 10_000).decode()
        except OSError:
            return None
        self.shown += text
        return text

    def status(self):
        """Its status, once it has ended; all that it has shown is read."""
        while self._read(0.1) is not None:
            pass
        return self.process.wait(PATIENCE)
