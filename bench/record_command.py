"""The command line: ``clew --help``, and the wait for the path after ``virsh start`` has returned.

Bars: 120 ms; 2 s.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

from bench.record_pairs import clew, spread, title
from clew.errors import ClewError
from clew.model.event import EventKind
from clew.trace.reader import Trace

HELPS, STARTS = 15, 5
UNTIL = "exec:*qemu-system-x86_64"


def main() -> None:
    """Print both."""
    _help()
    _virsh()


def _help() -> None:
    title("clew --help, ms; the bar is 120")
    taken = []
    for _ in range(HELPS):
        began = time.monotonic()
        subprocess.run([*clew(), "--help"], check=True, capture_output=True)
        taken.append((time.monotonic() - began) * 1e3)
    print(f"  {spread(taken, '.0f')}")


def _virsh() -> None:
    """A throw-away guest on the machine's libvirt, as ``clew demo libvirt`` makes one."""
    from clew.cli.demo import _libvirt

    title("virsh start, seconds from virsh's end to ours; the bar is 2")
    until, waits, before = [], [], []
    try:
        with (
            _libvirt(argparse.Namespace()) as words,
            tempfile.TemporaryDirectory(prefix="clew-bench-") as folder,
        ):
            for _ in range(STARTS):
                trace = Path(folder) / "trace"
                began = time.monotonic_ns()
                done = subprocess.run(
                    [*clew(), "follow", "-o", str(trace), "--until", UNTIL, "--", *words],
                    check=False,
                    capture_output=True,
                    text=True,
                )
                ended = time.monotonic_ns()
                if done.returncode:
                    raise SystemExit(f"bench: virsh start failed: {done.stderr}")
                subprocess.run(["virsh", "-q", "destroy", words[-1]], check=True, capture_output=True)
                first, last = _root(trace)
                before.append((first - began) / 1e9)
                until.append((last - first) / 1e9)
                waits.append((ended - last) / 1e9)
    except ClewError as error:
        print(f"  not measured: {error.cause}")
        return
    print(f"  before virsh ran {spread(before, '.2f')}")
    print(f"  virsh itself     {spread(until, '.2f')}")
    print(f"  after it         {spread(waits, '.2f')}")


def _root(trace: Path) -> tuple[int, int]:
    """When the command began and ended, CLOCK_MONOTONIC ns."""
    recording = Trace(trace)
    root = recording.meta["root_pid"]
    times = {life.kind: life.t for life in recording.lives if life.tid == root}
    return times[EventKind.EXECED], times[EventKind.EXITED]


if __name__ == "__main__":
    main()
