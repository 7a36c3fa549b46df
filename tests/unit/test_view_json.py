"""The JSON contract: the schema, the order of members, and what the documentation promises."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from clew.model.flow import Flow
from clew.view import Options, render
from tests.golden.view import flows

_DOCS = Path(__file__).parents[2] / "docs"
SCHEMA: dict[str, Any] = json.loads((_DOCS / "schema" / "flow.schema.json").read_text())
FLOWS = [flows.libvirt(), flows.mixed(), flows.nasty(), flows.big(50), flows.chain(5)]
EMPTY = Flow(flows.VIRSH, (), (), ())


def shown(flow: Flow, options: Options | None = None) -> Any:
    return json.loads(render(flow, "json", options))


def test_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("flow", [*FLOWS, EMPTY])
def test_output_is_as_the_schema_says(flow: Flow) -> None:
    Draft202012Validator(SCHEMA).validate(shown(flow))


@pytest.mark.parametrize("member", ["root", "hops", "events", "path", "notes"])
def test_schema_misses_what_is_missing(member: str) -> None:
    broken = shown(flows.libvirt())
    del broken[member]
    assert not Draft202012Validator(SCHEMA).is_valid(broken)


def test_schema_wants_an_exec_to_have_its_arguments() -> None:
    broken = shown(flows.libvirt())
    del broken["hops"][5]["argv"]
    assert not Draft202012Validator(SCHEMA).is_valid(broken)


def test_members_are_in_the_order_of_the_contract() -> None:
    whole = shown(flows.libvirt())
    assert list(whole)[:5] == ["root", "reached", "hops", "activations", "events"]
    contract = ["n", "kind", "tier", "from", "to", "channel", "bytes", "t_ms", "stack_from", "stack_to"]
    assert list(whole["hops"][0])[:10] == contract
    assert list(whole["hops"][0]["from"])[:4] == ["pid", "tid", "comm", "exe"]
    assert list(whole["hops"][0]["stack_from"][0])[:5] == ["function", "module", "offset", "file", "line"]
    assert list(whole["reached"][0])[:4] == ["event", "task", "exe", "argv"]


def test_values_are_those_of_the_flow() -> None:
    whole = shown(flows.libvirt())
    first, execs = whole["hops"][0], whole["hops"][5]
    assert (first["n"], first["kind"], first["tier"]) == (1, "message", "observed")
    assert first["from"] == {
        "pid": 4121, "tid": 4121, "comm": "virsh", "exe": "/usr/bin/virsh", "id": "4121@4121000000",
    }  # fmt: skip
    assert first["channel"] == {"type": "unix", "id": "unix:48213", "name": "/run/libvirt/libvirt-sock"}
    assert (first["bytes"], first["t_ms"], first["on_path"], first["reply"]) == (56, 20.512, True, False)
    assert "guest=tiny,debug-threads=on" in execs["argv"] and "argv" not in first
    assert whole["path"] == [1, 2, 3, 6] and whole["activations"] == 5
    assert whole["events"] == {
        "recorded": {"read": 90211, "write": 4120, "waking": 61902, "exec": 7}, "lost": {},
    }  # fmt: skip


def test_lost_events_and_doubts_pass_through() -> None:
    whole = shown(flows.mixed())
    assert whole["events"]["lost"] == {"read": 12, "futex": 3}
    assert whole["hops"][6]["tier"] == "ambiguous" and whole["hops"][6]["near_gap"]
    assert whole["until"] == "exec:*qemu*" and whole["path"] == [] and whole["exit_status"] == -15


def test_nothing_is_left_out_whatever_the_options() -> None:
    assert shown(flows.mixed(), Options(quiet=True, width=40)) == shown(flows.mixed(), Options(verbose=True))


def test_output_is_ascii_and_a_hop_a_line() -> None:
    text = render(flows.nasty(), "json")
    assert text.isascii() and all(line.isprintable() for line in text.splitlines())
    assert sum(line.startswith('{"n": ') for line in text.splitlines()) == len(flows.nasty().hops)


def test_text_comes_back_and_bytes_come_escaped() -> None:
    argv = shown(flows.nasty())["root"]["argv"]
    for raw, told in zip(flows.NASTY, argv, strict=True):
        try:
            assert told == raw.decode()
        except UnicodeDecodeError:
            assert told == raw.decode("utf-8", "backslashreplace")


def _named(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from schema.get("properties", {}) if isinstance(schema.get("properties"), dict) else ()
        for part in schema.values():
            yield from _named(part)


def _members(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _members(part)


def test_every_member_is_in_the_schema_and_in_the_documentation() -> None:
    whole = shown(flows.libvirt())
    whole["events"] = {"recorded": {}, "lost": {}}
    written = set(_members(whole))
    assert written == set(_named(SCHEMA))
    told = (_DOCS / "json.md").read_text()
    assert not [name for name in written if f"`{name}`" not in told and f".{name}`" not in told]
