"""What the ptrace engine costs, beside ``strace -f`` of the same calls in the same run.

Bars: a program whose IPC is 1% of its calls, at most 1.5 times its bare time; nothing but IPC, no slower than
strace; with stacks, 20 times faster than ``strace -k``; short-lived children, no slower than strace.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from bench.record_pairs import Cost, Way, bar, build, clew, have, interleave, spread, title, told
from clew.engine.calls import recorded
from clew.kernel.syscalls import name_of

ROUNDS = 9
Table = list[dict[str, Cost]]


def main() -> None:
    """Print all four figures."""
    if not have("strace"):
        raise SystemExit("bench: strace is needed")
    with tempfile.TemporaryDirectory(prefix="clew-bench-") as name:
        folder = Path(name)
        _one_in_a_hundred(folder)
        _nothing_but_calls(folder)
        _stacks(folder)
        _children(folder)


def _recorded(*more: str) -> tuple[str, ...]:
    return (*clew(), "record", "-q", "--engine", "ptrace", *more, "-o", "trace", "--")


def _strace(*more: str) -> tuple[str, ...]:
    """strace of the calls that we record too."""
    calls = ",".join(sorted(name_of(nr) for nr in recorded() if nr < 440))
    return ("strace", "-f", *more, "-o", "strace.out", "-e", f"trace={calls}")


def _over(table: Table, slow: str, fast: str) -> list[float]:
    return [row[slow].wall / row[fast].wall for row in table]


def _one_in_a_hundred(folder: Path) -> None:
    title("one call in a hundred is IPC")
    program = build("ptrace_mixed", folder)
    ways = [Way("bare", (), 400), Way("clew", _recorded(), 400), Way("strace", _strace(), 20)]
    table = interleave(ways, [program], folder, ROUNDS)
    told(table, "wall")
    print(f"  clew over bare: {spread(_over(table, 'clew', 'bare'), '.2f')}; the bar is at most 1.5")
    print(f"  strace over bare: {spread(_over(table, 'strace', 'bare'), '.2f')}")


def _nothing_but_calls(folder: Path) -> None:
    title("nothing but IPC, no stacks")
    program = build("selfpipe", folder)
    ways = [
        Way("bare", (), 5000),
        Way("clew", _recorded("--no-stacks"), 5000),
        Way("stacks", _recorded(), 5000),
        Way("strace", _strace(), 5000),
    ]
    table = interleave(ways, [program], folder, ROUNDS)
    told(table, "wall")
    bar("strace over clew", _over(table, "strace", "clew"), 1)
    bar("strace (no stacks) over clew with stacks", _over(table, "strace", "stacks"), 1)


def _stacks(folder: Path) -> None:
    title("nothing but IPC, with stacks")
    program = build("selfpipe", folder)
    ways = [Way("bare", (), 500), Way("clew", _recorded(), 5000), Way("strace -k", _strace("-k"), 200)]
    table = interleave(ways, [program], folder, ROUNDS)
    told(table, "wall")
    bar("strace -k over clew", _over(table, "strace -k", "clew"), 20)


def _children(folder: Path) -> None:
    title("children that exec and end at once, per child")
    program = build("ptrace_children", folder)
    ways = [Way("bare", (), 100), Way("clew", _recorded(), 100), Way("strace", _strace(), 100)]
    table = interleave(ways, [program], folder, ROUNDS)
    told(table, "wall")
    bar("strace over clew", _over(table, "strace", "clew"), 1)
    thousand = statistics.median(row["clew"].wall for row in table) / 1e6
    print(f"  1,000 of them under clew: {thousand:.1f} s")


if __name__ == "__main__":
    main()
