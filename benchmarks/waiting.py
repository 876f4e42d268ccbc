"""What it costs to wait."""

import json
from collections.abc import Iterator

from harness import WORKER, Row, Settings, children


def measure_waiting(settings: Settings) -> Iterator[Row]:
    """Wake-ups and processor time of a waiter, alone and among four, until its timeout."""
    seconds = settings.choose(10, 3)
    allowed = seconds + 2  # soon after the start, then each second, and at the end
    for waiters in (1, 4):
        path = settings.fastest / f"waited-for-by-{waiters}"
        commands = [[*WORKER, "own", settings.lock_class, path]]
        commands += [[*WORKER, "wait", settings.lock_class, path]] * waiters
        with children(commands) as [owner, *waiting]:
            owner.hear()
            for waiter in waiting:
                waiter.say(str(seconds))
            reports = [json.loads(waiter.hear()) for waiter in waiting]
        wake_ups = max(report["wake_ups"] for report in reports)
        processor = max(report["processor"] for report in reports) * 1000
        late = [(report["waited"] - seconds) * 1000 for report in reports]
        what = f"{waiters} waiting for {seconds} s"
        yield Row(f"{what}: wake-ups", f"{wake_ups}", f"<= {allowed}", wake_ups <= allowed)
        yield Row(
            f"{what}: processor time", f"{processor:.2f} ms", "hardly any", processor < seconds
        )
        figure = f"{min(late):.2f} to {max(late):.2f} ms late"
        yield Row(f"{what}: timeout", figure, "0 to some ms", min(late) >= 0 and max(late) < 10)
