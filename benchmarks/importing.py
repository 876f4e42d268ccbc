"""What `import lockfile` adds to the start of Python."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from harness import Row, Settings, median_and_spread

TIMED_WITHIN = (
    "import time; a = time.perf_counter(); import lockfile; print(time.perf_counter() - a)"
)


def run_python(settings: Settings, statement: str) -> tuple[float, str]:
    """Milliseconds of a whole Python process that runs this statement, and what it printed."""
    # Byte code is kept, as it is where packages are installed, wherever this one lies.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(settings.fastest / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", statement]
    options: dict[str, Any] = {"cwd": settings.fastest, "env": environment}
    started = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True, **options)
    return (time.perf_counter() - started) * 1000, done.stdout


def measure_import(settings: Settings) -> Iterator[Row]:
    """Interleaved runs of Python with and without the import, and the import timed from within."""
    differences, bare, within = [], [], []
    run_python(settings, "import lockfile")
    for _ in range(settings.choose(150, 30)):
        without, _printed = run_python(settings, "pass")
        bare.append(without)
        differences.append(run_python(settings, "import lockfile")[0] - without)
        within.append(float(run_python(settings, TIMED_WITHIN)[1]) * 1000)
    yield Row("bare Python", f"{median_and_spread(bare)} ms")
    met = statistics.median(differences) <= 2
    yield Row(
        "import lockfile, added to bare Python",
        f"{median_and_spread(differences)} ms",
        "<= 2 ms",
        met,
    )
    yield Row(
        "import lockfile, timed from within",
        f"{median_and_spread(within)} ms",
        "<= 2 ms",
        statistics.median(within) <= 2,
    )
