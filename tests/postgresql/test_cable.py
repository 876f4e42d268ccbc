"""Two machines, and the cable between them is pulled: who is cut off knows before the server lets
the next one in.

The machines are network namespaces; the server is in one, the owner in the other.
"""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time

import pytest

import support
from lockfile.postgresql import PostgreSQLLock
from support import PATIENCE, postgresql

SERVER, CLIENT = "10.211.55.1", "10.211.55.2"


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def cable():
    """Makes two namespaces, joined; pulled by its second end being set down."""
    names = [f"lockfile-{os.getpid()}-{end}" for end in ("s", "c")]
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces are root's, by ip (apt-get install iproute2)")
    try:
        ip("netns", "add", names[0])
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespace can be made: {error.stderr.decode()}")
    try:
        ip("netns", "add", names[1])
        ends = [f"lf{os.getpid()}{end}"[-15:] for end in ("s", "c")]
        ip("link", "add", ends[0], "netns", names[0], "type", "veth", "peer", "name", ends[1],
           "netns", names[1])  # fmt: skip
        for name, end, address in zip(names, ends, (SERVER, CLIENT), strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", end)
            ip("-n", name, "link", "set", end, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names, ends
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


HOLD = """
    import queue, sys, time
    from lockfile.postgresql import PostgreSQLLock
    lost = queue.SimpleQueue()
    lock = PostgreSQLLock("README", conninfo=sys.argv[1], on_lost=lambda _: lost.put(time.time()))
    lock.acquire()
    print("owns", flush=True)
    moment = lost.get()
    print(moment, lock.i_am_locking(), flush=True)
    """


def test_who_is_cut_off_knows_before_the_next_one_owns(cable):
    (near, far), (_, end) = cable
    with postgresql.scratch() as directory:
        server = postgresql.Server(directory, listen_addresses=SERVER)
        server.admit_all()
        server.runs_in = ("ip", "netns", "exec", near)
        server.start()
        try:
            told = f"host={SERVER} port={server.port} user=lockfile dbname=postgres"
            owner = subprocess.Popen(
                ["ip", "netns", "exec", far, sys.executable, "-c", textwrap.dedent(HOLD), told],
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(support.IMPORT_PATH)},
            )
            try:
                assert owner.stdout.readline() == "owns\n"
                ip("-n", far, "link", "set", end, "down")
                pulled = time.time()
                lock = PostgreSQLLock("README", conninfo=server.conninfo)
                lock.acquire(timeout=PATIENCE)
                owned = time.time()
                moment, still = owner.stdout.readline().split()
                lock.release()
            finally:
                owner.kill()
                owner.wait()
                owner.stdout.close()
        finally:
            server.stop()
    print(json.dumps({"knows": float(moment) - pulled, "next": owned - pulled}))
    assert still == "False"
    assert float(moment) < owned
