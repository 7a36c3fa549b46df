"""Which edges are which hop: a message that a task took in piece by piece is one hop."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clew.flow.edges import Activations, Edges
from clew.flow.kinds import EdgeKind
from clew.model.event import ChannelType

_STREAMS = [channel for channel in ChannelType if channel.is_stream] + [ChannelType.PTY]


class Numbering:
    """The hops of a flow, numbered by when they left.

    ``order`` has one edge for each, that of the first piece; ``all`` every edge of the flow, by hop.
    """

    def __init__(
        self, events: NDArray[np.void], acts: Activations, edges: Edges, flow: NDArray[np.bool_]
    ) -> None:
        chosen = np.flatnonzero(flow)
        self.all = chosen[np.argsort(edges.left[chosen], kind="stable")]
        first = np.ones(len(self.all), bool)
        if len(self.all):
            first[1:] = ~_same_message(events, acts, edges, self.all)
        self._first = np.append(np.flatnonzero(first), len(self.all))
        self.order = self.all[first]
        self._number = np.zeros(len(edges.kind), np.int64)
        self._number[self.all] = np.cumsum(first)

    def number(self, edge: int) -> int:
        """The number of the hop an edge is, or is a piece of; 0 if it is not of the flow."""
        return int(self._number[edge])

    def first(self, edge: int) -> int:
        """The edge that stands for the hop an edge is of."""
        return int(self.order[self._number[edge] - 1])

    def pieces(self, edge: int) -> NDArray[np.int64]:
        """All edges of the hop that ``edge`` is of."""
        low, high = self._first[self._number[edge] - 1 : self._number[edge] + 1]
        pieces: NDArray[np.int64] = self.all[low:high]
        return pieces


def _same_message(
    events: NDArray[np.void], acts: Activations, edges: Edges, order: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether each edge but the first carried more of what the one before it carried, to the same task.

    Only what has no bounds comes in pieces; one call may send several datagrams (sendmmsg(2)).
    """
    message = edges.kind[order] == EdgeKind.MESSAGE
    same: NDArray[np.bool_] = message[1:] & message[:-1]
    for column in (edges.row_from[order], acts.task[edges.target[order]]):
        same &= column[1:] == column[:-1]
    pairs = np.flatnonzero(same)
    same[pairs] = np.isin(events["channel"][edges.row_from[order[pairs]]], _STREAMS)
    return same
