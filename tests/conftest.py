import functools
import gc
import os
import shutil
import signal
import tempfile
from pathlib import Path

import hypothesis
import pytest

import support
from support import paused, portable, windows
from support.leftovers import descriptors, left_behind
from support.lock_classes import (
    FILE_LOCK_CLASSES,
    LOCK_CLASSES,
    SHARED_CLASSES,
    can_be_shared,
)

# An example may take long, and so may making one: the machine has other things to do.
hypothesis.settings.register_profile(
    "calm", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("calm")


def pytest_addoption(parser):
    parser.addoption(
        "--paused", action="store_true", help="pause after each start, word and answer of a child"
    )


def pytest_configure(config):
    """Under nohup, or behind a shell's &, some signals are ignored, and so by all that we start."""
    hang_up = getattr(signal, "SIGHUP", signal.SIGTERM)
    for number, usual in {
        hang_up: signal.SIG_DFL,
        signal.SIGINT: signal.default_int_handler,
    }.items():
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)
    if config.getoption("--paused"):
        paused.begin()
    config.addinivalue_line(
        "markers", "leaves_files: this test leaves locks or unique files behind"
    )


def pytest_pycollect_makemodule(module_path, parent):
    if support.IS_WINDOWS and windows.reason_to_skip(module_path):
        return windows.SkippedModule.from_parent(parent, path=module_path)
    return None


def pytest_collection_modifyitems(items):
    """What cannot be had in the build that is tested is skipped there, and says why."""
    if support.IS_WINDOWS:
        windows.skip_tests(items)
    if support.PORTABLE:
        portable.skip_tests(items)


def pytest_collection_finish():
    """From now on a garbage collection looks at what tests make, not at the tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=LOCK_CLASSES, ids=lambda lock_class: lock_class.__name__)
def lock_class(request):
    """Every class: a test that asks for it runs once with each."""
    return request.param


@pytest.fixture(params=FILE_LOCK_CLASSES, ids=lambda lock_class: lock_class.__name__)
def file_lock_class(request):
    """The mechanisms whose lock file is a file or a directory: for tests of just that."""
    return request.param


@pytest.fixture(params=SHARED_CLASSES, ids=lambda lock_class: lock_class.__name__)
def shared_class(request):
    """The classes whose locks many readers may share."""
    if not can_be_shared(request.param):
        pytest.skip("no beacon can be shared on this system")
    return request.param


@pytest.fixture
def path(tmp_path):
    """A fresh path that nobody has locked; there is no such file."""
    return str(tmp_path / "README")


@pytest.fixture
def lock(lock_class, path):
    """A lock of each class; modules that are about one class have one of that class."""
    return lock_class(path)


@pytest.fixture
def public_directory(request):
    """A fresh directory that every user may use."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o777)
    yield directory
    left = left_behind(directory)
    shutil.rmtree(directory)
    assert not left or request.node.get_closest_marker("leaves_files"), "a file is left"


@pytest.fixture
def other_user():
    """The number of a user who is not us."""
    if support.USER != 0:
        pytest.skip("only root can become another user")
    return support.ORDINARY_USER


@pytest.fixture
def refusals():
    """For tests in which the kernel refuses system calls (`in_thread(..., refused={...})`)."""
    if not support.REFUSABLE:
        pytest.skip("the numbers of this machine's system calls are not known")
    try:
        support.in_thread(os.getpid, refused={"flock": 1})
    except OSError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def preloadable(tmp_path_factory):
    """Where a library of support/preloaded is, once it has been compiled."""
    if support.IS_WINDOWS:
        pytest.skip("no library can be put in front of the system's")
    directory = tmp_path_factory.mktemp("preloaded")

    @functools.cache
    def build(name):
        try:
            return str(support.compiled(directory, name))
        except OSError as error:
            pytest.skip(f"no C compiler: {error}")

    return build


@pytest.fixture
def clock(preloadable, monkeypatch):
    """Children may stop their clock: `clock().stop_clock(None)`; see preloaded/clock.c."""
    library = preloadable("clock.c")
    monkeypatch.setenv("LD_PRELOAD", support.also_preloaded(library))
    monkeypatch.setenv("LOCKFILE_CLOCK", library)


@pytest.fixture
def no_second_look(clock, monkeypatch):
    """In children, who sleeps through a change that it should be told of sleeps for ever."""
    monkeypatch.setenv("LOCKFILE_LONG_SLEEP", "1")


@pytest.fixture(autouse=True)
def nothing_is_left(request, tmp_path):
    """A test leaves no descriptor open, no lock held and no unique file."""
    before = descriptors()
    yield
    if not descriptors() <= before:
        gc.collect()
        assert descriptors() <= before, "a descriptor is left"
    if not request.node.get_closest_marker("leaves_files"):
        assert not left_behind(tmp_path), "a file is left"
