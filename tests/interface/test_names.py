"""The names that programs import, as the classic package has them."""

import importlib
import importlib.metadata
import subprocess
import sys

import pytest

import lockfile

SUBMODULES = {
    "linklockfile": ("LinkLockFile", lockfile.LinkFileLock),
    "mkdirlockfile": ("MkdirLockFile", lockfile.MkdirFileLock),
    "sqlitelockfile": ("SQLiteLockFile", lockfile.SQLiteFileLock),
    "symlinklockfile": ("SymlinkLockFile", lockfile.SymlinkLockFile),
}
PID_NAMES = [
    *("PIDLockFile", "read_pid_from_pidfile"),
    *("write_pid_to_pidfile", "remove_existing_pidfile"),
]
HANDED_ON = [
    *("LockBase", "Error", "LockError", "LockTimeout", "AlreadyLocked", "LockFailed"),
    *("UnlockError", "NotLocked", "NotMyLock"),
]


@pytest.mark.parametrize("submodule", SUBMODULES)
def test_submodules_have_the_class_under_its_other_name(submodule):
    name, lock_class = SUBMODULES[submodule]
    module = importlib.import_module(f"lockfile.{submodule}")
    assert getattr(module, name) is lock_class
    assert module.__doc__


@pytest.mark.parametrize("submodule", [*SUBMODULES, "pidlockfile"])
def test_submodules_hand_on_the_base_and_the_exceptions(submodule):
    module = importlib.import_module(f"lockfile.{submodule}")
    for name in HANDED_ON:
        assert getattr(module, name) is getattr(lockfile, name)
    own = [SUBMODULES[submodule][0]] if submodule in SUBMODULES else PID_NAMES
    assert sorted(module.__all__) == sorted([*HANDED_ON, *own])


def run(code):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def test_linklockfile_is_there_after_a_plain_import():
    code = "import lockfile; print(lockfile.linklockfile.LinkLockFile is lockfile.LinkFileLock)"
    assert run(code) == ["True"]


@pytest.mark.parametrize("submodule", SUBMODULES)
def test_submodules_can_be_imported_first(submodule):
    name = SUBMODULES[submodule][0]
    code = f"from lockfile.{submodule} import {name}, LockFailed; print({name}.__module__)"
    assert run(code) == ["lockfile"]


def test_import_imports_no_module_that_takes_long():
    """Nothing that Python has not imported by itself, or that a decorator alone needs. What
    owner() needs is there: a signal's handler that raises in an import may stop others for ever.
    """
    code = """
    import sys
    before = set(sys.modules)
    import lockfile
    print(*set(sys.modules) - before)
    """
    brought = run("\n".join(line.strip() for line in code.splitlines()))
    ours = ["_all_of", "_command", "_lockfile", "linklockfile"]
    small = {"__future__", "errno"}  # which what is installed beside us may have imported before
    assert set(brought) - small == {"lockfile", *(f"lockfile.{module}" for module in ours)}


def test_version():
    assert lockfile.__version__ == importlib.metadata.version("lockfile")
    assert lockfile.__version__ == "1.0.0"


def test_classic_names_of_the_package_are_public():
    classic = [*HANDED_ON[1:], "LinkFileLock", "MkdirFileLock", "SQLiteFileLock", "LockBase"]
    assert {*classic, "locked"} <= set(lockfile.__all__)


def test_factories_of_the_classic_package_are_classes():
    for name in ("LinkFileLock", "MkdirFileLock", "SQLiteFileLock"):
        assert issubclass(getattr(lockfile, name), lockfile.LockBase)
