"""What a root caused, and the path from it to a target: walks over the edges that activations gave."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clew.flow.edges import Activations, EdgeKind


@dataclass(frozen=True, slots=True)
class Reach:
    """Which activations and edges belong to the flow.

    ``acts`` and ``edges`` are masks.  An edge belongs if its source does and it leads to another task (or
    is an exec), and so a reply or a dead end belongs too; only edges that began their target carry the flow
    on.
    """

    acts: NDArray[np.bool_]
    edges: NDArray[np.bool_]


def reach(acts: Activations, edges: dict[str, NDArray[np.int64]], roots: NDArray[np.bool_]) -> Reach:
    """What ``roots`` (a mask of activations) caused.

    Edges are in order of their arrival and a cause arrives before what it causes, so one pass is enough.
    """
    reached = bytearray(roots.astype(np.uint8).tobytes())
    carrying = np.flatnonzero(edges["trigger"])
    for source, target in zip(
        edges["source"][carrying].tolist(), edges["target"][carrying].tolist(), strict=True
    ):
        if reached[source]:
            reached[target] = 1
    mask = np.frombuffer(reached, np.uint8).astype(bool)
    task = acts.column("task")
    leaves = (task[edges["source"]] != task[edges["target"]]) | (edges["kind"] == EdgeKind.EXEC)
    if not len(leaves):
        return Reach(mask, leaves)
    # The end of a child belongs to the flow of whoever waited for it, whatever the child did last.
    waited = (edges["kind"] == EdgeKind.EXIT) & mask[edges["target"]]
    return Reach(mask, (mask[edges["source"]] | waited) & leaves)


def path_to(
    edge: int, edges: dict[str, NDArray[np.int64]], flow: Reach, roots: NDArray[np.bool_]
) -> list[int]:
    """Edges from a root to ``edge``, in order; [edge] alone if it starts at a root.

    Of several causes of one activation the last to arrive before the step in question is taken: with the
    others there, it is the one that set the work going.
    """
    triggers: dict[int, list[int]] = {}
    for i in np.flatnonzero((edges["trigger"] != 0) & flow.acts[edges["source"]]).tolist():
        triggers.setdefault(int(edges["target"][i]), []).append(i)
    path, seen, at = [edge], {edge}, edge
    while not roots[edges["source"][at]]:
        before = [i for i in triggers.get(int(edges["source"][at]), ()) if i < at and i not in seen]
        if not before:
            break
        at = before[-1]
        seen.add(at)
        path.append(at)
    path.reverse()
    return [i for i in path if flow.edges[i]]
