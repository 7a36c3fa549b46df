"""What a root caused, and the path from it to a target: walks over the edges that activations gave."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clew.flow.edges import FOREVER, Activations, Edges
from clew.flow.kinds import EdgeKind

_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Reach:
    """Which activations and edges belong to the flow.

    ``acts`` and ``edges`` are masks.  An edge belongs if its source did when it left, and it leads to another
    task (or is an exec); so a reply or a dead end belongs too.  Only edges that began their target carry the
    flow on.
    """

    acts: NDArray[np.bool_]
    edges: NDArray[np.bool_]


def reach(acts: Activations, edges: Edges, roots: NDArray[np.bool_]) -> Reach:
    """What ``roots`` (a mask of activations) caused.

    Edges are in order of their arrival and a cause arrives before what it causes, so one pass is enough.
    """
    since = array("q", np.where(roots, -1, FOREVER).astype(np.int64).tobytes())
    carrying = np.flatnonzero(edges.trigger)
    for low in range(0, len(carrying), _CHUNK):
        part = carrying[low : low + _CHUNK]
        columns = (edges.source, edges.target, edges.left, edges.arrived)
        for source, target, left, arrived in zip(*(c[part].tolist() for c in columns), strict=True):
            if since[source] <= left and arrived < since[target]:
                since[target] = arrived
    reached = np.frombuffer(since, np.int64)
    leaves = (acts.task[edges.source] != acts.task[edges.target]) | (edges.kind == EdgeKind.EXEC)
    leaves &= edges.kind != EdgeKind.CONTINUED
    # The end of a child belongs to the flow of whoever waited for it, whatever the child did last.
    waited = (edges.kind == EdgeKind.EXIT) & (reached[edges.target] <= edges.arrived)
    return Reach(reached < FOREVER, leaves & (waited | (reached[edges.source] <= edges.left)))


def path_to(edge: int, edges: Edges, flow: Reach, roots: NDArray[np.bool_]) -> list[int]:
    """Edges from a root to ``edge``, in order; [edge] alone if it starts at a root.

    Of several causes of one activation the last to arrive before the step in question is taken: with the
    others there, it is the one that set the work going.
    """
    triggers = np.flatnonzero(edges.trigger & flow.acts[edges.source])
    triggers = triggers[np.argsort(edges.target[triggers], kind="stable")]
    began = edges.target[triggers]
    path, at = [edge], edge
    while not roots[edges.source[at]]:
        low, high = np.searchsorted(began, (edges.source[at], edges.source[at] + 1))
        before = triggers[low:high]
        before = before[(before < at) & (edges.arrived[before] <= edges.left[at])]
        if not len(before):
            break
        at = _preferred(before, edges)
        path.append(at)
    path.reverse()
    return [i for i in path if flow.edges[i]]


def _preferred(before: NDArray[np.int64], edges: Edges) -> int:
    """The last of some edges to arrive; of several in one step, what continued their task's work."""
    last = before[edges.arrived[before] == edges.arrived[before[-1]]]
    continued = last[edges.kind[last] == EdgeKind.CONTINUED]
    return int(continued[-1] if len(continued) else last[-1])
