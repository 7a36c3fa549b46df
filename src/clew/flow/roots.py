"""What is followed from: the command, from its exec on, or the processes that were named."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clew.errors import TraceError
from clew.flow.edges import Activations
from clew.trace.reader import Trace
from clew.trace.tasks import TaskSpan, TaskTable


@dataclass(frozen=True, slots=True)
class Roots:
    """The first threads of the root processes, and the moment that counts as zero."""

    leaders: tuple[TaskSpan, ...]
    since: int

    def own(self, acts: Activations, tasks: TaskTable) -> NDArray[np.bool_]:
        """Which activations are of a root itself, from ``since`` on.

        Of the command that is its first thread: what its others do has a cause, if only that they were made.
        """
        pids = {leader.id.pid for leader in self.leaders}
        task, start = acts.task, acts.start
        own = [tid for tid in np.unique(task).tolist() if tasks.ever_of(tid, pids)]
        mine = np.isin(task, own if tasks.root is None else [tid for tid in own if tid in pids])
        mine &= (start > self.since) | ((start == self.since) & (~acts.under_way | (tasks.root is None)))
        for i in np.flatnonzero(mine).tolist() if tasks.reused else ():
            t = int(start[i])
            leader = tasks.span(tasks.span(int(task[i]), t).id.pid, t)
            mine[i] = any(leader is root for root in self.leaders)
        return mine


def roots_of(trace: Trace, tasks: TaskTable) -> Roots:
    """The roots of a recording.  Raises TraceError if it has none."""
    if tasks.root is not None:
        return Roots((tasks.root,), tasks.root_time)
    pids = [int(pid) for pid in trace.meta.get("pids", [])]
    if not pids:
        raise TraceError(
            f"{trace.path} has no root: the command was not seen to start.",
            "Record with a command, or with -p PID.",
        )
    since = int(trace.meta.get("began", 0)) or _earliest(trace)
    return Roots(tuple(tasks.span(pid, since) for pid in pids), since)


def _earliest(trace: Trace) -> int:
    """The first moment the events tell of; 0 if there are none."""
    entered = trace.events["t0"]
    entered = np.where(entered == 0, trace.events["t"], entered)
    return int(entered.min()) if len(entered) else 0
