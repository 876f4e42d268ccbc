"""Whether anything grows when a process cycles very often."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from contestants import OURS, Contestant
from harness import Refused, Results, Row, Sample, Settings, report_of

ALLOWED = {"kibibytes": 64, "descriptors": 0, "files": 0}


def measure_growth(settings: Settings) -> Iterator[Sample]:
    """Memory, descriptors and files before and after a million cycles; peers as far as they get."""
    count = settings.choose(1_000_000, 20_000)

    def run(contestant: Contestant) -> Sample:
        seconds = settings.choose(8 if contestant.peer else 240, 20)
        sample = Sample("growth", "cycles", contestant.name, 0)
        try:
            words = ("grow", contestant, count, seconds)
            sample.figures = report_of(settings, *words, patience=2 * seconds + 60)
        except Refused as refused:
            sample.failure = str(refused)
        return sample

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # nothing is timed here
        yield from pool.map(run, settings.contestants)


def grown(figures: dict[str, Any]) -> dict[str, int]:
    return {what: figures["after"][what] - figures["before"][what] for what in ALLOWED}


def show_growth(results: Results) -> Iterator[Row]:
    for name in results.contestants("growth", "cycles"):
        [sample] = results.of("growth", "cycles", name)
        if sample.failure:
            yield Row(name, sample.failure)
            continue
        more = grown(sample.figures)
        what = f"{sample.figures['cycles']:,} cycles: {name}"
        text = ", ".join(f"{value:+,} {unit}" for unit, value in more.items())
        if name not in OURS:
            yield Row(what, text)
            continue
        met = all(value <= ALLOWED[unit] for unit, value in more.items())
        yield Row(what, text, "no growth", met)
