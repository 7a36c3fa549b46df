"""The backtraces a flow needs: from the trace if they were kept there, unwound from saved stacks if not."""

from __future__ import annotations

import json
from collections.abc import Iterable

from clew.errors import TraceError
from clew.model.frame import Backtrace, Frame
from clew.stack.session import UnwindSession
from clew.trace.kept_frames import KeptFrames
from clew.trace.reader import Trace
from clew.trace.spool import FRAMES
from clew.trace.tasks import TaskTable


class Backtraces:
    """Backtraces by stack id.  A stack that was lost, or not taken, has the empty one."""

    def __init__(self, trace: Trace, tasks: TaskTable) -> None:
        self._trace, self._tasks = trace, tasks
        self._known = _read(trace)
        self.problems: dict[bytes, str] = {}

    def __getitem__(self, stack_id: int) -> Backtrace:
        return self._known.get(stack_id, ())

    @property
    def known(self) -> dict[int, Backtrace]:
        """All backtraces there are so far, by stack id."""
        return dict(self._known)

    def prepare(self, stack_ids: Iterable[int]) -> None:
        """Unwind and name those of ``stack_ids`` that are not known yet, all at once."""
        session = UnwindSession()
        walks = {}
        for stack_id in set(stack_ids) - self._known.keys() - {0}:
            sample = self._trace.stack(stack_id)
            if sample is not None:
                walks[stack_id] = session.walk(sample, self._tasks.mappings(sample.pid, sample.t_ns))
        session.name_all(walks.values())
        for stack_id, spots in walks.items():
            self._known[stack_id] = session.backtrace(spots)
        self.problems.update(session.problems)

    def keep(self, into: KeptFrames) -> None:
        """Write what is known for the trace, so that it can be shown where the binaries are not."""
        frames: dict[Frame, int] = {}
        stacks = {
            str(stack_id): [frames.setdefault(frame, len(frames)) for frame in backtrace]
            for stack_id, backtrace in self._known.items()
        }
        table = [
            [f.function, f.module.decode("utf-8", "surrogateescape"), f.offset, f.file, f.line, f.inlined]
            for f in frames
        ]
        into.write(json.dumps({"frames": table, "stacks": stacks}))


def _read(trace: Trace) -> dict[int, Backtrace]:
    if not trace.kept_frames:
        return {}
    try:
        kept = json.loads(trace.kept_frames)
        frames = [
            Frame(str(fn), os_bytes(module), int(offset), str(file), int(line), bool(inlined))
            for fn, module, offset, file, line, inlined in kept["frames"]
        ]
        return {int(key): tuple(frames[i] for i in chain) for key, chain in kept["stacks"].items()}
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        path = trace.path / FRAMES
        raise TraceError(
            f"{path} is damaged.", f"Remove it; the backtraces are made again: rm {path}"
        ) from error


def os_bytes(text: str) -> bytes:
    """Bytes of a path that JSON kept with surrogates for what is not UTF-8."""
    return text.encode("utf-8", "surrogateescape")
