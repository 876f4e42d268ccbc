"""Programs that use the classic package, with ours in its place.

usage: dependents.py DIRECTORY [NAME ...]

Each in an environment of its own, from the package index, with the wheel of that directory: `pip
check` must be content, and then the program's own tests pass, or it does what its users do.
"""

import shutil
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import time
import venv
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Dependent:
    """A program: what is installed, and what is run then, in a fresh directory."""

    name: str
    requirements: list[str]
    run: str  # for a shell; "python" and the program's commands are the environment's
    source: str = ""  # whose source distribution is unpacked in that directory
    files: dict[str, str] = field(default_factory=dict)


# Sessions with one cache fetch a page. Who reads while another writes, asks the server, too.
CACHE = """
    import http.server
    import os
    import threading

    import requests
    from cachecontrol import CacheControl
    from cachecontrol.caches import FileCache

    class Page(http.server.BaseHTTPRequestHandler):
        asked = 0

        def do_GET(self):
            Page.asked += 1
            self.send_response(200)
            self.send_header("Cache-Control", "max-age=600")
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"

    def fetch():
        session = CacheControl(requests.Session(), cache=FileCache("cache"))
        for _ in range(20):
            assert session.get(url).text == "hello"

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= Page.asked < 80, Page.asked
    cache = FileCache("cache")
    cache.set("one", b"1")
    assert cache.get("one") == b"1"
    cache.delete("one")
    assert cache.get("one") is None
    left = [name for *_, names in os.walk("cache") for name in names if name.endswith(".lock")]
    assert left == [], left
    print("80 pages,", Page.asked, "of them from the server")
"""

PLAYBOOK = """
    - hosts: localhost
      gather_facts: false
      connection: local
      tasks:
        - ansible.builtin.wait_for:
            timeout: 600
"""

RUNNER = """
    ansible-runner start run -p wait.yml
    for second in $(seq 60); do
        ansible-runner is-alive run && break
        sleep 1
    done
    ansible-runner is-alive run
    test "$(cat run/pid)" -gt 1
    ansible-runner stop run
    for second in $(seq 60); do
        ansible-runner is-alive run || break
        sleep 1
    done
    ! ansible-runner is-alive run
    echo "started, alive, stopped"
"""

BUGWARRIOR = """
    from multiprocessing import Pool

    from bugwarrior.config.data import BugwarriorData
    from lockfile import AlreadyLocked

    def store(number):
        while True:
            try:
                return BugwarriorData(".").set(str(number), number)
            except AlreadyLocked:  # at once, as bugwarrior does not wait
                pass

    if __name__ == "__main__":
        with Pool(4) as pool:
            pool.map(store, range(20))
        data = BugwarriorData(".").get_data()
        assert sorted(data.values()) == list(range(20)), data
        print("20 values stored by 4 processes")
"""

# What `airflow scheduler --daemon` does, with another thing to do in the daemon.
AIRFLOW = """
    import os
    import time
    from argparse import Namespace
    from pathlib import Path

    from airflow.cli.commands.daemon_utils import run_command_with_daemon_option

    here = Path.cwd()
    arguments = Namespace(
        daemon=True, pid=str(here / "daemon.pid"), umask="0o077", verbose=False,
        stdout=None, stderr=None, log_file=None,
    )

    def work():
        written = int((here / "daemon.pid").read_text())
        (here / "came.up").write_text(f"{written == os.getpid()}")

    if os.fork() == 0:
        run_command_with_daemon_option(args=arguments, process_name="daemon", callback=work)
        os._exit(0)
    deadline = time.monotonic() + 60
    while not (here / "came.up").exists() or (here / "daemon.pid").exists():
        assert time.monotonic() < deadline, list(here.iterdir())
        time.sleep(0.1)
    assert (here / "came.up").read_text() == "True"
    print("the daemon came up with its PID file, and has removed it")
"""

DEPENDENTS = [
    Dependent(
        "python-daemon",
        [
            *("python-daemon==3.1.2", "testtools", "testscenarios", "changelog-chug"),
            *("docutils", "packaging"),
        ],
        "cd python_daemon-3.1.2 && python -m unittest discover -t . test",
        source="python-daemon==3.1.2",
    ),
    Dependent(
        "CacheControl",
        ["CacheControl[filecache]==0.12.11", "urllib3<2"],
        "python cache.py",
        files={"cache.py": CACHE},
    ),
    Dependent(
        "apache-libcloud",
        ["apache-libcloud==2.8.3", "lockfile", "mock", "pytest", "requests-mock", "lxml"],
        "cd apache-libcloud-2.8.3 && cp libcloud/test/secrets.py-dist libcloud/test/secrets.py"
        " && python -m unittest libcloud.test.storage.test_local",
        source="apache-libcloud==2.8.3",
    ),
    Dependent(
        "ansible-runner",
        ["ansible-runner==2.4.3", "ansible-core"],
        textwrap.dedent(RUNNER),
        files={"run/project/wait.yml": PLAYBOOK},
    ),
    Dependent(
        "bugwarrior",
        ["bugwarrior==2.1.0"],
        "python -c 'import bugwarrior' && bugwarrior --version && python store.py",
        files={"store.py": BUGWARRIOR},
    ),
    Dependent(
        "airflow",
        ["apache-airflow==2.10.5"],
        "export AIRFLOW_HOME=$PWD/home && python daemonise.py",
        files={"daemonise.py": AIRFLOW},
    ),
]


def call(command, **keywords):
    subprocess.run([str(word) for word in command], check=True, **keywords)


def install(environment, wheel, requirements):
    venv.create(environment, with_pip=True, symlinks=True)
    python = environment / "bin" / "python"
    call([python, "-m", "pip", "install", "--quiet", wheel, *requirements])
    call([python, "-m", "pip", "check"])
    # Whoever asks the index for it could have had the classic one instead.
    found = "import lockfile, sys; sys.exit(lockfile.LockBase.__module__ != 'lockfile')"
    call([python, "-c", found])


def unpack(environment, source, directory):
    python = environment / "bin" / "python"
    download = [python, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    call([*download, "--dest", directory / "downloads", source])
    [archive] = (directory / "downloads").iterdir()
    with tarfile.open(archive) as opened:
        opened.extractall(directory, filter="data")
    shutil.rmtree(directory / "downloads")


def try_out(dependent, wheel):
    with tempfile.TemporaryDirectory() as scratch:
        environment, directory = Path(scratch, "environment"), Path(scratch, "elsewhere")
        directory.mkdir()
        install(environment, wheel, dependent.requirements)
        if dependent.source:
            unpack(environment, dependent.source, directory)
        for name, text in dependent.files.items():
            file = directory / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(text))
        path = f'PATH="{environment / "bin"}:$PATH"'
        call(["bash", "-ec", f"export {path}\n{dependent.run}"], cwd=directory)


def main():
    directory, *names = sys.argv[1:]
    [wheel] = Path(directory).resolve().glob("*.whl")
    if unknown := set(names) - {dependent.name for dependent in DEPENDENTS}:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}")
    failed = []
    for dependent in DEPENDENTS:
        if names and dependent.name not in names:
            continue
        print(f"--- {dependent.name} ---", flush=True)
        begin = time.monotonic()
        try:
            try_out(dependent, wheel)
        except subprocess.CalledProcessError as error:
            print(error)
            failed.append(dependent.name)
        print(f"{time.monotonic() - begin:.0f} s", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


main()
