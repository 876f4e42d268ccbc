"""The command lockfile-py, which is python -m lockfile, too. Nothing of it is imported by the
package: what a subcommand needs, is imported when that is called."""

import argparse
import os
import sys
from importlib import import_module

from lockfile import Error
from lockfile._cli import statuses
from lockfile._cli.arguments import parse
from lockfile._cli.locks import UsageError
from lockfile._cli.signals import Signalled, die_of, raising


def main(arguments: list[str] | None = None) -> int:
    """Run the command, and give the status to end with."""
    try:
        with raising():
            options = parse(sys.argv[1:] if arguments is None else arguments)
            status = _call(options)
            sys.stdout.flush()
            return status
    except Signalled as signalled:
        die_of(signalled.number)
    except BrokenPipeError:
        # Whoever read has enough: that is no failure, and the interpreter's end is not to say so.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return statuses.NO


def _call(options: argparse.Namespace) -> int:
    system = f"{options.module}_on_windows" if sys.platform == "win32" else options.module
    module = system if options.module == "run" else options.module
    try:
        status: int = import_module(f"lockfile._cli.{module}").main(options)
        return status
    except UsageError as error:
        say(str(error))
        return statuses.USAGE
    except Error as error:
        say(str(error))
        return statuses.CANNOT


def say(message: str) -> None:
    """Tell the user, who may have closed that end."""
    try:
        print(f"lockfile-py: {message}", file=sys.stderr, flush=True)
    except OSError:
        pass
