"""Measure the lock, and print each figure beside its target.

    python benchmarks/run.py                     everything, some minutes
    python benchmarks/run.py --quick             fewer rounds, under a minute
    python benchmarks/run.py cycle fairness      these only

Compare figures of one run only. Nothing here fails for being slow: "MISSED" is for people to read.
"""

import argparse
import os
import platform
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from cycle import MECHANISMS, measure_crowd, measure_cycle, show_system_calls
from growth import measure_growth
from handoff import measure_fairness, measure_hand_off
from harness import Settings, compile_bare, scratch_directories
from importing import measure_import
from killed import measure_killed
from waiting import measure_waiting

MEASUREMENTS = {
    "cycle": measure_cycle,
    "handoff": measure_hand_off,
    "fairness": measure_fairness,
    "killed": measure_killed,
    "waiting": measure_waiting,
    "import": measure_import,
    "growth": measure_growth,
    "crowd": measure_crowd,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "measurement", nargs="*", help=f"of {', '.join(MEASUREMENTS)} (default: all)"
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument(
        "--lock", default="LinkFileLock", choices=[*MECHANISMS], help="the class to measure"
    )
    arguments = parser.parse_args()
    unknown = set(arguments.measurement) - set(MEASUREMENTS)
    if unknown:
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")

    with ExitStack() as stack:
        directories = scratch_directories(stack)
        build = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lockfile-bench-")))
        settings = Settings(arguments.lock, compile_bare(build), directories, arguments.quick)
        print(f"{arguments.lock}; Python {platform.python_version()}, {platform.platform()},")
        print(f"{os.cpu_count()} processors; directories on {' and '.join(directories)}\n")
        for name in arguments.measurement or MEASUREMENTS:
            measure, started = MEASUREMENTS[name], time.monotonic()
            print(f"{name}: {(measure.__doc__ or '').splitlines()[0]}")
            for row in measure(settings):
                print(f"  {row}", flush=True)
            print(f"  ({time.monotonic() - started:.0f} s)\n")
            if name == "cycle":
                show_system_calls(settings)


if __name__ == "__main__":
    main()
