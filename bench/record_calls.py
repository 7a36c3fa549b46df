"""What recording adds to one system call, without stacks, beside ``strace -f`` and ``perf record``.

The program writes to its own pipe and reads it back.  Bars: strace adds at least 30 times as much as we do,
perf at least 4 times.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.record_pairs import Way, bar, build, clew, have, interleave, ratios, title, told

ROUNDS = 9
STATS = Path("/proc/sys/kernel/bpf_stats_enabled")
_CLEW, _PERF, _STRACE = 400_000, 200_000, 10_000
_COUNTERS = """bpftool prog show -j >before
'{program}' {rounds}
bpftool prog show -j >after
cat /proc/$PPID/fdinfo/* >recorder 2>/dev/null || :"""


def main() -> None:
    """Print both figures."""
    with tempfile.TemporaryDirectory(prefix="clew-bench-") as name:
        folder = Path(name)
        program = build("selfpipe", folder)
        _beside(program, folder)
        _own(program, folder)


def _beside(program: str, folder: Path) -> None:
    title("added to one system call, no stacks")
    ways = [
        Way("bare", (), _CLEW),
        Way("clew", (*clew(), "record", "-q", "--no-stacks", "-o", "trace", "--"), _CLEW),
    ]
    if have("strace"):
        ways.append(Way("strace", ("strace", "-f", "-o", "strace.out"), _STRACE))
    if have("perf"):
        ways.append(
            Way("perf", ("perf", "record", "-q", "-B", "-e", "raw_syscalls:*", "-o", "perf.data"), _PERF)
        )
    table = interleave(ways, [program], folder, ROUNDS)
    told(table, "wall")
    told(table, "cpu")
    for tool, least in (("strace", 30), ("perf", 4)):
        if tool in table[0]:
            bar(f"{tool} adds, over what clew adds, by the clock", ratios(table, tool, "clew", "wall"), least)
    if "perf" in table[0]:
        bar("perf adds, over what clew adds, of CPU time", ratios(table, "perf", "clew", "cpu"), 4)


def _own(program: str, folder: Path) -> None:
    """The kernel's own account of each probe: a figure that other work on the machine hardly touches."""
    if not (have("bpftool") and STATS.exists()):
        return
    title("each probe's own time (kernel.bpf_stats_enabled, which itself shows as some 60 ns a run)")
    script = _COUNTERS.format(program=program, rounds=_CLEW)
    for stacks in ((), ("--no-stacks",)):
        with counting():
            subprocess.run(
                [*clew(), "record", "-q", *stacks, "-o", "trace", "--", "sh", "-c", script],
                cwd=folder,
                check=True,
                capture_output=True,
            )
        print("  no stacks" if stacks else "  with stacks")
        for probe, runs, ns in _counted(folder):
            if runs > _CLEW:
                print(f"    {probe:24} {ns / runs:6.0f} ns a run, {runs:,} runs")


@contextmanager
def counting() -> Iterator[None]:
    """The kernel counts what BPF programs cost, as long as this lasts."""
    before = STATS.read_text()
    STATS.write_text("1\n")
    try:
        yield
    finally:
        STATS.write_text(before)


def _counted(folder: Path) -> Iterator[tuple[str, int, int]]:
    """Probe, runs and nanoseconds between the two looks, for the recorder's own programs only."""
    own = set(map(int, re.findall(r"^prog_id:\s*(\d+)", (folder / "recorder").read_text(), re.MULTILINE)))
    before, after = (
        {row["id"]: row for row in json.loads((folder / name).read_text()) if row["id"] in own}
        for name in ("before", "after")
    )
    for number, row in after.items():
        old = before[number]
        runs, ns = (row.get(key, 0) - old.get(key, 0) for key in ("run_cnt", "run_time_ns"))
        yield row["name"], runs, ns


if __name__ == "__main__":
    main()
