"""``T#12``: a hop of a recording, as an argument, and the core file of one of its ends."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from clew.errors import UsageError

_MODULES = ("clew.flow.hop_end", "clew.debugger.hop_core", "clew.stack.session")


@dataclass(frozen=True, slots=True)
class HopCore:
    """A core file: its bytes, the program it is of, and what a reader should know that it lacks."""

    data: bytes
    program: bytes
    missing: tuple[str, ...]


def is_hop(text: str) -> bool:
    """Whether the argument names a hop, not a hold (``H1``)."""
    return "#" in text


def core_of(text: str, arrived: bool) -> HopCore:
    """The core of the end of the hop that ``TRACE#N`` names.  Raises UsageError, TraceError.

    The recording and the programs' files are read without rights, as by ``clew show``: what is found comes
    back through a file in memory.
    """
    from clew.cli.apart import apart
    from clew.trace.reader import Trace

    name, _, number = text.rpartition("#")
    if not name or not number.isascii() or not number.isdigit():
        raise UsageError(f"{text!r} names no hop.", "Write the trace's name, # and the hop's number: T#12")
    trace = Trace(Path(name))
    with os.fdopen(os.memfd_create("clew-core"), "r+b") as found:

        def make() -> None:
            from clew.debugger.hop_core import hop_core
            from clew.flow.hop_end import hop_end

            end = hop_end(trace, int(number), arrived)
            core, missing = hop_core(end.party.id, end.party.comm, end.image, end.sample, end.mappings)
            words = (end.image.exe, *map(os.fsencode, missing))
            found.write(b"\n".join(word.replace(b"\n", b"?") for word in words) + b"\n\n" + core)
            found.flush()

        apart(make, _MODULES)
        found.seek(0)
        words, _, core = found.read().partition(b"\n\n")
    program, *missing = words.split(b"\n")
    return HopCore(core, program, tuple(map(os.fsdecode, missing)))
