"""What it costs to wait."""

from collections.abc import Iterator
from typing import Any

from contestants import OURS, Contestant
from harness import Results, Row, Sample, Settings, figure, interleaved, report_of


def measure_waiting(settings: Settings) -> Iterator[Sample]:
    """Wake-ups and processor time of one to many waiters, while the owner stays."""
    seconds = settings.choose(10, 2)
    counts = [1, 10, 100] if not settings.quick else [1, 10]
    costs: dict[str, Any] = {}

    def wait(contestant: Contestant) -> dict[str, Any]:
        costs[contestant.name] = report_of(settings, "waiting", contestant, counts, seconds)
        return {}

    for sample in interleaved("waiting", "", settings.waiting, 1, wait):
        for count in counts:
            cost = costs.get(sample.contestant, {}).get(str(count), {})
            figures = {**cost, "seconds": seconds} if cost else {}
            case, name = f"{count} waiting", sample.contestant
            yield Sample("waiting", case, name, 0, figures, sample.failure)
    yield from interleaved(
        "waiting", "timeouts", settings.ours, settings.choose(3, 1), late(settings)
    )


def late(settings: Settings) -> Any:
    def run(contestant: Contestant) -> dict[str, Any]:
        return {"late": report_of(settings, "timeouts", contestant, 4, 0.5)}

    return run


def show_waiting(results: Results) -> Iterator[Row]:
    for case in results.cases("waiting"):
        for name in results.contestants("waiting", case):
            yield from waiting_rows(results, case, name)


def waiting_rows(results: Results, case: str, name: str) -> Iterator[Row]:
    what, failure = f"{case}: {name}", results.failure("waiting", case, name)
    if failure:
        yield Row(what, failure)
    elif case == "timeouts":
        values = results.pooled("waiting", case, name, "late")
        text = f"{min(values):.2f} to {max(values):.2f} ms late"
        yield Row(what, text, "0 to some ms", min(values) >= 0 and max(values) < 10)
    else:
        yield cost_row(results, case, name)


def cost_row(results: Results, case: str, name: str) -> Row:
    [seconds] = results.values("waiting", case, name, "seconds")
    wake_ups = max(results.pooled("waiting", case, name, "wake-ups"))
    busy = max(results.pooled("waiting", case, name, "milliseconds"))
    what = f"{case} for {seconds} s: {name}"
    text = f"at most {wake_ups} wake-ups and {figure(busy)} ms each"
    if name not in OURS:
        return Row(what, text)
    allowed = seconds + 2  # soon after the start, then each second, and at the end
    met = wake_ups <= allowed and busy < seconds
    return Row(what, text, f"<= {allowed}, {seconds} ms", met)
