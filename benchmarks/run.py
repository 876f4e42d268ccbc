"""Measure the lock and its peers side by side, and print each figure, beside its target if any.

    python benchmarks/run.py                      everything, beside the peers, some 25 minutes
    python benchmarks/run.py --quick              fewer rounds, without the peers, under a minute
    python benchmarks/run.py cycle fairness       these only
    python benchmarks/run.py --json results.json  keep the raw results, for report.py

Compare figures of one run only. Nothing here fails for being slow: "MISSED" is for people to read.
"""

import argparse
import dataclasses
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from contestants import CONTESTANTS, OURS
from cycle import (
    measure_crowd,
    measure_cycle,
    show_crowd,
    show_cycle,
    show_system_calls,
    traced,
)
from growth import measure_growth, show_growth
from handoff import measure_fairness, measure_hand_off, show_fairness, show_hand_off
from harness import Results, Sample, Settings, compile_bare, scratch_directories
from importing import measure_import, show_import
from killed import measure_killed, show_killed
from line import measure_line, show_line
from memory import measure_memory, show_memory
from peers import peers_interpreter, pinned_versions
from readers import measure_readers, show_readers
from tasks import measure_tasks, show_tasks
from waiting import measure_waiting, show_waiting

# How each is measured, and how its results become rows.
MEASUREMENTS = {
    "cycle": (measure_cycle, show_cycle),
    "crowd": (measure_crowd, show_crowd),
    "handoff": (measure_hand_off, show_hand_off),
    "fairness": (measure_fairness, show_fairness),
    "line": (measure_line, show_line),
    "tasks": (measure_tasks, show_tasks),
    "readers": (measure_readers, show_readers),
    "killed": (measure_killed, show_killed),
    "waiting": (measure_waiting, show_waiting),
    "import": (measure_import, show_import),
    "memory": (measure_memory, show_memory),
    "growth": (measure_growth, show_growth),
}


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "measurement", nargs="*", help=f"of {', '.join(MEASUREMENTS)} (default: all)"
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument(
        "--peers",
        action=argparse.BooleanOptionalAction,
        help="beside the peers (default: unless --quick)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw results there")
    arguments = parser.parse_args()
    unknown = set(arguments.measurement) - set(MEASUREMENTS)
    if unknown:
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")
    return arguments


def settings_for(arguments: argparse.Namespace, stack: ExitStack) -> Settings:
    wanted = arguments.peers if arguments.peers is not None else not arguments.quick
    python = peers_interpreter() if wanted else None
    contestants = [contestant for contestant in CONTESTANTS if python or not contestant.peer]
    directories = scratch_directories(stack)
    build = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lockfile-bench-")))
    return Settings(contestants, compile_bare(build), directories, arguments.quick, python)


def processor_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def machine(settings: Settings) -> dict[str, Any]:
    """What the figures depend on."""
    instances = Path("/proc/sys/fs/inotify/max_user_instances")
    return {
        "processors": os.cpu_count(),
        "processor": processor_name(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "file systems": list(settings.directories),
        "inotify instances": int(instances.read_text()) if instances.exists() else 0,
        "load": [round(os.getloadavg()[0], 1)],
        "peers": pinned_versions() if settings.peers_python else {},
        "quick": settings.quick,
    }


def measure(settings: Settings, names: Iterable[str]) -> Iterator[list[Sample]]:
    """Measure one after the other, and print each when it is done."""
    for name in names:
        measurement, show = MEASUREMENTS[name]
        started = time.monotonic()
        print(f"{name}: {(measurement.__doc__ or '').splitlines()[0]}", flush=True)
        found = list(measurement(settings))
        for row in show(Results(found)):
            print(f"  {row}")
        print(f"  ({time.monotonic() - started:.0f} s)\n", flush=True)
        yield found


def keep(file: Path, about: dict[str, Any], calls: Any, samples: list[Sample]) -> None:
    """After each measurement: what has taken half an hour is not lost by an interruption."""
    about = about | {"load": [*about["load"], round(os.getloadavg()[0], 1)]}
    kept = [dataclasses.asdict(sample) for sample in samples]
    file.write_text(json.dumps({"machine": about, "calls": calls, "samples": kept}))


def main() -> None:
    arguments = parsed_arguments()
    with ExitStack() as stack:
        settings = settings_for(arguments, stack)
        about = machine(settings)
        print(f"Python {about['python']}, {about['kernel']}, {about['processors']} processors")
        print(f"({about['processor']}); directories on {' and '.join(about['file systems'])}\n")
        names = arguments.measurement or list(MEASUREMENTS)
        calls = traced(settings) if "cycle" in names else {}
        if "cycle" in names:
            show_system_calls(calls)
        samples: list[Sample] = []
        for found in measure(settings, names):
            samples += found
            if arguments.json:
                keep(arguments.json, about, calls, samples)
    if any(s.contestant in OURS and s.failure.startswith("overlapped") for s in samples):
        sys.exit("A lock of this project let two in at once.")


if __name__ == "__main__":
    main()
