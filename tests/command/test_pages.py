"""What the command says of itself, and what is made from that."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lockfile._cli import statuses
from lockfile._cli.arguments import make_parser
from support.command import COMMAND, ENVIRONMENT, run

TREE = Path(__file__).resolve().parent.parent.parent
SUBCOMMANDS = ("run", "who", "wait", "break", "doctor")


@pytest.mark.parametrize("subcommand", [(), *((each,) for each in SUBCOMMANDS)])
def test_help_fits_a_terminal_and_tells_the_statuses(subcommand):
    done = run(*subcommand, "-h", env=ENVIRONMENT | {"COLUMNS": "80"})
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert statuses.TABLE in done.stdout
    assert "%(" not in done.stdout


def test_statuses_are_told():
    values = {value for name, value in vars(statuses).items() if name.isupper() and name != "TABLE"}
    told = {int(each) for each in re.findall(r"^  (\d+)", statuses.TABLE, re.MULTILINE)}
    assert told == values


def test_version_is_told():
    assert re.fullmatch(r"lockfile \d+\.\d+\.\d+\n", run("--version").stdout)


def test_pages_are_made_from_it(tmp_path):
    """`make command-pages` makes them anew."""
    pytest.importorskip("shtab")
    pytest.importorskip("argparse_manpage")
    subprocess.run([sys.executable, TREE / "tools" / "command_pages.py", tmp_path], check=True)
    made = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert len(made) == 3
    for path in made:
        assert (TREE / path).read_text() == (tmp_path / path).read_text(), path


@pytest.mark.skipif(not shutil.which("groff"), reason="there is no groff")
def test_manual_page_is_without_fault():
    page = TREE / "share" / "man" / "man1" / "lockfile-py.1"
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z", page], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_completion_of_bash():
    script = TREE / "share" / "bash-completion" / "completions" / "lockfile-py"
    code = f"""
    . '{script}'
    COMP_WORDS=(lockfile-py run --on); COMP_CWORD=2
    _shtab_lockfile_py lockfile-py --on run
    echo "${{COMPREPLY[@]}}"
    COMP_WORDS=(lockfile-py ''); COMP_CWORD=1
    _shtab_lockfile_py lockfile-py '' lockfile-py
    echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    option, subcommands = done.stdout.splitlines()
    assert option.strip() == "--on-lost"
    assert set(SUBCOMMANDS) <= set(subcommands.split())


def test_the_package_does_not_import_the_command():
    code = "import lockfile, sys; print(*(set(sys.modules) & {'argparse', 'lockfile._cli'}))"
    done = subprocess.run(
        [COMMAND[0], "-S", "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "\n"


def test_reader_who_has_enough_is_no_failure_to_tell_of(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    command = [*COMMAND, "who", "README"]
    done = subprocess.run(
        command, env=ENVIRONMENT, cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_every_subcommand_is_described():
    (action,) = (each for each in make_parser()._actions if each.choices)
    assert tuple(action.choices) == SUBCOMMANDS
