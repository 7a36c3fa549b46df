"""Which requests a server got, and how far each reached."""

from __future__ import annotations

import numpy as np

from clew.errors import UsageError
from clew.flow.build import Found
from clew.flow.follow import find
from clew.flow.kinds import Evidence
from clew.flow.numbering import Numbering
from clew.flow.reach import Spread, drop_doubles
from clew.flow.served import Connection, Request, accepted, connections_to, requests_to
from clew.flow.start import Starts, unknown
from clew.model.flow import Tier
from clew.model.requests import Requests, ServedRequest
from clew.model.rules import Glob, Served
from clew.trace.reader import Trace

_TIERS = (Tier.OBSERVED, Tier.CONTINUED, Tier.AMBIGUOUS, Tier.AMBIGUOUS)
"""By ``Evidence``."""


def requests_of(trace: Trace, server: Served, strict: bool = False) -> Requests:
    """The requests ``server`` got in a recording.  Raises UsageError if it got none."""
    found = find(trace, strict)
    web = found.events, found.connections, found.sockets
    pairs = requests_to(connections_to(server, *web))
    if not pairs:
        what = f"No request to {server.text} is in the recording."
        raise UsageError(what, unknown(one.address for one in accepted(*web) if one.requests))
    listing = _Listing(found, server)
    notes = [str(note) for note in trace.meta.get("notes", [])] + found.losses.notes([])
    requests = tuple(listing.one(n, *pair) for n, pair in enumerate(pairs, 1))
    return Requests(server.text, requests, {k: n for k, n in trace.lost.items() if n}, tuple(notes))


class _Listing:
    """Makes the lines."""

    def __init__(self, found: Found, server: Served) -> None:
        self._found = found
        self._spread = Spread(found.acts, found.edges, found.strict)
        self._starts = Starts(
            found.events, found.tasks, found.sockets, found.connections, found.acts, found.edges
        )
        self._name = _as_written(server)

    def one(self, n: int, connection: Connection, request: Request) -> ServedRequest:
        found, events = self._found, self._found.events
        entries = self._starts.entries(request.taken)
        first = request.taken[0]
        arrived, tid = int(events["t"][first]), int(events["tid"][first])
        sent = min([arrived, *found.edges.left[entries].tolist()])
        hops = self._hops(self._starts.begun(request.taken), entries)
        tiers = {tier.value: 0 for tier in Tier}
        for edge in hops:
            tiers[_TIERS[Evidence(int(found.edges.evidence[edge]))].value] += 1
        client = int(events["tid"][int(found.edges.row_from[entries[0]])]) if entries else 0
        ended = max((int(events["t"][row]) for row in request.answers), default=0)
        return ServedRequest(
            n=n,
            origin=f"request:{self._name},n={n}",
            t_ns=max(0, arrived - found.start.since),
            duration_ns=ended - sent if ended else None,
            client=found.tasks.party(client, sent) if client else None,
            far=connection.far,
            server=found.tasks.party(tid, arrived),
            socket=connection.address,
            tasks=len({int(found.acts.task[end]) for edge in hops for end in self._ends(edge)}),
            hops=len(hops),
            tiers=tiers,
        )

    def _ends(self, edge: int) -> tuple[int, int]:
        return int(self._found.edges.source[edge]), int(self._found.edges.target[edge])

    def _hops(self, begun: dict[int, int], entries: list[int]) -> list[int]:
        """The hops of the request's flow, an edge each; of an ambiguous one its likeliest, once."""
        found, edges = self._found, self._found.edges
        chosen = np.zeros(len(edges.kind), bool)
        chosen[[*self._spread.of(begun)[1], *entries]] = True
        drop_doubles(edges, chosen)
        hops: list[int] = Numbering(found.events, found.acts, edges, chosen).order.tolist()
        return hops


def _as_written(server: Served) -> str:
    """The server as ``--from`` reads it."""
    if server.socket is None or server.socket.exact is None:
        return server.text.replace(",", "\\,")
    return Glob.literal(server.text.encode("utf-8", "surrogateescape")).source
