"""The flow as one JSON object: the stable contract for programs, told in docs/json.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from clew.model.flow import ChannelRef, Credentials, Flow, Hop, HopKind, Reached
from clew.model.frame import Backtrace, Frame
from clew.model.rules import signal_name
from clew.model.task import Party
from clew.view.escape import json_text
from clew.view.options import Options

Json = Mapping[str, object]


def render(flow: Flow, options: Options) -> str:
    """One object, a line for each of its members and for each hop.

    Complete whatever ``options`` say, and plain ASCII: nothing in it can act on a terminal.
    """
    members = ",\n".join(f"{_line(name)}: {_member(value)}" for name, value in as_object(flow).items())
    return f"{{\n{members}\n}}\n"


def as_object(flow: Flow) -> Json:
    """The object before it is written, its members in the order of the contract."""
    return {
        "root": {**task(flow.root), "argv": _strings(flow.root_argv)},
        "reached": [_reached(reached) for reached in flow.reached],
        "hops": [_hop(hop) for hop in flow.hops],
        "activations": len(flow.activations),
        "events": {"recorded": _counts(flow.recorded), "lost": _counts(flow.lost)},
        "until": json_text(flow.until) or None,
        "path": list(flow.path),
        "duration_ms": ms(flow.duration_ns),
        "exit_status": flow.exit_status,
        "notes": _strings(flow.notes),
        "from": json_text(flow.origin) or None,
    }


def _hop(hop: Hop) -> Json:
    return {
        "n": hop.n,
        "kind": hop.kind.value,
        "tier": hop.tier.value,
        "from": task(hop.source),
        "to": task(hop.target),
        "channel": _channel(hop.channel) if hop.channel else None,
        "bytes": hop.bytes,
        "t_ms": ms(hop.t_ns),
        "stack_from": _frames(hop.stack_from),
        "stack_to": _frames(hop.stack_to),
        "arrived_ms": ms(hop.arrived_ns),
        "on_path": hop.on_path,
        "reply": hop.reply,
        "activation_from": hop.source_activation,
        "activation_to": hop.target_activation,
        "syscall_from": json_text(hop.syscall_from),
        "syscall_to": json_text(hop.syscall_to),
        "passed_fds": hop.passed_fds,
        "near_gap": hop.near_gap,
        "reason": json_text(hop.reason),
        "alternatives": list(hop.alternatives),
        "signal": signal_name(hop.signal) if hop.signal else "",
        "exit_status": hop.exit_status,
        **(_command(hop.exe, hop.argv, hop.argv_truncated) if hop.kind is HopKind.EXEC else {}),
        **(_credentials(hop.credentials) if hop.credentials else {}),
    }


def _credentials(credentials: Credentials) -> Json:
    return {"uid": credentials.uid, "gid": credentials.gid, "credential_calls": _strings(credentials.calls)}


def _reached(reached: Reached) -> Json:
    return {
        "event": json_text(reached.event),
        "task": task(reached.task),
        **_command(reached.exe, reached.argv, reached.argv_truncated),
        "hop": reached.hop,
        "t_ms": ms(reached.t_ns),
        "what": json_text(reached.what),
    }


def _command(exe: bytes, argv: tuple[bytes, ...], truncated: bool) -> Json:
    return {"exe": json_text(exe), "argv": _strings(argv), "argv_truncated": truncated}


def task(party: Party) -> Json:
    """A task at one moment; ``id`` tells apart what pid and tid cannot: a number that was used again."""
    return {
        "pid": party.pid,
        "tid": party.tid,
        "comm": json_text(party.comm),
        "exe": json_text(party.exe),
        "id": f"{party.tid}@{party.id.start_ns}",
    }


def _channel(ref: ChannelRef) -> Json:
    return {"type": json_text(ref.type), "id": json_text(ref.id), "name": json_text(ref.name)}


def _frames(stack: Backtrace) -> list[Json]:
    return [_frame(frame) for frame in stack]


def _frame(frame: Frame) -> Json:
    return {
        "function": json_text(frame.function),
        "module": json_text(frame.module),
        "offset": frame.offset,
        "file": json_text(frame.file),
        "line": frame.line,
        "inlined": frame.inlined,
    }


def _strings(items: Iterable[bytes | str]) -> list[str]:
    return [json_text(item) for item in items]


def _counts(counts: Mapping[str, int]) -> dict[str, int]:
    return {json_text(kind): number for kind, number in counts.items()}


def ms(ns: int) -> float:
    """Milliseconds, exact to the nanosecond for recordings of up to a hundred days."""
    return round(ns / 1e6, 6)


def _member(value: object) -> str:
    """Lists of objects a line each, so that a recording of many hops can be read and compared."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(map(_line, value)) + "\n]"
    return _line(value)


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False)
