"""What recording costs whoever does not talk: loading the probes, and calls that are not recorded."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.record_pairs import Way, build, clew, interleave, spread, title, told
from clew.engine.bpf.parts import RECORDING

TIMES = 9
_CALLS = 2_000_000


def main() -> None:
    """Print both."""
    _loading()
    title("added to a system call that is not recorded")
    with tempfile.TemporaryDirectory(prefix="clew-bench-") as name:
        folder = Path(name)
        record = (*clew(), "record", "-q", "-o", "trace")
        ways = [Way("bare", (), _CALLS), Way("clew", (*record, "--"), _CALLS)]
        table = interleave(ways, [build("unrecorded", folder)], folder, TIMES)
        told(table, "wall")
        told(table, "cpu")


@contextmanager
def _timed(into: list[float]) -> Iterator[None]:
    began = time.monotonic()
    yield
    into.append((time.monotonic() - began) * 1e3)


def _loading() -> None:
    title("the probes, ms")
    opened: list[float] = []
    loaded: list[float] = []
    attached: list[float] = []
    detached: list[float] = []
    for _ in range(TIMES):
        with _timed(opened):
            probe = RECORDING.open()
        with _timed(loaded):
            probe.load()
        with _timed(attached):
            for program in probe.programs():
                probe.attach(program)
        with _timed(detached):
            probe.close()
    for what, values in (("open", opened), ("load", loaded), ("attach", attached), ("detach", detached)):
        print(f"  {what:8} {spread(values, '.0f')}")


if __name__ == "__main__":
    main()
