"""What recording adds to one system call with stacks, beside ``perf record --call-graph dwarf,2048``.

Bars: less than perf, and no record lost where perf loses some.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path

from bench.record_pairs import Way, bar, build, clew, have, interleave, ratios, title, told

ROUNDS = 7
_CLEW, _PERF = 400_000, 25_000
_LONG = 200_000


def main() -> None:
    """Print the times, then the losses of a longer run."""
    title("added to one system call, with stacks")
    with tempfile.TemporaryDirectory(prefix="clew-bench-") as name:
        folder = Path(name)
        program = build("selfpipe", folder)
        ways = [Way("bare", (), _CLEW), Way("clew", (*clew(), "record", "-q", "-o", "trace", "--"), _CLEW)]
        if have("perf"):
            ways += [
                Way("perf", _perf("raw_syscalls:*"), _PERF),
                Way("perf enter", _perf("raw_syscalls:sys_enter"), _PERF),
            ]
        table = interleave(ways, [program], folder, ROUNDS)
        told(table, "wall")
        told(table, "cpu")
        for tool in ("perf", "perf enter"):
            if tool in table[0]:
                for measure in ("wall", "cpu"):
                    bar(
                        f"{tool} adds, over what clew adds, {measure}",
                        ratios(table, tool, "clew", measure),
                        1,
                    )
        _losses(program, folder)


def _perf(event: str) -> tuple[str, ...]:
    return ("perf", "record", "-q", "-B", "-e", event, "--call-graph", "dwarf,2048", "-o", "perf.data")


def _losses(program: str, folder: Path) -> None:
    """How much of a longer run each keeps.  perf takes a sample at entry and one at return of each call."""
    subprocess.run(
        [*clew(), "record", "-q", "-o", "trace", "--", program, str(_LONG)],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    lost = sum(json.loads((folder / "trace" / "meta.json").read_text())["lost"].values())
    print(f"  clew lost {lost:,} of the records of {2 * _LONG:,} calls")
    if not have("perf"):
        return
    subprocess.run(
        [*_perf("raw_syscalls:*"), program, str(_LONG)], cwd=folder, check=True, capture_output=True
    )
    report = subprocess.run(
        ["perf", "report", "--stats", "-i", "perf.data"],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    kept = int((re.search(r"SAMPLE events: +(\d+)", report) or ["", "0"])[1])
    print(f"  perf lost {1 - kept / (4 * _LONG):.1%} of {4 * _LONG:,} samples")


if __name__ == "__main__":
    main()
