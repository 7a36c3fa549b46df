"""How long, and in how much memory, a recording becomes a path: 1M and 10M events.

    python bench/rebuild.py [EVENTS ...]

The bars: 1M in 3 s, 10M in 30 s, 2 GiB, growth no worse than n log n.  CPU seconds are printed beside wall
seconds: on a machine that is shared only they can be compared.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

from bench.synthetic import write  # noqa: E402 (run as a script, too)


def measure(path: Path) -> None:
    """In a process of its own: follow, and print wall s, CPU s, RSS MiB, hops of the path."""
    wall, cpu = time.monotonic(), time.process_time()
    from clew.flow.follow import Target, follow
    from clew.model.rules import parse_target
    from clew.trace.reader import Trace

    flow = follow(Trace(path), Target("exec:target", parse_target("exec:target")), whole=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert flow.path, "no path was found"
    print(f"{time.monotonic() - wall:.2f} {time.process_time() - cpu:.2f} {peak:.0f} {len(flow.path)}")


def main(sizes: list[int]) -> None:
    """One line for each size."""
    print(f"{'events':>12} {'wall s':>8} {'cpu s':>8} {'us/event':>9} {'RSS MiB':>8} {'path':>5}")
    for events in sizes:
        with tempfile.TemporaryDirectory(prefix="clew-bench-") as folder:
            write(Path(folder) / "trace", events)
            out = subprocess.run(
                [sys.executable, __file__, "--measure", str(Path(folder) / "trace")],
                capture_output=True,
                text=True,
                check=False,
            )
        if out.returncode:
            raise SystemExit(out.stderr)
        wall, cpu, rss, hops = out.stdout.split()
        each = float(cpu) / events * 1e6
        print(f"{events:>12,} {wall:>8} {cpu:>8} {each:>9.2f} {rss:>8} {hops:>5}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(Path(sys.argv[2]))
    else:
        main([int(size) for size in sys.argv[1:]] or [1_000_000, 10_000_000])
