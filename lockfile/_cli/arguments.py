"""The arguments, and all that the command says of itself: -h, the manual page and the completions
are made from this."""

import argparse
import math
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, NoReturn

from lockfile import __version__
from lockfile._cli.locks import CLASSES
from lockfile._cli.statuses import HELD, TABLE, USAGE

PROGRAM = "lockfile-py"

SUMMARY = "run a command while a lock is held, and see, await and break locks"

DESCRIPTION = """\
Locks on paths, as the Python package lockfile has them: programs that use it, and this command,
exclude each other. A lock on README is the lock file README.lock, unless --lock-file names another.
It is advisory: only who asks for the same lock file is kept out. A lock whose owner has died is
recovered by whoever wants it next.

"lockfile-py SUBCOMMAND -h" tells more of each. "python -m lockfile" is the same command."""

STATUSES = f"""\
exit status:
{TABLE}"""

RUN = """\
Wait until nobody else holds the lock on PATH, run COMMAND while it is held, release it, and end
with the command's status; 128+N, if signal N has ended it. The command is found as a shell finds
it; there is no shell in between. PATH need not exist, but its directory must.

A signal that would end lockfile-py is passed on to the command instead, and the lock is held until
the command has ended, whenever that is. What a terminal sends (Ctrl-C) goes to both of them anyway,
and is not passed on once more. If lockfile-py itself is killed outright (SIGKILL), the command goes
on, and keeps the lock until it ends: it has inherited a descriptor that means the lock. So have the
processes that it starts, unless it closes that for them; then they keep the lock, too. A command
that closes it for itself (sudo does) does not keep the lock.

What the command leaves running does not keep the lock, once the command itself has ended: in the
background, or because a signal has ended the command alone. A shell that runs one program should
"exec" it, so that it is the command.

If somebody breaks the lock, or removes its lock file, while the command runs, others may get in.
That is seen at once where the kernel tells of it, else within a second; then the command is sent
SIGTERM, and SIGKILL after some seconds, and the status is 76. With --on-lost=warn it is only told
of."""

RUN_ON_WINDOWS = """\
Wait until nobody else holds the lock on PATH, run COMMAND while it is held, release it, and end
with the command's status. PATH need not exist, but its directory must.

Ctrl-C is the command's, which the console tells of it as well; the lock is held until the command
has ended, whenever that is. No other process can inherit the lock: if lockfile-py itself is killed,
the command ends with it, and so does what it has started. What it leaves running at its own end
goes on, and does not keep the lock.

If somebody breaks the lock, or removes its lock file, while the command runs, others may get in.
That is seen within a second; then the command is ended, and the status is 76. With --on-lost=warn
it is only told of."""

WHO = """\
Tell who holds the locks on these paths; of a directory, all locks of this package in it. For each
lock: the host and the process (and the thread) of its owner, whether that lives, as far as this
machine can tell, since when it holds the lock, how many wait for it, and what runs there. What
nobody can tell is a "-".

Nothing is changed by this. The status is 0 if one of the locks is held, else 1; but 73 if one of
them, or the directory, could not be looked at. The others are told of all the same."""

WAIT = """\
Wait until nobody holds the lock on PATH. It is not acquired: somebody else may have it again by the
time that you look. To do something while it is held, use "run"."""

BREAK = """\
Remove the lock on PATH, whoever holds it: for locks whose owner nobody can prove dead, such as
those of a machine that is gone. A live owner is not told before it releases: to break its lock lets
two in.

On a terminal it tells who holds the lock, and asks. What is broken is the lock that was told of: if
another has taken its place by the time that you answer, nothing is. A lock whose owner is proven
dead is removed without a question."""

DOCTOR = """\
Try out what can be done beside PATH, by the very calls that locks are made by: hard links, renames
that replace nothing, kernel locks, and whether those that should be refused are granted; events;
who else may use the file system, and the directory; the locks of databases. Then tell which class
of lock to use there, and what to expect of it. All is done in a directory of its own, which is
removed again.

The status is 0 if a lock works there, else 1."""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Descriptions have paragraphs, which are filled; what is indented stays as it is."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = [
            part if "\n  " in part else textwrap.fill(part, width, break_on_hyphens=False)
            for part in text.strip().split("\n\n")
        ]
        return textwrap.indent("\n\n".join(paragraphs), indent)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, as every other message; the usage is long."""
        self.exit(USAGE, f"{self.prog}: {message} (-h tells more)\n")


def _seconds(text: str) -> float:
    seconds = float(text)
    if math.isnan(seconds) or seconds < 0:
        raise ValueError
    return seconds


def _status(text: str) -> int:
    status = int(text)
    if not 0 <= status <= 255:
        raise ValueError
    return status


_seconds.__name__ = "number of seconds"
_status.__name__ = "exit status"


def _add_lock_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("which lock")
    group.add_argument(
        "--lock-file", metavar="FILE", help="the lock file's own name, instead of PATH.lock"
    )
    group.add_argument(
        "--class",
        dest="lock_class",
        choices=list(CLASSES),
        help="what the lock is made of: a hard link (the default), a directory, a symbolic link, "
        "a PID file at PATH itself, or a row in a database",
    )
    group.add_argument(
        "--database",
        metavar="FILE",
        help="where a lock of --class sqlite is, instead of .lockfile.sqlite3 beside the lock file",
    )


def _add_wait_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how long to wait").add_mutually_exclusive_group()
    group.add_argument(
        "-w", "--wait", type=_seconds, metavar="SECONDS", help="so long, instead of for ever"
    )
    group.add_argument("-n", "--no-wait", action="store_true", help="not at all, as --wait=0 does")


def _make_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="what to lock")
    parser.add_argument(
        "command", metavar="COMMAND", nargs="*", help="what to run, and its arguments, behind --"
    )
    _add_wait_options(parser)
    parser.add_argument(
        "-E",
        "--conflict-status",
        type=_status,
        default=HELD,
        metavar="STATUS",
        help="the exit status if somebody else holds the lock all the time (default: %(default)s)",
    )
    parser.add_argument(
        "-s", "--shared", action="store_true", help="together with others that share it, too"
    )
    parser.add_argument(
        "--on-lost",
        choices=["kill", "warn"],
        default="kill",
        help="what to do if the lock is lost while the command runs: end it, or only say so "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "-k",
        "--kill-after",
        type=_seconds,
        default=5.0,
        metavar="SECONDS",
        help="how long a command that has lost the lock may take to end, before it is sent "
        "SIGKILL (default: 5)",
    )
    _add_lock_options(parser)


def _make_who(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", metavar="PATH", nargs="+", help="what is locked, or a directory")
    _add_json(parser)
    _add_lock_options(parser)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs: JSON, not a table")


def _make_wait(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="what is locked")
    _add_wait_options(parser)
    _add_lock_options(parser)


def _make_break(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="what is locked")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    _add_lock_options(parser)


def _make_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="what is to be locked; it need not exist")
    parser.add_argument(
        "--lock-file", metavar="FILE", help="the lock file's own name, instead of PATH.lock"
    )
    _add_json(parser)


_RUN_HERE = RUN_ON_WINDOWS if sys.platform == "win32" else RUN

# Of each subcommand: the module that does it, what it says of itself, and its arguments.
_SUBCOMMANDS = (
    ("run", "run", "run a command while a lock is held", _RUN_HERE, _make_run),
    ("who", "who", "tell who holds locks", WHO, _make_who),
    ("wait", "waiting", "wait until nobody holds a lock", WAIT, _make_wait),
    ("break", "breaking", "remove a lock, whoever holds it", BREAK, _make_break),
    ("doctor", "doctor", "tell which lock works at a place", DOCTOR, _make_doctor),
)

_WHAT_FOLLOWS = {"run": "PATH -- COMMAND [ARGUMENT...]", "who": "PATH..."}

_COMMON: dict[str, Any] = {"formatter_class": _Formatter, "allow_abbrev": False}


def make_parser() -> argparse.ArgumentParser:
    """All of it."""
    parser = _Parser(
        prog=PROGRAM,
        usage="%(prog)s SUBCOMMAND [OPTION...] PATH...",
        description=DESCRIPTION,
        epilog=STATUSES,
        **_COMMON,
    )
    parser.add_argument("--version", action="version", version=f"lockfile {__version__}")
    subcommands = parser.add_subparsers(
        title="subcommands",
        metavar="SUBCOMMAND",
        required=True,
        parser_class=_Parser,
        prog=PROGRAM,
    )
    for name, module, summary, description, fill in _SUBCOMMANDS:
        subparser = subcommands.add_parser(
            name,
            help=summary,
            description=description,
            usage=f"%(prog)s [OPTION...] {_WHAT_FOLLOWS.get(name, 'PATH')}",
            epilog=STATUSES,
            **_COMMON,
        )
        subparser.set_defaults(module=module, parser=subparser)
        fill(subparser)
    return parser


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """What the user has said. What is wrong with it, is told, and SystemExit."""
    head, command = list(arguments), None
    if head[:1] == ["run"] and "--" in head:
        # What is behind it is the command's, and nothing of ours, whatever it looks like.
        cut = head.index("--")
        head, command = head[:cut], head[cut + 1 :]
    options = make_parser().parse_args(head)
    if options.module == "run" and not (command and not options.command):
        options.parser.error("the command is missing: PATH -- COMMAND")
    options.command = command
    return options
