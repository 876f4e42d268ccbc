"""Make the manual page and the completions of lockfile-py, from what the command says of itself.

usage: command_pages.py [DIRECTORY]
"""

import argparse
import re
import sys
from pathlib import Path

import shtab
from argparse_manpage.manpage import Manpage

from lockfile import __version__
from lockfile._cli.arguments import PROGRAM, SUMMARY, make_parser
from lockfile._cli.statuses import TABLE

TREE = Path(__file__).resolve().parent.parent
FILES = {"--lock-file", "--database"}
PATHS = {"path", "paths"}


def parsers_below(parser):
    """The parser of each subcommand, with the line that tells what it is for."""
    (action,) = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    summaries = {choice.dest: choice.help for choice in action._choices_actions}
    return [(each, summaries[name]) for name, each in action.choices.items()]


def manual():
    """In the language of man."""
    parser = make_parser()
    parser.epilog = None  # the exit statuses have a section of their own
    page = Manpage(
        parser,
        format="single-commands-section",
        _data={
            "prog": PROGRAM,
            "version": __version__,
            "description": SUMMARY,
            "project_name": "lockfile",
            "manual_title": "User Commands",
        },
    )
    text = re.sub(r'^(\.TH \S+ "1") "[^"]*"', r'\1 ""', str(page), count=1, flags=re.MULTILINE)
    table = TABLE.replace("\\", "\\e").replace("-", "\\-")
    return f"{text.rstrip()}\n\n.SH EXIT STATUS\n.nf\n{table}.fi\n"


def completion(shell):
    """In the language of that shell."""
    parser = make_parser()
    for subparser, summary in parsers_below(parser):
        subparser.description = summary  # one line beside its name
        for action in subparser._actions:
            if action.dest in PATHS or FILES.intersection(action.option_strings):
                action.complete = shtab.FILE
    return shtab.complete(parser, shell)


def pages():
    """The text of each file, by its path."""
    return {
        f"share/man/man1/{PROGRAM}.1": manual(),
        f"share/bash-completion/completions/{PROGRAM}": completion("bash"),
        f"share/zsh/site-functions/_{PROGRAM}": completion("zsh"),
    }


def main():
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else TREE
    for name, text in pages().items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
