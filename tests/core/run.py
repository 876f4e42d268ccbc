#!/usr/bin/env python3
"""The core, which knows no Python, driven by C programs under sanitizers, and fuzzed.

    tests/core/run.py                            everything
    tests/core/run.py --seconds 60 thread fuzz   some of it, for so long each

    thread       threads, then threads and forks, under ThreadSanitizer, which cannot follow a
                 forked child that makes threads: children have one there
    address      threads, forks and kills under AddressSanitizer and LeakSanitizer
    undefined    the same under UndefinedBehaviorSanitizer
    allocation   each allocation of each operation fails, and none is made while a fork waits
    musl         with another C library, if there is a musl-gcc
    aarch64      for that processor, if there is zig, under an emulator of it, if there is one
    narrow       with addresses of 32 bits, if there is a compiler for them
    polling      on a system that has nothing to watch files with
    portable     on one that has nothing but what all POSIX systems have
    posix        whether the files for all POSIX systems use nothing wider, compiled only
    fuzz         the parser of unique names: by libFuzzer if there is a clang, else at random
    memcheck, helgrind
                 under valgrind; only when they are named

Prints a line for each, and what was found. The exit code is that of a failure if anything was.
"""

import argparse
import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
CORE = HERE.parent.parent / "csrc"
POSIX = "platform/posix"
PLATFORM = (POSIX, "platform/linux")
LINUX_FILES = ("platform/linux/system.c", "platform/linux/where.c")
WITHOUT_WATCHES = (POSIX, *LINUX_FILES, "platform/none")
PORTABLE = (POSIX, "platform/portable", "platform/none", "platform/linux/where.c")
CORE_FILES = (
    *("core", "mechanisms/files"),
    *("mechanisms/sqlite/beacon.c", "mechanisms/sqlite/trust.c"),
)
# gcc takes the tests that the sanitizer inserts for a use of null: -Wno-nonnull.
FLAGS = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-nonnull", "-g", "-O1", "-pthread")
AARCH64 = (sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl", "-static")
# It knows no reaper of orphans but the first process.
EMULATOR = ("unshare", "--pid", "--fork", "--mount-proc", "qemu-aarch64-static")
APART_FROM_FORKS = (
    *("malloc", "calloc", "realloc", "free"),
    *("opendir", "fdopendir", "closedir"),
    "os_do_aside",
)
SLEEPS = ("os_pause", "os_wait", "os_mutex_wait_until", "os_signals_hold")
NETWORK = ("os_rename", "os_unlink")
MEANWHILE = ("os_remove_directory", "unique_take_beacon", "os_flock")
ALLOCATING = ("malloc", "calloc", "realloc", "fdopendir", "mmap")
FREEING = ("free", "closedir")
LOCKING = (
    *("pthread_rwlock_rdlock", "pthread_rwlock_wrlock", "pthread_rwlock_unlock"),
    *("pthread_mutex_lock", "pthread_mutex_unlock"),
)
# What waits for nobody is over by then, on any machine.
PATIENCE = 120

# A forked child makes the locks anew that its parent's thread held for the fork. ThreadSanitizer
# does not see that, and takes them for locked. Each entry is one such lock, and is about the misuse
# of locks alone, not about races.
SUPPRESSIONS = """\
# fork_lock
mutex:posix_hold_off_forks
# the lock of forks.c
mutex:__wrap_
mutex:hold_off_forks
mutex:allow_forks
"""

# The same for helgrind, beneath which only leave_stale() forks.
VALGRIND_SUPPRESSIONS = "\n".join(
    f"{{\n   after a fork\n   {kind}\n   ...\n   fun:leave_stale\n}}"
    for kind in ("Helgrind:Misc", "Helgrind:LockOrder")
)

OPTIONS = {
    "TSAN_OPTIONS": "die_after_fork=0:exitcode=66:suppressions={scratch}/suppressions",
    "ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=1:exitcode=66",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}

# Names of our form, and not quite.
SEEDS = (
    b"build7-7fc1c1c59b80-4711",
    b"a.b-c--4711.0123456789abcdef.3",
    b"h--1.0000000000000001.4294967299",
    b"h--1.0000000000000000",
    b"host.Thread-1-4711",
    b"data-2024-11",
)


class Failure(Exception):
    """What a program had to say."""


class NotHere(Exception):
    """What is not installed."""


def wrap(*names):
    return [f"-Wl,--wrap={name}" for name in names]


class Campaign:
    """Programs compiled and run in a scratch directory."""

    def __init__(self, scratch, seconds, seed):
        self.scratch, self.seconds, self.seed = scratch, seconds, seed
        (scratch / "suppressions").write_text(SUPPRESSIONS)
        (scratch / "valgrind").write_text(VALGRIND_SUPPRESSIONS)

    def build(
        self,
        name,
        sanitizers,
        *flags,
        sources=("support",),
        core=CORE_FILES,
        platform=PLATFORM,
        compiler=("gcc",),
    ):
        """Compile a program with the core; its path."""
        program = self.scratch / name
        files = [HERE / f"{source}.c" for source in (name, *sources)]
        for part in (*core, *platform):
            files += sorted((CORE / part).glob("*.c")) if (CORE / part).is_dir() else [CORE / part]
        sanitize = [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"] if sanitizers else []
        self.run(
            [*compiler, *FLAGS, f"-I{CORE}", *sanitize, *map(str, files), "-o", program, *flags]
        )
        return str(program)

    def run(self, command, seconds=0):
        """Run to the end; what was printed. All processes of a program that hangs are killed."""
        environment = {name: text.format(scratch=self.scratch) for name, text in OPTIONS.items()}
        with tempfile.TemporaryFile("w+", dir=self.scratch) as output:
            process = subprocess.Popen(
                list(map(str, command)),
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.scratch,
                env=os.environ | environment,
                start_new_session=True,
            )
            code = None  # it hangs
            try:
                code = process.wait(seconds + PATIENCE)
            except subprocess.TimeoutExpired:
                pass
            finally:
                self.kill_group(process)
            output.seek(0)
            text = output.read()
        if code != 0:
            ending = "it hangs" if code is None else f"exit code {code}"
            raise Failure(f"{' '.join(map(str, command))}\n{ending}\n{text}")
        return text

    @staticmethod
    def kill_group(process):
        """Nothing of it stays behind; its processes are a group of their own."""
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()

    def place(self):
        """A fresh directory to lock in."""
        return tempfile.mkdtemp(dir=self.scratch)

    def drive(self, sanitizers, *flags, child_threads=2, under=(), **how):
        """The driver, for as long as was asked; then what it leaves out."""
        driver = self.build("driver", sanitizers, *flags, sources=("support", "forks"), **how)
        entries = self.build("entries", sanitizers, *wrap(*MEANWHILE), **how)
        steps = self.build("steps", sanitizers, *wrap(*SLEEPS, *NETWORK), **how)
        arguments = [self.place(), self.seconds, self.seed, child_threads]
        told = [self.run([*under, driver, *arguments], self.seconds).splitlines()[-1]]
        told += [self.run([*under, program, self.place()]).strip() for program in (entries, steps)]
        return "; ".join(told)

    def thread(self):
        """Without forks, which bring threads in order, and with them."""
        flags = wrap(*APART_FROM_FORKS)
        alone = self.drive("thread", *flags, child_threads=0)
        return f"{alone}; with forks {self.drive('thread', *flags, child_threads=1)}"

    def address(self):
        return self.drive("address", *wrap(*APART_FROM_FORKS))

    def undefined(self):
        return self.drive("undefined")

    def allocation(self):
        program = self.build("allocation", "address", *wrap(*ALLOCATING, *FREEING, *LOCKING))
        return self.run([program, self.place()]).strip()

    def elsewhere(self, *compiler, under=()):
        """For another platform, of which this machine can run programs."""
        probe = self.scratch / "probe.c"
        probe.write_text('#include <stdio.h>\nint main(void) { return puts("") < 0; }\n')
        try:
            self.run([*compiler, probe, "-o", self.scratch / "probe"])
            self.run([*under, self.scratch / "probe"])
        except (Failure, OSError):
            raise NotHere(" ".join((*compiler, *under))) from None
        return self.drive("", compiler=compiler, under=under)

    def musl(self):
        return self.elsewhere("musl-gcc")

    def aarch64(self):
        return self.elsewhere(*AARCH64, under=EMULATOR)

    def narrow(self):
        return self.elsewhere("gcc", "-m32", "-Wno-psabi")

    def polling(self):
        return self.drive("undefined", platform=WITHOUT_WATCHES)

    def portable(self):
        return self.drive("undefined", platform=PORTABLE)

    def posix(self):
        """Each C library is asked for what POSIX has, by the files themselves, and for no more."""
        files = sorted((CORE / POSIX).glob("*.c"))
        compilers = [name for name in ("gcc", "musl-gcc") if shutil.which(name)]
        for compiler, file in itertools.product(compilers, files):
            self.run([compiler, *FLAGS, "-pedantic", f"-I{CORE}", "-fsyntax-only", file])
        for file in files:
            defined = self.run(["gcc", "-std=c11", f"-I{CORE}", "-dM", "-E", file])
            wider = re.findall(r"\b__USE_(?:GNU|MISC)\b", defined)  # glibc's words for it
            if wider:
                raise Failure(f"{file} asks for more than POSIX: {wider}")
        return f"{len(files)} files, by {' and '.join(compilers)}"

    def fuzz(self):
        alone = {"sources": (), "core": ("core/name.c",), "platform": ()}
        if shutil.which("clang") is None:
            program = self.build("fuzz_names", "address,undefined", **alone)
            return self.run([program, self.seconds, self.seed], self.seconds).strip()
        sanitizers = "fuzzer,address,undefined"
        program = self.build(
            "fuzz_names", sanitizers, "-DWITH_LIBFUZZER", **alone, compiler=("clang",)
        )
        corpus = Path(self.place())
        for number, seed in enumerate(SEEDS):
            (corpus / str(number)).write_bytes(seed)
        # 0 would be for ever, and for a seed: by the clock.
        limits = [f"-max_total_time={max(1, round(self.seconds))}", "-max_len=400"]
        told = self.run([program, *limits, f"-seed={self.seed}", corpus], self.seconds)
        return next(line for line in told.splitlines() if "DONE" in line).strip()

    def valgrind(self, tool, **drive):
        command = ("valgrind", f"--tool={tool}", "--quiet", "--error-exitcode=66")
        return self.drive("", under=(*command, "--suppressions=valgrind"), **drive)

    def memcheck(self):
        """Memory that is lost is the address campaign's: a child loses its parent's threads."""
        return self.valgrind("memcheck")

    def helgrind(self):
        return self.valgrind("helgrind", child_threads=0)


DEFAULT = (
    *("thread", "address", "undefined", "allocation", "musl", "aarch64", "narrow", "polling"),
    *("portable", "posix", "fuzz"),
)
NAMED = ("memcheck", "helgrind")


def run(name, seconds, seed):
    """Run one campaign and print its line. Whether nothing was found."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lockfile-core-") as scratch:
        try:
            verdict, found = getattr(Campaign(Path(scratch), seconds, seed), name)(), ""
        except NotHere as missing:
            print(f"{name:10} skipped: this machine has no {missing}", flush=True)
            return True
        except Failure as failure:
            verdict, found = "FAILED", str(failure)
    took = time.monotonic() - start
    print(f"{name:10} {took:4.0f} s  seed {seed}  {'' if found else 'well: '}{verdict}", flush=True)
    if found:
        print(found, flush=True)
    return not found


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("which", nargs="*", metavar="CAMPAIGN", help=", ".join(DEFAULT + NAMED))
    parser.add_argument("--seconds", type=float, default=30, help="for each that can go on")
    parser.add_argument("--seed", type=int, default=random.randrange(1, 1 << 31))
    arguments = parser.parse_args()
    for name in arguments.which:
        if name not in DEFAULT + NAMED:
            parser.error(f"no campaign is called {name}")
    results = [run(name, arguments.seconds, arguments.seed) for name in arguments.which or DEFAULT]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
