"""Holding by exec rules: every match and nothing else, how soon, 1,000 at once.

``python -m bench.hold_execs [EXECS]``.  Runs programs of its own names only.  Root.
"""

from __future__ import annotations

import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import clew
from clew.code.elf import ElfFile
from clew.hold.hold import HoldEvent

_FOLDER = Path(__file__).parent


@dataclass(slots=True)
class Seen:
    """What the holding side saw, times in ms."""

    reported: list[float] = field(default_factory=list)
    released: list[float] = field(default_factory=list)
    late: int = 0
    warnings: list[str] = field(default_factory=list)


def main(execs: int = 10_000) -> None:
    """Print everything."""
    with tempfile.TemporaryDirectory(prefix="clew-bench-") as name:
        folder = Path(name)
        os.environ["CLEW_RUNTIME_DIR"] = str(folder / "run")
        storm, yes, no = _build(folder)
        _storm(storm, yes, no, execs)
        _at_once(yes, 1000)


def _build(folder: Path) -> tuple[Path, Path, Path]:
    storm, leaf = folder / "storm", folder / "clew-bench-no"
    subprocess.run(["cc", "-O2", _FOLDER / "hold_storm.c", "-o", storm], check=True)
    subprocess.run(["cc", "-nostdlib", "-static", _FOLDER / "hold_leaf.c", "-o", leaf], check=True)
    shutil.copy(leaf, folder / "clew-bench-yes")
    return storm, folder / "clew-bench-yes", leaf


def _storm(storm: Path, yes: Path, no: Path, execs: int) -> None:
    print(f"\n{execs} execs by two processes, one in ten matching; each hold is checked and let go")
    seen = Seen()
    ran_at = _address_of_ran(yes)
    with clew.holding(f"exec:{yes.name}", max_held=4096) as holds:
        done = threading.Event()
        keeper = threading.Thread(target=_let_go, args=(holds, seen, ran_at, done))
        keeper.start()
        words: Sequence[str | Path] = [storm, str(execs // 2), yes, *[no] * 9]
        began = time.monotonic()
        both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        told = [[int(word) for word in process.communicate()[0].split()] for process in both]
        took = time.monotonic() - began
        done.set()
        keeper.join()
    stops, others = sum(row[0] for row in told), sum(sum(row[1:-1]) for row in told)
    wanted = execs // 10
    print(
        f"  held {len(seen.reported)} of {wanted}; stops seen by the parents {stops}; others stopped {others}"
    )
    print(f"  failed {sum(row[-1] for row in told)}; ran an instruction before the hold {seen.late}")
    print(f"  {execs / took:.0f} execs/s; {'; '.join(seen.warnings) or 'no warnings'}")
    _print_times("event to held, ms (bars: p50 1, p99 10)", seen.reported)
    _print_times("release to running, ms (bar: p99 5)", seen.released)


def _let_go(holds: clew.Holding, seen: Seen, ran_at: int, done: threading.Event) -> None:
    told: list[tuple[float, HoldEvent]] = []
    holds.session.listen(lambda event: told.append((time.monotonic_ns() / 1e6, event)))
    at = 0
    while not done.is_set() or at < len(told):
        if at == len(told):
            time.sleep(0.0005)
            continue
        when, event = told[at]
        at += 1
        if event.event == "warning":
            seen.warnings.append(event.reason)
        if event.event != "held" or event.hold is None:
            continue
        seen.reported.append(when - event.hold.since_ns / 1e6)
        seen.late += _ran(event.hold.pid, ran_at)
        began = time.monotonic_ns()
        holds.session.release(event.hold.id)
        seen.released.append((time.monotonic_ns() - began) / 1e6)


def _address_of_ran(program: Path) -> int:
    with ElfFile.open(program) as elf:
        return elf.symtab.named(b"ran")[0].value


def _ran(pid: int, address: int) -> int:
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        memory.seek(address)
        return int(struct.unpack("<i", memory.read(4))[0])


def _at_once(yes: Path, count: int) -> None:
    print(f"\n{count} held at once")
    with clew.holding(f"exec:{yes.name}", max_held=count) as holds:
        began = time.monotonic()
        # A thread that starts one would wait in it; vfork returns at the exec, so this does not.
        all_started = [subprocess.Popen([yes]) for _ in range(count)]
        for _ in range(count):
            holds.wait(timeout=30)
        held = time.monotonic()
        states = [
            Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            for process in all_started
        ]
        let_go = time.monotonic()
        holds.release_all()
        ended = [process.wait(30) for process in all_started]
        print(f"  stopped {states.count('T')}, all let go and ended {ended.count(0)}")
        print(
            f"  started and held in {held - began:.2f} s,"
            f" let go and ended in {time.monotonic() - let_go:.2f} s"
        )


def _print_times(what: str, times: list[float]) -> None:
    if times:
        points = statistics.quantiles(times, n=100)
        print(f"  {what}: p50 {points[49]:.2f}, p99 {points[98]:.2f}, most {max(times):.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
