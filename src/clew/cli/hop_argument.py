"""``T#12``: a hop of a recording, as an argument."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clew.errors import UsageError

if TYPE_CHECKING:
    from clew.flow.hop_end import HopEnd


def is_hop(text: str) -> bool:
    """Whether the argument names a hop, not a hold (``H1``)."""
    return "#" in text


def hop_end_named(text: str, arrived: bool) -> HopEnd:
    """The end of the hop that ``TRACE#N`` names.  Raises UsageError, TraceError."""
    from clew.flow.hop_end import hop_end

    trace, _, number = text.rpartition("#")
    if not trace or not number.isascii() or not number.isdigit():
        raise UsageError(f"{text!r} names no hop.", "Write the trace's name, # and the hop's number: T#12")
    return hop_end(Path(trace), int(number), arrived)


def core_of(text: str, arrived: bool) -> tuple[bytes, HopEnd, list[str]]:
    """A core file of the end of a hop, that end, and what a reader of the core should know."""
    from clew.debugger.hop_core import hop_core

    end = hop_end_named(text, arrived)
    core, missing = hop_core(end.party.id, end.party.comm, end.image, end.sample, end.mappings)
    return core, end, missing
