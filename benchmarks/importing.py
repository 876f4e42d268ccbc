"""What `import` adds to the start of Python."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from contestants import Contestant
from harness import Results, Row, Sample, Settings, median_and_spread

THIS = "lockfile"


def imports(settings: Settings) -> dict[str, tuple[Path, str]]:
    """What is imported, by name: each package once, by the interpreter of its environment."""
    found = {"Python alone": (settings.interpreter(settings.contestants[0]), "pass")}
    for contestant in settings.contestants:
        if contestant.ours or contestant.peer:
            module = THIS if contestant.module.startswith(THIS) else contestant.module
            name = name_of(contestant)
            found[name] = (settings.interpreter(contestant), f"import {module}")
    if settings.peers_python:
        found["the peers' Python alone"] = (settings.peers_python, "pass")
    return found


def name_of(contestant: Contestant) -> str:
    if contestant.peer and contestant.module.startswith(THIS):
        return f"classic {THIS}"
    return contestant.module


def run_python(settings: Settings, python: Path, statement: str) -> float:
    """Milliseconds of a whole Python process that runs this statement."""
    # Byte code is kept, as it is where packages are installed, wherever this one lies.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(settings.fastest / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    options: dict[str, Any] = {"cwd": settings.fastest, "env": environment}
    started = time.perf_counter()
    subprocess.run([python, "-c", statement], check=True, **options)
    return (time.perf_counter() - started) * 1000


def measure_import(settings: Settings) -> Iterator[Sample]:
    """Runs of Python with and without the import, in turn."""
    statements = imports(settings)
    for python, statement in statements.values():
        run_python(settings, python, statement)
    names = list(statements)
    for turn in range(settings.choose(60, 20)):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            figures = {"ms": run_python(settings, *statements[name])}
            yield Sample("import", "start", name, turn, figures)


def added(results: Results, name: str) -> list[float]:
    """Milliseconds that an import adds to the bare Python of its environment, within each round."""
    bare = "Python alone" if name == THIS else "the peers' Python alone"
    values = results.values("import", "start", name, "ms")
    return [
        mine - alone
        for mine, alone in zip(values, results.values("import", "start", bare, "ms"), strict=False)
    ]


def show_import(results: Results) -> Iterator[Row]:
    for name in results.contestants("import", "start"):
        if name.endswith("alone"):
            values = results.values("import", "start", name, "ms")
            yield Row(name, f"{median_and_spread(values)} ms")
            continue
        values = added(results, name)
        text = f"{median_and_spread(values)} ms"
        target = ("<= 2 ms", median(values) <= 2) if name == THIS else ("", None)
        yield Row(f"import {name}, added to Python alone", text, *target)
