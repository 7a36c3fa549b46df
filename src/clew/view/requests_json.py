"""The requests a server got, as JSON (docs/json.md, "Requests")."""

from __future__ import annotations

import json
from typing import Any

from clew.model.requests import Requests, ServedRequest
from clew.view.escape import json_text
from clew.view.json_view import ms, task


def requests_json(found: Requests) -> str:
    """One JSON object, a request a line, plain ASCII."""
    lines = ",\n".join(json.dumps(_request(request)) for request in found.requests)
    head = {"server": json_text(found.server)}
    foot = {"lost": found.lost, "notes": [json_text(note) for note in found.notes]}
    return f'{json.dumps(head)[:-1]}, "requests": [\n{lines}\n],\n{json.dumps(foot)[1:]}\n'


def _request(one: ServedRequest) -> dict[str, Any]:
    return {
        "n": one.n,
        "from": json_text(one.origin),
        "t_ms": ms(one.t_ns),
        "duration_ms": None if one.duration_ns is None else ms(one.duration_ns),
        "client": task(one.client) if one.client else None,
        "client_address": json_text(one.far),
        "server": task(one.server),
        "socket": json_text(one.socket),
        "tasks": one.tasks,
        "hops": one.hops,
        "tiers": one.tiers,
    }
