"""meta.json may be anything: facts are taken only as what they should be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clew.errors import TraceError
from clew.trace.meta import read_meta
from clew.trace.recover import recover
from clew.trace.spool import FORMAT_VERSION, META, SPOOLS

GOOD: dict[str, Any] = {
    "format": FORMAT_VERSION,
    "finished": True,
    "command": ["true"],
    "pids": [7],
    "until": "exec:true",
    "began": 12,
    "wait_status": 256,
    "lost": {"send": 3},
    "notes": ["a note"],
}


def _trace(folder: Path, meta: bytes) -> Path:
    for name in SPOOLS:
        (folder / f"{name}.spool").write_bytes(b"whatever")
    (folder / META).write_bytes(meta)
    return folder


def test_what_is_right_is_read(tmp_path: Path) -> None:
    assert read_meta(_trace(tmp_path, json.dumps(GOOD).encode())) == GOOD


def test_facts_of_later_versions_of_this_format_are_kept(tmp_path: Path) -> None:
    meta = {**GOOD, "weather": [{"sunny": True}]}
    assert read_meta(_trace(tmp_path, json.dumps(meta).encode())) == meta


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("finished", "yes"),
        ("command", "true"),
        ("command", [1]),
        ("pids", {"7": 7}),
        ("pids", [-1]),
        ("pids", [1 << 70]),
        ("until", 5),
        ("began", -1),
        ("began", 1.5),
        ("began", 10**400),
        ("began", True),
        ("wait_status", 1 << 16),
        ("wait_status", "0"),
        ("lost", [1]),
        ("lost", {"send": "many"}),
        ("lost", {"send": -1}),
        ("notes", "a note"),
        ("notes", [["a note"]]),
    ],
)
def test_a_fact_of_the_wrong_kind_counts_as_not_told(name: str, value: object, tmp_path: Path) -> None:
    told = read_meta(_trace(tmp_path, json.dumps({**GOOD, name: value}).encode()))
    assert told == {fact: value for fact, value in GOOD.items() if fact != name}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"7",
        b'"text"',
        b"{}",
        b'{"format": "1"}',
        b'{"format": null}',
        b'{"format": true}',
        b'{"format": -1}',
        b'{"format": 1e400}',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"format": ' + b"9" * 10_000 + b"}",
    ],
)
def test_what_is_no_meta_is_said_to_be_damaged(text: bytes, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="damaged") as raised:
        read_meta(_trace(tmp_path, text))
    assert "clew recover" in raised.value.remedy


def test_a_newer_format_is_refused_and_not_recovered_to_death(tmp_path: Path) -> None:
    trace = _trace(tmp_path, json.dumps({**GOOD, "format": FORMAT_VERSION + 1}).encode())
    before = {path.name: path.read_bytes() for path in trace.iterdir()}
    for act in (read_meta, recover):
        with pytest.raises(TraceError, match="newer clew"):
            act(trace)
    assert {path.name: path.read_bytes() for path in trace.iterdir()} == before


@pytest.mark.parametrize("place", ["nothing", "file", "folder"])
def test_what_is_no_trace_is_said_to_be_none(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    with pytest.raises(TraceError, match="is not a trace"):
        read_meta(tmp_path / place)
    with pytest.raises(TraceError, match="holds nothing of a recording"):
        recover(tmp_path / place)


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"format": "1"}'])
def test_recovering_makes_up_for_a_damaged_meta(text: bytes, tmp_path: Path) -> None:
    trace = recover(_trace(tmp_path, text))
    assert trace.finished
    assert trace.lost == {}
    assert any("meta.json was damaged" in note for note in trace.meta["notes"])
    assert any("Recovered" in note for note in trace.meta["notes"])
