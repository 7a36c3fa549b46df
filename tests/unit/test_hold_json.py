"""The JSON of holds: every line of ``clew hold --json``, and what docs/hold.md promises of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from clew.cli.holding import event_json, hold_json
from clew.hold.hold import Hold, HoldEvent
from clew.model.frame import Frame
from clew.model.task import TaskId

_DOCS = Path(__file__).parents[2] / "docs"
SCHEMA: dict[str, Any] = json.loads((_DOCS / "schema" / "hold.schema.json").read_text())
HOLD = Hold(
    "H1", "exec:\udcff", TaskId(10, 11, 5), b"a\xff", b"/bin/a", (b"a", b"\x1b[2J"), 1, 0, "thread", "entry",
    Frame("f\u202e", b"/bin/\xffa", 16, "a.c", 3), 0, 600.0,
)  # fmt: skip
EVENTS = [
    HoldEvent("held", HOLD),
    HoldEvent("released", HOLD, "its lease ran out"),
    HoldEvent("warning", reason="\udcff"),
]
CONTRACT = ["event", "hold", "rule", "pid", "tid", "comm", "exe", "argv", "scope", "exact", "at", "lease_s"]


def told(event: HoldEvent) -> Any:
    return json.loads(json.dumps(event_json(event)))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.event)
def test_every_line_is_as_the_schema_says(event: HoldEvent) -> None:
    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator(SCHEMA).validate(told(event))


def test_ps_tells_the_same_without_an_event() -> None:
    assert {"event": "held", **hold_json(HOLD)}.keys() == told(EVENTS[0]).keys()


def test_the_schema_misses_what_is_missing() -> None:
    for member in told(EVENTS[1]):
        broken = told(EVENTS[1])
        del broken[member]
        assert not Draft202012Validator(SCHEMA).is_valid(broken), member


def test_members_keep_the_order_of_the_contract() -> None:
    assert [member for member in told(EVENTS[0]) if member in CONTRACT] == CONTRACT
    assert list(told(EVENTS[0])["at"]) == ["function", "module", "offset", "file", "line"]
