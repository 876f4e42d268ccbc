"""The lock on each file system that this machine can make and mount: as root, on loop devices."""

import contextlib
import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest

from lockfile import AlreadyLocked, LinkFileLock, LockTimeout, SQLiteFileLock
from support import PATIENCE, Child, holder, names, wait_until
from support.lock_classes import FILE_LOCK_CLASSES
from support.protocol import inotify_descriptors

MEGABYTE = 1 << 20
CANNOT_TELL = "only the machine|nothing can tell here"


def run(*command):
    subprocess.run([*map(str, command)], check=True, capture_output=True, text=True)


def on_loop_device(size, *make):
    """How to make a file system in a file of that size, and mount it."""

    def mount(work, directory):
        image = work / "image"
        image.touch()
        with image.open("r+b") as file:
            file.truncate(size)
        run(*make, image)
        run("mount", "-o", "loop", image, directory)

    return mount


def mount_tmpfs(work, directory):
    run("mount", "-t", "tmpfs", "-o", "size=8m", "none", directory)


def mount_overlay(work, directory):
    layers = {name: work / name for name in ("lowerdir", "upperdir", "workdir")}
    for layer in layers.values():
        layer.mkdir()
    options = ",".join(f"{name}={layer}" for name, layer in layers.items())
    run("mount", "-t", "overlay", "-o", options, "none", directory)


def mount_passthrough(work, directory):
    (work / "below").mkdir()
    run("bindfs", work / "below", directory)


LOCAL = {
    "ext4": on_loop_device(8 * MEGABYTE, "mkfs.ext4", "-q", "-F"),
    "xfs": on_loop_device(320 * MEGABYTE, "mkfs.xfs", "-q"),
    "btrfs": on_loop_device(128 * MEGABYTE, "mkfs.btrfs", "-q"),
    "tmpfs": mount_tmpfs,
    "overlayfs": mount_overlay,
}
FUSE = {"FUSE passthrough": mount_passthrough}


@contextlib.contextmanager
def mounted(name, mount, work):
    """A directory on that file system; the test is skipped where it cannot be had."""
    directory = work / "mounted"
    directory.mkdir()
    try:
        mount(work, directory)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", "") or error
        pytest.skip(f"{name} cannot be mounted here: {reason}")
    try:
        yield directory
    finally:
        run("umount", "--lazy", directory)


@pytest.fixture(scope="module", params=LOCAL | FUSE)
def file_system(request, tmp_path_factory):
    """(is it known to be local, a directory on it)"""
    name = request.param
    with mounted(name, (LOCAL | FUSE)[name], tmp_path_factory.mktemp("work")) as directory:
        yield name in LOCAL, directory


@pytest.fixture
def local(file_system):
    return file_system[0]


@pytest.fixture
def path(file_system):
    """A fresh path there; nothing is left beside it."""
    directory = Path(tempfile.mkdtemp(dir=file_system[1]))
    yield str(directory / "README")
    assert names(directory) == []


def waiter(lock_class, path):
    """A process that waits for the lock, and says when it owns it."""
    return Child(
        """
        lock = getattr(lockfile, sys.argv[1])(sys.argv[2])
        say("waits")
        lock.acquire(timeout=PATIENCE)
        say(lock.i_am_locking())
        hear()
        lock.release()
        """,
        lock_class.__name__,
        path,
    )


def test_another_process_is_kept_out_and_woken_by_the_release(lock_class, path, local):
    """By an event, not by polling, where the file system is known to be local."""
    lock = lock_class(path)
    with holder(lock_class, path) as owner:
        assert bool(re.search(r"\.[0-9a-f]{16}$", owner.unique_name)) is not local
        assert lock.is_locked() and lock.owner().alive is True
        with pytest.raises(AlreadyLocked):
            lock.acquire(timeout=0)
        with pytest.raises(LockTimeout):
            lock.acquire(timeout=0.05)
        with waiter(lock_class, path) as child:
            assert child.hear() == "waits"
            if local:
                wait_until(lambda: inotify_descriptors(child.pid) == 1, "the watch")
            owner.say("release")
            assert owner.hear() == "released"
            assert child.hear() is True
            assert inotify_descriptors(child.pid) == (1 if local else 0)
            assert lock.is_locked() and not lock.i_am_locking()
            child.finish()
    with lock:
        assert lock.i_am_locking()


def test_lock_of_a_killed_owner_goes_to_who_waits_and_nothing_is_left(lock_class, path):
    with holder(lock_class, path) as owner, waiter(lock_class, path) as child:
        assert child.hear() == "waits"
        assert lock_class(path).is_locked()
        owner.kill()
        assert child.hear() is True
        child.finish()
    assert not lock_class(path).is_locked()


def test_break_lock_frees_the_lock_of_a_live_owner(lock_class, path):
    lock = lock_class(path)
    with holder(lock_class, path):
        lock.break_lock()
        assert not lock.is_locked()
        with lock:
            assert lock.i_am_locking()
    with holder(lock_class, path):  # its successor sweeps what the one before left
        pass
    with lock:
        pass


def test_database_keeps_its_journal_and_has_no_log(path):
    """A write-ahead log would need memory that all share, and locks that outlive a statement."""
    with SQLiteFileLock(path) as lock:
        assert os.path.exists(lock.database + "-journal")
        assert not os.path.exists(lock.database + "-wal")


# What died with its machine


def mount_on_device(work, directory):
    """A file system that FUSE serves from a block device, as sticks and disks of Windows are."""
    image = work / "image"
    if not image.exists():
        image.touch()
        with image.open("r+b") as file:
            file.truncate(8 * MEGABYTE)
        run("mkfs.ntfs", "-q", "-F", image)
    found = subprocess.run(
        ["losetup", "--find", "--show", image], check=True, capture_output=True, text=True
    )
    run("ntfs-3g", found.stdout.strip(), directory)


def release_devices(work):
    listed = subprocess.run(
        ["losetup", "--associated", work / "image"], capture_output=True, text=True
    )
    for line in listed.stdout.splitlines():
        run("losetup", "--detach", line.partition(":")[0])


def killed_owner(lock_class, path):
    with holder(lock_class, path) as owner:
        owner.kill()


def test_dead_owner_is_recovered_after_a_new_mount_where_only_this_machine_can_have_it(
    tmp_path_factory,
):
    """Its name carries no K, which the new mount or the next run of the kernel would not have."""
    work = tmp_path_factory.mktemp("device")
    try:
        with mounted("FUSE on a device", mount_on_device, work) as directory:
            device = os.stat(directory).st_dev
            for lock_class in FILE_LOCK_CLASSES:
                killed_owner(lock_class, directory / lock_class.__name__)
        (work / "mounted").rmdir()
        # The first device is still there, so that the next one has another number.
        with mounted("FUSE on a device", mount_on_device, work) as directory:
            assert os.stat(directory).st_dev != device
            for lock_class in FILE_LOCK_CLASSES:
                with lock_class(directory / lock_class.__name__, timeout=PATIENCE):
                    pass
            assert names(directory) == []
    finally:
        release_devices(work)


def test_owner_from_before_a_new_mount_is_not_judged_where_others_may_have_it(tmp_path_factory):
    """And the message promises nothing that is not so."""
    work = tmp_path_factory.mktemp("remounted")
    with mounted("FUSE passthrough", mount_passthrough, work) as directory:
        killed_owner(LinkFileLock, directory / "README")
        device = os.stat(directory).st_dev
    with contextlib.ExitStack() as stack:
        for name in ("one", "two"):
            directory = work / name
            directory.mkdir()
            run("bindfs", work / "below", directory)
            stack.callback(run, "umount", "--lazy", directory)
            if os.stat(directory).st_dev != device:  # the first one's number may be given again
                break
        assert os.stat(directory).st_dev != device
        lock = LinkFileLock(directory / "README")
        with pytest.raises(LockTimeout, match="only until it restarts or mounts this file system"):
            lock.acquire(timeout=0.05)
        lock.break_lock()
        with lock:
            pass


# A lock that came with a layer of an image


@pytest.mark.parametrize("upper", ["of one file system", "of another"])
@pytest.mark.parametrize("act", ["acquire", "break_lock"])
def test_dead_owners_lock_in_a_lower_layer_is_removed(
    file_lock_class, act, upper, tmp_path_factory
):
    """Made while it was held. Directories there cannot be renamed."""
    work = tmp_path_factory.mktemp("layers")

    def mount(work, directory):
        over = work / "over"
        over.mkdir()
        if upper == "of another":
            mount_tmpfs(work, over)
        for name in ("lower", "over/upper", "over/work"):
            (work / name).mkdir()
        killed_owner(file_lock_class, work / "lower" / "README")
        layers = f"lowerdir={work}/lower,upperdir={over}/upper,workdir={over}/work"
        run("mount", "-t", "overlay", "-o", layers, "none", directory)

    try:
        with mounted("overlayfs", mount, work) as directory:
            lock = file_lock_class(directory / "README")
            assert not lock.is_locked()
            if act == "acquire":
                lock.acquire(timeout=0)
                assert lock.i_am_locking()
                lock.release()
                assert names(directory) == []
            else:
                lock.break_lock()
                assert not os.path.exists(lock.lock_file)
                with lock:
                    pass
    finally:
        subprocess.run(["umount", "--lazy", work / "over"], capture_output=True)


# Two views of one file system


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    """One directory by its own name and by two mounts of FUSE."""
    work = tmp_path_factory.mktemp("views")
    with contextlib.ExitStack() as stack:
        for name in ("one", "other"):
            (work / name).mkdir()
        (work / "one" / "below").mkdir()

        def mount_same(_, directory):
            run("bindfs", work / "one" / "below", directory)

        one = stack.enter_context(mounted("FUSE", mount_same, work / "one"))
        other = stack.enter_context(mounted("FUSE", mount_same, work / "other"))
        yield {"below": work / "one" / "below", "mounted": one, "mounted again": other}


@pytest.mark.parametrize(
    ("owners", "contenders"),
    [("mounted", "below"), ("below", "mounted"), ("mounted", "mounted again")],
)
def test_owner_in_another_view_is_never_taken_for_dead(views, lock_class, owners, contenders):
    """Its beacon cannot be seen there, dead or alive, so it proves nothing: one owner at most."""
    with tempfile.TemporaryDirectory(dir=views["below"]) as fresh:
        name = Path(fresh).name
        lock = lock_class(views[contenders] / name / "README")
        with holder(lock_class, views[owners] / name / "README"):
            assert lock.is_locked()
            assert lock.owner().alive is None
            with pytest.raises(LockTimeout, match=CANNOT_TELL):
                lock.acquire(timeout=0.05)
        with pytest.raises(LockTimeout, match=CANNOT_TELL):
            lock.acquire(timeout=0.05)
        with lock_class(views[owners] / name / "README", timeout=PATIENCE):
            pass


def test_hard_links_with_inodes_of_their_own_are_judged_by_both_names(views):
    """On FUSE the lock file's own beacon is dark while its owner lives."""
    path = views["mounted"] / "README"
    lock = LinkFileLock(path)
    with holder(LinkFileLock, path) as owner:
        with Child(
            """
            import fcntl
            descriptor = os.open(sys.argv[1], os.O_RDWR)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            say("granted")
            """,
            lock.lock_file,
        ) as child:
            assert child.hear() == "granted", "this mount gives one inode to both names"
        assert lock.is_locked()
        with pytest.raises(LockTimeout):
            lock.acquire(timeout=0.05)
        owner.say("release")
        assert owner.hear() == "released"
    with lock:
        pass
