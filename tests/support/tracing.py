"""Record a command with an engine of one's choice, in this process; small C programs."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from clew.engine.bpf.recorder import BpfEngine
from clew.engine.engine import Engine, RecordOutcome, RecordRequest
from clew.engine.ptrace.engine import PtraceEngine
from clew.model.event import EventKind
from clew.trace.reader import Events, Life, Trace
from clew.trace.spool import SpoolWriter
from tests.support import built

_FLAGS = ("-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread")


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recording: how it ended, and the trace."""

    outcome: RecordOutcome
    trace: Trace

    @property
    def lives(self) -> list[Life]:
        """All lifecycle records."""
        return self.trace.lives

    def events(self, *kinds: EventKind) -> Events:
        """The events of these kinds, in order of time."""
        events = self.trace.events
        found: Events = events[[int(kind) in kinds for kind in events["kind"]]]
        return found


def record(
    folder: Path,
    *command: str | Path,
    pids: Sequence[int] = (),
    filtered: bool = True,
    stopping: Callable[[], bool] = lambda: False,
    exclude: Sequence[bytes] = (),
    buffer_bytes: int = 1 << 22,
    engine: str = "ptrace",
) -> Recorded:
    """Record ``command`` (or ``pids``) and its tree into ``folder``/trace; it ends, or ``stopping()``."""
    spool = SpoolWriter(folder / "trace")
    spool.write_meta()
    words = tuple(os.fsencode(word) for word in command)
    request = RecordRequest(
        command=words, pids=tuple(pids), exclude=tuple(exclude), buffer_bytes=buffer_bytes, scope="tree"
    )
    source: Engine = BpfEngine() if engine == "bpf" else PtraceEngine(filtered=filtered)
    try:
        outcome = source.record(request, spool, stopping)
    finally:
        spool.close()
    return Recorded(outcome, Trace(folder / "trace"))


def compiled(source: str, *flags: str) -> Path:
    """The program of this C text, built once.  Raises CalledProcessError if it does not compile."""
    told = hashlib.sha256(repr((source, flags, _FLAGS)).encode()).hexdigest()[:16]
    folder = built.folder() / f"inline-{told}"
    program = folder / "program"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            fresh = Path(scratch) / "program"
            command = ["cc", "-x", "c", *_FLAGS, *flags, "-", "-o", str(fresh)]
            subprocess.run(command, input=source.encode(), check=True, capture_output=True)
            fresh.rename(program)
    return program


def status_field(pid: int, name: str) -> str:
    """One field of /proc/PID/status; "" if the process is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return value.strip()
    return ""


@dataclass(slots=True)
class Lines:
    """What a program writes to a pipe, line by line."""

    fd: int
    _rest: bytes = field(default=b"")

    def next(self) -> bytes:
        """The next line, without its end; b"" when no one holds the other end any more."""
        while b"\n" not in self._rest:
            more = os.read(self.fd, 4096)
            if not more:
                last, self._rest = self._rest, b""
                return last
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return line


@contextmanager
def lines_pipe() -> Iterator[tuple[Lines, int]]:
    """A reader of lines, and the descriptor that a command shall write them to (close it once given)."""
    taken, given = os.pipe()
    try:
        yield Lines(taken), given
    finally:
        os.close(taken)
        with suppress(OSError):
            os.close(given)
