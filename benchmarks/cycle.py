"""What an uncontended acquire and release costs, beside the same system calls made by a C loop,
or, for SQLiteFileLock, the two bare statements made by a Python loop."""

import difflib
import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from contestants import FLOCK, Contestant
from harness import (
    Child,
    Refused,
    Results,
    Row,
    Sample,
    Settings,
    figure,
    median_and_spread,
)

# What bare.c calls the mechanism of a contestant.
MECHANISMS = {"LinkFileLock": "link", "MkdirFileLock": "mkdir", FLOCK.name: "flock"}
WITHOUT_THREADS = ", threaded=False"


@dataclass
class Runner:
    """A helper process that cycles at one place when it is asked to."""

    name: str
    place: str
    child: Child
    request: str  # with %d for the number of cycles
    case: str
    count: int = 10

    def run(self) -> float:
        """Microseconds of a cycle."""
        self.child.say(self.request % self.count)
        nanoseconds: int = self.child.report()
        return nanoseconds / self.count / 1000

    def fit(self, seconds: float) -> None:
        """Choose a number of cycles that take about this long, once it is warm."""
        fastest = min(self.run() for _ in range(10))
        self.count = min(20_000, max(5, int(seconds * 1e6 / fastest)))


def limit(name: str) -> float:
    """How many times the bare cost a cycle of this class may take."""
    return 1.5 if name == "SQLiteFileLock" else 1.1


def bare_name(name: str) -> str:
    return f"bare {name}"


def fewest_name(name: str) -> str:
    return f"fewest {name}"


def has_bare(contestant: Contestant) -> bool:
    return contestant.ours or contestant is FLOCK


def bare_command(settings: Settings, contestant: Contestant, directory: Path) -> list[object]:
    if contestant.name in MECHANISMS:
        return [settings.bare, MECHANISMS[contestant.name], directory]
    return settings.worker("rows", contestant, directory / "rows")


def fewest_command(settings: Settings, name: str, directory: Path) -> list[object]:
    """The fewest calls that are correct, and not those that the lock makes."""
    return [settings.bare, f"fewest {MECHANISMS[name]}", directory]


def slug(contestant: Contestant) -> str:
    return contestant.name.replace(" ", "-")


def requests(contestant: Contestant, also_new: bool) -> Iterator[tuple[str, str]]:
    """What can be asked of a contestant: the end of the case's name, and the request."""
    kinds = [("one object", "reused"), ("new objects", "new")]
    for words, kind in kinds if also_new else kinds[:1]:
        if words == "new objects" or contestant.makes_free_locks:
            yield f", {words}", f'["{kind}", true, %d]'
        if also_new and contestant.owner_is_chosen:
            yield f", {words}{WITHOUT_THREADS}", f'["{kind}", false, %d]'


def runners(
    settings: Settings, stack: ExitStack, place: str, directory: Path, also_new: bool
) -> Iterator[Runner]:
    """Everybody who cycles in this directory."""
    for contestant in settings.contestants:
        # A file that one leaves behind would lock the others out.
        command = settings.worker("cycle", contestant, directory / slug(contestant))
        child = stack.enter_context(Child(*command))
        for words, request in requests(contestant, also_new):
            yield Runner(contestant.name, place, child, request, place + words)
        if has_bare(contestant):
            child = stack.enter_context(Child(*bare_command(settings, contestant, directory)))
            request = "cycles %d" if contestant.name in MECHANISMS else '["rows", true, %d]'
            yield Runner(bare_name(contestant.name), place, child, request, place + ", bare")
        if contestant.ours and contestant.name in MECHANISMS:
            command = fewest_command(settings, contestant.name, directory)
            child = stack.enter_context(Child(*command))
            name = fewest_name(contestant.name)
            yield Runner(name, place, child, "cycles %d", place + ", fewest")


def interleaved_cycles(
    settings: Settings, measurement: str, places: dict[str, Path], also_new: bool, rounds: int
) -> Iterator[Sample]:
    """Let everybody cycle at all places for some milliseconds, round after round."""
    with ExitStack() as stack:
        everybody = [
            runner
            for place, directory in places.items()
            for runner in runners(settings, stack, place, directory, also_new)
        ]
        for runner in list(everybody):
            try:
                runner.fit(0.02 if not settings.quick else 0.01)
            except Refused as refused:
                everybody.remove(runner)
                yield Sample(measurement, runner.case, runner.name, 0, failure=str(refused))
        for turn in range(rounds):
            start = turn * 7 % len(everybody)
            for runner in everybody[start:] + everybody[:start]:
                figures = {"µs": runner.run()}
                yield Sample(measurement, runner.case, runner.name, turn, figures)


def measure_cycle(settings: Settings) -> Iterator[Sample]:
    """Uncontended acquire and release."""
    rounds = settings.choose(25, 7)
    for name, directory in settings.directories.items():
        yield from interleaved_cycles(settings, "cycle", {name: directory}, True, rounds)


def show_cycle(results: Results) -> Iterator[Row]:
    """A row for each case of each contestant, ours with a target."""
    for case in results.cases("cycle"):
        for name in results.contestants("cycle", case):
            yield cycle_row(results, case, name)


def cycle_row(results: Results, case: str, name: str) -> Row:
    what = f"{case}: {name}"
    costs = results.values("cycle", case, name, "µs")
    if not costs:
        return Row(what, results.failure("cycle", case, name))
    bare = (case.split(",")[0] + ", bare", bare_name(name))
    over = results.ratios("cycle", case, "µs", name, bare)
    cost = f"{figure(median(costs))} µs"
    if not over:
        return Row(what, cost)
    text = f"{cost} = {median_and_spread(over)} x bare"
    fewest = (case.split(",")[0] + ", fewest", fewest_name(name))
    over_fewest = results.ratios("cycle", case, "µs", name, fewest)
    if over_fewest:
        text += f" = {median_and_spread(over_fewest)} x the fewest calls"
    if name == FLOCK.name:
        return Row(what, text)
    return Row(what, text, f"<= {limit(name)} x bare", median(over) <= limit(name))


@contextmanager
def crowd(directory: Path, count: int) -> Iterator[None]:
    """A directory with many other files, for a while."""
    directory.mkdir()
    for number in range(count):
        (directory / f"data-2024-{number}").touch()
    yield
    shutil.rmtree(directory)


def measure_crowd(settings: Settings) -> Iterator[Sample]:
    """The same in an empty directory, and in one with very many other files."""
    count, rounds = settings.choose(100_000, 10_000), settings.choose(15, 5)
    for name, directory in settings.directories.items():
        empty, crowded = directory / "empty", directory / "crowded"
        empty.mkdir()
        places = {f"{name}, alone": empty, f"{name}, beside {count:,} files": crowded}
        with crowd(crowded, count):
            yield from interleaved_cycles(settings, "crowd", places, False, rounds)


def show_crowd(results: Results) -> Iterator[Row]:
    """The cost beside them as a multiple of the cost alone; it may grow as the bare calls do."""
    for case in results.cases("crowd"):
        if "beside" not in case or case.endswith(("bare", "fewest")):
            continue
        place, rest = case.split(",")[0], case.rsplit(",", 1)[1]
        for name in results.contestants("crowd", case):
            alone = f"{place}, alone,{rest}"
            grown = results.ratios("crowd", case, "µs", name, (alone, name))
            if grown:
                yield crowd_row(results, case, name, grown)


def crowd_row(results: Results, case: str, name: str, grown: list[float]) -> Row:
    what, text = f"{case}: {name}", f"{median_and_spread(grown)} x the cost alone"
    bare_case = case.rsplit(",", 1)[0] + ", bare"
    bare_alone = case.split(",")[0] + ", alone, bare"
    bare = bare_name(name)
    of_bare = results.ratios("crowd", bare_case, "µs", bare, (bare_alone, bare))
    if not of_bare or name == FLOCK.name:
        return Row(what, text)
    allowed = 1.1 * median(of_bare)
    return Row(what, text, f"<= {allowed:.2f} x", median(grown) <= allowed)


def system_calls(command: list[object], request: str, log: Path) -> list[str]:
    """The system calls that a helper process makes in one cycle, as strace tells them."""
    with Child("strace", "-f", "-qq", "-o", log, *command) as child:
        child.ask(request)
    lines = [line.split(maxsplit=1)[1] for line in log.read_text().splitlines()]
    marks = [number for number, line in enumerate(lines) if line.startswith("getppid(")]
    return lines[marks[0] + 1 : marks[1]]


def traced(settings: Settings) -> dict[str, list[str]]:
    """The calls of one cycle of everybody, where strace may look."""
    log, found = settings.fastest / "strace.log", {}
    for contestant in settings.contestants:
        path = settings.fastest / slug(contestant)
        commands = {contestant.name: settings.worker("cycle", contestant, path)}
        if has_bare(contestant):
            bare = bare_command(settings, contestant, settings.fastest)
            commands[bare_name(contestant.name)] = bare
        for name, command in commands.items():
            in_c = command[0] == settings.bare
            request = "trace" if in_c else json.dumps(["trace", True, 1])
            try:
                found[name] = system_calls(command, request, log)
            except FileNotFoundError:
                return {}
            except (Refused, IndexError):  # it may not look at this one
                continue
    return found


def show_system_calls(calls: dict[str, list[str]]) -> None:
    """Print one cycle of each of our classes, and mark how it differs from the bare loop."""
    if not calls:
        print("strace is not there, or may not trace here: no list of system calls\n")
    for name, lines in calls.items():
        bare = calls.get(bare_name(name))
        if bare is None or name == FLOCK.name:
            continue
        print(f"One cycle of {name}, as strace shows it:\n")
        print("\n".join(f"    {line}" for line in lines))
        print(f"\n{len(bare)} bare calls, {len(lines)} of the lock", end="")
        print(" (-: only bare; +: only the lock):\n\n    " + " ".join(differences(bare, lines)))
        print()


def differences(bare: list[str], lock: list[str]) -> list[str]:
    bare_names, lock_names = map(names_of, (bare, lock))
    lines = [line for line in difflib.ndiff(bare_names, lock_names) if line[0] != "?"]
    return [line.replace(" ", "") for line in lines]


def names_of(calls: list[str]) -> list[str]:
    return [call.split("(")[0] for call in calls]
