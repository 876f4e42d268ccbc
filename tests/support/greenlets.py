"""Processes whose threading is patched, by gevent or by eventlet."""

import contextlib
import os

import pytest

from support import Child

GEVENT = (
    "import gevent, gevent.monkey; gevent.monkey.patch_all(); "
    "let_others_run = lambda: gevent.sleep(0); "
    "run = lambda *all: gevent.joinall([gevent.spawn(each) for each in all], raise_error=True)"
)
# It can let nobody else run while one of its greenlets waits for a lock.
GEVENT_WITHOUT_SELECT = GEVENT.replace("patch_all()", "patch_all(select=False)")
EVENTLET = (
    "import warnings; warnings.simplefilter('ignore'); "
    "import eventlet; eventlet.monkey_patch(); "
    "let_others_run = lambda: eventlet.sleep(0); "
    "run = lambda *all: [each.wait() for each in [eventlet.spawn(each) for each in all]]"
)

each_package = pytest.mark.parametrize("patch", [GEVENT, EVENTLET], ids=["gevent", "eventlet"])

# What the code finds: run(), of functions in greenlets of their own, and let_others_run().
PROLOGUE = """\
try:
    {patch}
except ImportError:
    say("absent")
    raise SystemExit
say("patched")
lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
"""


@contextlib.contextmanager
def greenlets(patch, code, lock_class, path):
    """A child that runs the code with such a lock; it must end well."""
    if "libasan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("greenlets move what is on the stack")
    with Child(code, lock_class.__name__, path, before=PROLOGUE.format(patch=patch)) as child:
        if child.hear() == "absent":
            pytest.skip("the package is not installed")
        yield child
        child.finish()
