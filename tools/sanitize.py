"""Run the tests with AddressSanitizer and UndefinedBehaviorSanitizer in the extension module.

    make sanitize                        all tests
    make sanitize ARGS="-k sqlite"       some

Python itself is not built for them, so they are loaded before it, and leaks, of which Python has
many at its end, are not looked for here: the tests and `make references` do that. Left out are the
campaigns, the core (`make core` has sanitizers of its own), what is Python alone and starts
programs with an environment of their own, and what preloads functions that the sanitizers preload,
too.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SANITIZERS = "-fsanitize=address,undefined -fno-omit-frame-pointer"
# With assertions. gcc takes the tests that the sanitizer inserts for a use of null.
COMPILATION = {"CFLAGS": f"-g -O1 -UNDEBUG -Wno-nonnull {SANITIZERS}", "LDFLAGS": SANITIZERS}
COSTS = "tests/protocol/test_costs.py"
PRELOADING = (
    "test_allocations_of_a_cycle",
    "test_cycle_beside_many_other_locks_compares_few_names",
)
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:abort_on_error=1",
}


def library(name: str) -> str:
    """Where the compiler has it."""
    compiler = os.environ.get("CC", "gcc").split()
    command = [*compiler, f"-print-file-name={name}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main() -> int:
    build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", "--force"]
    subprocess.run(build, check=True, cwd=ROOT, env=os.environ | COMPILATION)
    preloaded = " ".join(map(library, ("libasan.so", "libubsan.so")))
    folders = ("campaigns", "core", "command", "postgresql")
    left_out = [f"--ignore=tests/{folder}" for folder in folders]
    left_out += [f"--deselect={COSTS}::{test}" for test in PRELOADING]
    tests = [sys.executable, "-m", "pytest", *left_out, *sys.argv[1:]]
    environment = os.environ | OPTIONS | {"LD_PRELOAD": preloaded}
    return subprocess.run(tests, check=False, cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
