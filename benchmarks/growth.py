"""Whether anything grows when a process cycles very often."""

import json
from collections.abc import Iterator

from harness import WORKER, Row, Settings, children


def measure_growth(settings: Settings) -> Iterator[Row]:
    """Memory, descriptors and files before and after many cycles in one process."""
    count = settings.choose(1_000_000, 20_000)
    directory = settings.fastest / "growth"
    directory.mkdir()
    with children([[*WORKER, "grow", settings.lock_class, directory / "data"]]) as [worker]:
        before = json.loads(worker.ask(str(count // 20)))
        after = json.loads(worker.ask(str(count)))
    for what, allowed in (("kibibytes", 64), ("descriptors", 0), ("files", 0)):
        grown = after[what] - before[what]
        figure = f"{before[what]:,} before, {after[what]:,} after"
        yield Row(f"{count:,} cycles: {what}", figure, "no growth", grown <= allowed)
