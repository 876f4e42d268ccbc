"""The command lockfile-py, which is python -m lockfile, too. Nothing of it is imported by the
package: what a subcommand needs, is imported when that is called."""

import argparse
import sys
from importlib import import_module
from types import ModuleType

from lockfile import Error
from lockfile._cli import output, statuses
from lockfile._cli.arguments import parse
from lockfile._cli.locks import UsageError
from lockfile._cli.signals import Signalled, die_of, leave_to_the_system, raising


def main(arguments: list[str] | None = None) -> int:
    """Run the command, and give the status to end with."""
    output.prepare()
    leave_to_the_system()
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
    finally:
        output.flush()  # -h, and the like
    # Before signals raise: the import system swallows what is raised in its callbacks.
    module = import_module(f"lockfile._cli.{_module_for_this_system(options.module)}")
    if options.module == "who":
        return _call(module, options)  # it owns nothing: signals may end it wherever it is
    try:
        with raising():
            return _call(module, options)
    except Signalled as signalled:
        die_of(signalled.number)


def _module_for_this_system(name: str) -> str:
    return "run_on_windows" if name == "run" and sys.platform == "win32" else name


def _call(module: ModuleType, options: argparse.Namespace) -> int:
    try:
        status: int = module.main(options)
        return status
    except UsageError as error:
        output.say(str(error))
        return statuses.USAGE
    except (Error, OSError) as error:
        output.say(output.explain(error))
        return statuses.CANNOT
