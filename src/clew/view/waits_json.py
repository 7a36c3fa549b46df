"""Who waits for whom, as JSON (docs/json.md, "Waits")."""

from __future__ import annotations

import json
from typing import Any

from clew.model.waits import Awaited, Ring, Snapshot, Wait, WaitingTask
from clew.view.escape import json_text


def waits_json(found: Snapshot) -> str:
    """One JSON object, a wait a line."""
    numbers = {wait.task.tid: at for at, wait in enumerate(found.waits)}
    head = {
        "asked": list(found.asked),
        "hidden_processes": found.hidden,
        "rings": [_ring(ring, numbers) for ring in found.rings],
    }
    lines = ",\n  ".join(json.dumps(_wait(wait, found)) for wait in found.waits)
    return json.dumps(head)[:-1] + f', "waits": [\n  {lines}\n]}}\n'


def _ring(ring: Ring, numbers: dict[int, int]) -> dict[str, Any]:
    members = [
        {"wait": numbers[wait.task.tid], "on": wait.on.index(one)}
        for wait, one in zip(ring.waits, ring.through, strict=True)
    ]
    return {"certain": ring.certain, "members": members}


def _task(task: WaitingTask) -> dict[str, Any]:
    return {"pid": task.pid, "tid": task.tid, "comm": json_text(task.comm), "state": task.state}


def _wait(wait: Wait, found: Snapshot) -> dict[str, Any]:
    return {
        "task": _task(wait.task),
        "syscall": wait.call,
        "on": [_awaited(one, found) for one in wait.on],
        "note": wait.note,
    }


def _awaited(one: Awaited, found: Snapshot) -> dict[str, Any]:
    enders = []
    for ender in one.enders:
        task = found.processes.get(ender.pid)
        comm = json_text(task.comm) if task else ""
        enders.append({"pid": ender.pid, "tid": ender.tid or None, "comm": comm, "how": ender.how})
    return {
        "kind": one.kind.value,
        "name": json_text(one.name),
        "wants": one.wants,
        "enders": enders,
        "outside": one.outside,
        "why": json_text(one.why),
        "evidence": one.evidence,
    }
