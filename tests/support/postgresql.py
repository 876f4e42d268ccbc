"""A PostgreSQL server of the tests' own, with a pooler if one is wanted."""

import atexit
import contextlib
import functools
import glob
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

import support

NEEDED = "apt-get install postgresql pgbouncer"
USER = "lockfile"
DATABASE = "postgres"

# Seconds in which the server has noticed that a process is gone, on a busy machine.
REST = 10

# What is started ends with whoever has started it, however that ends.
KEEPER = 'trap "" INT; "$@" </dev/null & server=$!; read -r line; kill -INT $server; wait $server'

SETTINGS = {
    "fsync": "off",
    "max_connections": "200",
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "16MB",
    "autovacuum": "off",
    "log_min_messages": "fatal",
}


def program(name):
    """Where it is, or None."""
    found = shutil.which(name)
    places = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}") + glob.glob(f"/usr/sbin/{name}"))
    return found or (places[-1] if places else None)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Program:
    """One that runs as an ordinary user, since PostgreSQL refuses root."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self._keeper = None
        self.runs_in = ()  # what comes before its command: a network namespace, say

    def _start(self, *command):
        user = str(support.ORDINARY_USER)
        become = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups"]
        become *= bool(self.runs_in)  # only root may enter, who is nobody after that
        with open(self.directory / "log", "ab") as log:
            self._keeper = subprocess.Popen(
                [*self.runs_in, *become, "/bin/sh", "-c", KEEPER, "keeper", *map(str, command)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd="/",
                **({} if become else as_user()),
            )

    def stop(self):
        if self._keeper is not None:
            self._keeper.stdin.close()
            self._keeper.wait(support.PATIENCE)
            self._keeper = None

    def log(self):
        return (self.directory / "log").read_text(errors="replace")


def run(*command):
    subprocess.run(command, check=True, capture_output=True, cwd="/", **as_user())


def as_user():
    if os.geteuid() != 0:
        return {}
    return {"user": support.ORDINARY_USER, "group": support.ORDINARY_USER, "extra_groups": []}


@functools.cache
def unused_cluster():
    """What a server needs that has never run: each gets a copy."""
    directory = make_scratch()
    atexit.register(remove_of, os.getpid(), directory)
    options = ("-A", "trust", "-U", USER, "-N", "--encoding=UTF8", "--locale=C")
    run(program("initdb"), "-D", str(directory / "data"), *options)
    return directory / "data"


def remove_of(process, directory):
    """But not at the end of its forked children."""
    if os.getpid() == process:
        shutil.rmtree(directory)


class Server(Program):
    """A cluster on a socket in a directory of its own, and on a port of this machine."""

    def __init__(self, directory, **settings):
        super().__init__(directory)
        self.port = free_port()
        self._data = self.directory / "data"
        self._settings = SETTINGS | settings
        self._connection = None
        self.conninfo = self._conninfo(self.directory)
        self.conninfo_tcp = self._conninfo("127.0.0.1")
        run("cp", "--archive", str(unused_cluster()), str(self._data))

    def _conninfo(self, host):
        return f"host={host} port={self.port} user={USER} dbname={DATABASE}"

    def environment(self):
        """For who says nothing about where the server is."""
        return {
            "PGHOST": str(self.directory),
            "PGPORT": str(self.port),
            "PGUSER": USER,
            "PGDATABASE": DATABASE,
        }

    def start(self):
        settings = self._settings | {
            "unix_socket_directories": str(self.directory),
            "port": str(self.port),
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._start(program("postgres"), "-D", self._data, *options)
        support.wait_until(self.answers, f"the server: {self.log()}")

    def answers(self):
        assert self._keeper.poll() is None, self.log()
        with contextlib.suppress(psycopg.OperationalError):
            self.sql("SELECT 1")
            return True
        return False

    def admit_all(self):
        (self._data / "pg_hba.conf").write_text("local all all trust\nhost all all all trust\n")

    def pid(self):
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def kill(self):
        """As when its machine dies; all that it was goes with it."""
        os.kill(self.pid(), signal.SIGKILL)
        self.stop()

    def restart(self):
        self.stop()
        self.start()

    def sql(self, text, *parameters):
        """The rows, if there are any."""
        cursor = self._connected().execute(text, parameters)
        return cursor.fetchall() if cursor.description else None

    def _connected(self):
        """To ask many things over one connection: the server starts a process for each."""
        if self._connection is not None:
            with contextlib.suppress(psycopg.OperationalError):
                self._connection.execute("")  # the server may have been restarted
                return self._connection
            self._disconnect()
        self._connection = psycopg.connect(self.conninfo, autocommit=True)
        return self._connection

    def _disconnect(self):
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def stop(self):
        self._disconnect()
        super().stop()

    def sessions(self):
        """Process, name and state of all connections of locks."""
        return self.sql(
            "SELECT pid, application_name, state, wait_event_type FROM pg_stat_activity"
            " WHERE application_name LIKE 'lockfile %%'"
        )

    def has_seen_the_end_of(self, process):
        """Of one that had connections of locks, perhaps."""
        name = f"lockfile %-{process}"
        return not self.sql("SELECT FROM pg_stat_activity WHERE application_name LIKE %s", name)

    def waiting(self):
        """How many wait in the queue of a lock."""
        [(number,)] = self.sql(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        )
        return number

    def held(self):
        [(number,)] = self.sql(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
        )
        return number

    def is_busy(self):
        return self.held() > 0 or self.waiting() > 0 or self.sessions() != []

    def comes_to_rest(self):
        """Whether soon nobody holds, waits or is connected; else they are thrown out, for the next
        test. The server hears of an end a moment later."""
        deadline = time.monotonic() + REST
        while (busy := self.is_busy()) and time.monotonic() < deadline:
            pause()
        if busy:
            self.sql(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE application_name LIKE 'lockfile %%'"
            )
        return not busy


class Pooler(Program):
    """pgbouncer, in front of a server."""

    def __init__(self, directory, server, mode):
        super().__init__(directory)
        self.port = free_port()
        self.conninfo = f"host=127.0.0.1 port={self.port} user={USER} dbname={DATABASE}"
        self._file = self.directory / "pgbouncer.ini"
        self._file.write_text(f"""
[databases]
{DATABASE} = host={server.directory} port={server.port} user={USER}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
auth_type = any
pool_mode = {mode}
default_pool_size = 2
ignore_startup_parameters = extra_float_digits
unix_socket_dir =
""")

    def start(self):
        self._start(program("pgbouncer"), self._file)

        def answers():
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port)).close()
                return True
            return False

        support.wait_until(answers, f"the pooler: {self.log()}")


def make_scratch():
    """A directory that others may enter; its path is short, since it is to hold sockets."""
    directory = Path(tempfile.mkdtemp(prefix="lockfile-"))
    if os.geteuid() == 0:
        os.chown(directory, support.ORDINARY_USER, support.ORDINARY_USER)
    return directory


@contextlib.contextmanager
def scratch():
    directory = make_scratch()
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


@contextlib.contextmanager
def running_server(**settings):
    with scratch() as directory:
        server = Server(directory, **settings)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def running_pooler(server, mode):
    with scratch() as directory:
        pooler = Pooler(directory, server, mode)
        try:
            pooler.start()
            yield pooler
        finally:
            pooler.stop()


def wait_for_waiters(server, number):
    support.wait_until(lambda: server.waiting() == number, f"{number} waiters")


def pause():
    time.sleep(0.001)
