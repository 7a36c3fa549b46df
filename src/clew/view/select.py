"""Which hops a picture draws: the path and what came back along it, or all of the flow."""

from __future__ import annotations

from clew.model.flow import Flow, Hop
from clew.model.task import TaskId


def drawn(flow: Flow, whole: bool) -> tuple[Hop, ...]:
    """The hops to draw, in order: everything if ``whole`` or if there is no path.

    Otherwise the path; what activations on it said to each other besides (a handshake); and the way
    back: replies that began in one of these activations and stayed with the path's tasks, hop by hop.
    A connection's earlier requests, which went elsewhere, are left to ``whole``.
    """
    if whole or not flow.path:
        return flow.hops
    path = set(flow.path)
    on_path = [hop for hop in flow.hops if hop.n in path]
    tasks = {party.id for hop in on_path for party in (hop.source, hop.target)}
    inside = {a for hop in on_path for a in (hop.source_activation, hop.target_activation)}
    chosen = []
    for hop in flow.hops:
        if hop.n in path or _belongs(hop, inside, tasks):
            inside.add(hop.target_activation)
            chosen.append(hop)
    return tuple(chosen)


def _belongs(hop: Hop, inside: set[int], tasks: set[TaskId]) -> bool:
    if hop.source_activation not in inside:
        return False
    return hop.target_activation in inside or (hop.reply and hop.target.id in tasks)
