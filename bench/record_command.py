"""The command line: ``clew --help``, and the wait for the path after ``virsh start`` has returned.

Bars: 120 ms; 2 s.
"""

from __future__ import annotations

import argparse
import os
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

    title("virsh start, seconds; the bar is 2 from virsh's end to the printed path")
    laps: list[tuple[float, ...]] = []
    try:
        with (
            _libvirt(argparse.Namespace()) as words,
            tempfile.TemporaryDirectory(prefix="clew-bench-") as folder,
        ):
            for _ in range(STARTS):
                laps.append(_start(words, Path(folder) / "trace"))
                subprocess.run(["virsh", "-q", "destroy", words[-1]], check=True, capture_output=True)
    except ClewError as error:
        print(f"  not measured: {error.cause}")
        return
    names = ("before virsh ran", "virsh itself", "until the path", "until our end")
    for name, values in zip(names, zip(*laps, strict=True), strict=True):
        print(f"  {name:16} {spread(values, '.2f')}")


def _start(words: list[str], trace: Path) -> tuple[float, ...]:
    """Follow one start: seconds until virsh's exec, its end, and from there to the path and to our end."""
    began = time.monotonic_ns()
    follow = subprocess.Popen(
        [*clew(), "follow", "-o", str(trace), "--until", UNTIL, "--", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert follow.stderr is not None
    said, printed = b"", began
    while data := os.read(follow.stderr.fileno(), 1 << 16):
        said, printed = said + data, time.monotonic_ns()
    if follow.wait():
        raise SystemExit(f"bench: virsh start failed: {said.decode(errors='replace')}")
    ended = time.monotonic_ns()
    first, last = _root(trace)
    return (first - began) / 1e9, (last - first) / 1e9, (printed - last) / 1e9, (ended - last) / 1e9


def _root(trace: Path) -> tuple[int, int]:
    """When the command began and ended, CLOCK_MONOTONIC ns."""
    recording = Trace(trace)
    root = recording.meta["root_pid"]
    times = {life.kind: life.t for life in recording.lives if life.tid == root}
    return times[EventKind.EXECED], times[EventKind.EXITED]


if __name__ == "__main__":
    main()
