"""PostgreSQLLock beside the bare two statements on a kept connection, by turns. After another kind
of call the processor's caches are cold, as they are in a program that does something else between.

python benchmarks/postgresql.py "host=/run/postgresql dbname=postgres"
"""

import sys
import time
from collections.abc import Callable

import psycopg

from lockfile.postgresql import PostgreSQLLock

ROUNDS = 3000
WARM_UP = 300
TARGET = 1.3


def measure(calls: dict[str, Callable[[], None]], in_a_row: int) -> dict[str, list[float]]:
    """Sorted seconds of each."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range((WARM_UP + ROUNDS) // in_a_row):
        for name, call in calls.items():
            for _ in range(in_a_row):
                began = time.perf_counter()
                call()
                if turn * in_a_row >= WARM_UP:
                    taken[name].append(time.perf_counter() - began)
    return {name: sorted(seconds) for name, seconds in taken.items()}


def report(taken: dict[str, list[float]]) -> None:
    for name, seconds in taken.items():
        quick, middle = seconds[len(seconds) // 20], seconds[len(seconds) // 2]
        ratio = quick / taken["bare statements"][len(seconds) // 20]
        print(f"{name:18}{quick * 1e6:8.0f} µs{middle * 1e6:8.0f} µs{ratio:7.2f} (<= {TARGET})")


def main(conninfo: str) -> None:
    lock = PostgreSQLLock("benchmark", conninfo=conninfo)
    with psycopg.connect(conninfo, autocommit=True) as connection:

        def bare() -> None:
            for function in ("pg_advisory_lock", "pg_advisory_unlock"):
                connection.execute(f"SELECT {function}(%s)", (42,), prepare=True).fetchone()

        def cycle() -> None:
            lock.acquire()
            lock.release()

        def block() -> None:
            with lock:
                pass

        calls = {"bare statements": bare, "acquire, release": cycle, "with": block}
        for in_a_row in (1, 100):
            print(f"{in_a_row} of a kind, then of the next:")
            report(measure(calls, in_a_row))
    lock.close_free_connections()


if __name__ == "__main__":
    main(sys.argv[1])
