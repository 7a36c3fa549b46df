"""A million events a second for ten seconds: what is lost, whether that is counted, what the recorder uses.

Bar: nothing lost at the default buffer; in any case recorded + lost = produced, exactly.  A second run with a
buffer far too small shows that the count stays exact when much is lost.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from bench.record_pairs import build, clew, title
from clew.model.event import ChannelType, EventKind
from clew.trace.layout import FRAMED_EVENT

RATE, SECONDS, WORKERS = 1_000_000, 10, 2
_TALK = (EventKind.SEND, EventKind.RECV)
_SMALL = """import sys; from pathlib import Path
from clew.engine.bpf.recorder import BpfEngine
from clew.engine.engine import RecordRequest
from clew.trace.spool import SpoolWriter
spool = SpoolWriter(Path("trace"))
command = tuple(word.encode() for word in sys.argv[1:])
outcome = BpfEngine().record(
    RecordRequest(command=command, scope="tree", stacks=False, buffer_bytes=1 << 16), spool, lambda: False)
spool.write_meta(finished=True, lost=outcome.lost)
"""


def main() -> None:
    """Print both runs."""
    title(f"{RATE:,} events a second for {SECONDS} s")
    with tempfile.TemporaryDirectory(prefix="clew-bench-") as name:
        folder = Path(name)
        flood = [build("flood", folder), str(RATE), str(SECONDS), str(WORKERS)]
        record = [*clew(), "record", "-q", "--scope", "tree", "-o", "trace"]
        _measure("default buffer, no stacks", [*record, "--no-stacks", "--", *flood], folder)
        _measure("default buffer, with stacks", [*record, "--", *flood], folder)
        _measure("a buffer of 64 KiB", [sys.executable, "-c", _SMALL, *flood], folder)


def _measure(what: str, words: list[str], folder: Path) -> None:
    with (folder / "out").open("w") as out:
        recorder = subprocess.Popen(words, cwd=folder, stdout=out)
        _, status, used = os.wait4(recorder.pid, 0)
    recorder.returncode = os.waitstatus_to_exitcode(status)
    if recorder.returncode:
        raise SystemExit(f"bench: the recorder failed ({recorder.returncode})")
    took, busy = map(float, (folder / "out").read_text().split())
    cpu = used.ru_utime + used.ru_stime - busy
    recorded, lost = _counts(folder / "trace")
    produced = RATE * SECONDS
    exact = "exact" if recorded + lost == produced else f"WRONG BY {recorded + lost - produced:,}"
    print(
        f"  {what}: {produced / took:,.0f} events/s for {took:.1f} s; lost {lost:,} ({lost / produced:.3%});"
    )
    print(f"    recorded {recorded:,} + lost {lost:,} = {recorded + lost:,} of {produced:,}: {exact};")
    print(
        f"    the recorder used {cpu:.2f} s of CPU ({cpu / took:.0%} of one), the program {busy:.2f} s",
        flush=True,
    )


def _counts(trace: Path) -> tuple[int, int]:
    """Records of pipe traffic that are in the trace, and those counted as lost (the program has no other)."""
    events = np.memmap(trace / "events.spool", FRAMED_EVENT, "r")
    recorded = 0
    for low in range(0, len(events), 1 << 20):
        part = events[low : low + (1 << 20)]
        talk = np.isin(part["kind"], [int(kind) for kind in _TALK]) & (
            part["channel"] == int(ChannelType.PIPE)
        )
        recorded += int(np.count_nonzero(talk))
    lost = json.loads((trace / "meta.json").read_text())["lost"]
    return recorded, sum(lost.get(kind.name.lower(), 0) for kind in _TALK)


if __name__ == "__main__":
    main()
