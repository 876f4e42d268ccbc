"""Machines that share a network file system, as preloaded/network.c plays it."""

import contextlib
import ctypes
import fcntl
import os
import textwrap
import uuid

import support

USES = 4 << 20  # how much of its past a machine remembers, in bytes
AT_WORKING_DIRECTORY = -100


class Machine:
    """A kernel of its own, with a boot identity and kernel locks that others do not see."""

    def __init__(self, network, number, flock, lag, repeated):
        memory = network.scratch / f"memory-{number}"
        memory.touch()
        os.truncate(memory, USES)
        boot = network.scratch / f"boot-{number}"
        boot.write_text(f"{uuid.UUID(int=number)}\n")
        self._environment = {
            "LD_PRELOAD": support.also_preloaded(network.library),
            "NFS_LIBRARY": str(network.library),
            "NFS_ROOT": str(network.root),
            "NFS_MACHINE": str(number),
            "NFS_BOOT_ID": str(boot),
            "NFS_MEMORY": str(memory),
            "NFS_FLOCK": str(flock),
            "NFS_LAG": str(lag),
            "NFS_REPEATED": str(repeated),
        }

    @contextlib.contextmanager
    def running(self):
        """What is started meanwhile runs on this machine."""
        before = os.environ.copy()
        os.environ.update(self._environment)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    def child(self, code, *arguments):
        prelude = "from support.network import *\n"
        with self.running():
            return support.Child(prelude + textwrap.dedent(code), *arguments)

    def holder(self, lock_class, path):
        with self.running():
            return support.holder(lock_class, path)


class Network:
    """A directory that several machines have mounted."""

    def __init__(self, library, directory):
        self.library = library
        self.root = directory / "network"
        self.scratch = directory / "machines"
        self.root.mkdir()
        self.scratch.mkdir()
        self.path = str(self.root / "README")

    def machine(self, number, flock="machine", lag=0, repeated=0):
        return Machine(self, number, flock, lag, repeated)

    def names(self):
        """What is there once each machine has let go of what nobody has open any more."""
        library = ctypes.CDLL(str(self.library))
        for where, _, _ in os.walk(self.root):
            library.let_go(AT_WORKING_DIRECTORY, os.fsencode(where))
        return support.names(self.root)


# For use inside a child.


def manner(name):
    """[how often it is still to be shown, in percent otherwise, how often it was shown]"""
    return (ctypes.c_int * 3).in_dll(ctypes.CDLL(os.environ["NFS_LIBRARY"]), name)


def show(name, times):
    """Have the next calls of a kind show these manners."""
    manner(name)[0] = times


def shown(name):
    """How often it has been shown."""
    return manner(name)[2]


def looked_at(path):
    """Have this machine remember what it has just seen at a path."""
    with directory_of(path) as directory:
        status = ctypes.create_string_buffer(256)
        not_following = 0x100
        name = os.fsencode(os.path.basename(path))
        ctypes.CDLL(None).fstatat(directory, name, status, not_following)


def opened(path):
    """A descriptor as a lock opens one to look, which this machine knows of."""
    with directory_of(path) as directory:
        name = os.fsencode(os.path.basename(path))
        descriptor = ctypes.CDLL(None).openat(directory, name, os.O_RDONLY)
        assert descriptor >= 0
        return descriptor


def locked_to_look(descriptor):
    """Take the beacon as one who looks does."""
    return ctypes.CDLL(None).flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB) == 0


@contextlib.contextmanager
def directory_of(path):
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY)
    yield descriptor
    os.close(descriptor)
