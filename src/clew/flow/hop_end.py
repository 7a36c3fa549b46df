"""One end of a recorded hop as it was: the task, its program, its saved stack, the files mapped then."""

from __future__ import annotations

from dataclasses import dataclass

from clew.errors import TraceError
from clew.flow.backtraces import Backtraces
from clew.flow.build import Builder, ends
from clew.flow.follow import find
from clew.model.frame import Mapping, StackSample
from clew.model.task import Image, Party
from clew.trace.reader import Trace


@dataclass(frozen=True, slots=True)
class HopEnd:
    """Where a task stood when a hop left it, or reached it."""

    party: Party
    image: Image
    sample: StackSample
    mappings: tuple[Mapping, ...]


def hop_end(trace: Trace, number: int, arrived: bool) -> HopEnd:
    """The end of hop ``number`` of the trace's flow: where it left, or where it ``arrived``.

    Raises TraceError if there is no such hop, or no stack of that end was saved.
    """
    found = find(trace)
    order = Builder(found, Backtraces(trace, found.tasks)).order
    if not 1 <= number <= len(order):
        raise TraceError(
            f"The trace {trace.path} has no hop {number}: it has {len(order)}.", "`clew show` lists them."
        )
    end = ends(found, int(order[number - 1]))[arrived]
    sample = trace.stack(end.stack) if end.stack else None
    if sample is None:
        raise TraceError(
            f"No stack was saved where hop {number} {'arrived' if arrived else 'left'}.",
            f"The end where it {'left' if arrived else 'arrived'} may have one. A task just born has "
            "none, and a recording made with --no-stacks has none at all.",
        )
    tasks = found.tasks
    return HopEnd(
        tasks.party(end.tid, end.t),
        tasks.image_span(end.tid, end.t).image,
        sample,
        tuple(tasks.mappings(sample.pid, sample.t_ns)),
    )
