"""A ring that is too small: what is lost is counted exactly, placed in time, and said in every view."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clew.engine.bpf.recorder import BpfEngine
from clew.engine.engine import RecordOutcome, RecordRequest
from clew.model.event import EventKind
from clew.trace.reader import Trace
from clew.trace.spool import SpoolWriter
from tests.support.clew_command import clew, complaint, flow_of

pytestmark = pytest.mark.requires("root", "bpf")

SENT = 300_000
SCRIPT = f"dd if=/dev/zero bs=1 count={SENT} 2>&- | dd of=/dev/null bs=1 2>&-"
ONE_PAGE = 4096


def _record(folder: Path, buffer_bytes: int) -> RecordOutcome:
    spool = SpoolWriter(folder)
    spool.write_meta(pids=[])
    request = RecordRequest(
        command=tuple(map(os.fsencode, ("sh", "-c", SCRIPT))),
        scope="tree",
        stacks=False,
        buffer_bytes=buffer_bytes,
    )
    outcome = BpfEngine().record(request, spool, lambda: False)
    facts = {"root_pid": outcome.root_pid, "wait_status": outcome.wait_status, "lost": outcome.lost}
    spool.write_meta(finished=True, **facts)
    spool.close()
    return outcome


def test_every_event_is_recorded_or_counted(tmp_path: Path) -> None:
    lost = _record(tmp_path / "small", ONE_PAGE).lost
    trace = Trace(tmp_path / "small")
    assert lost["send"] > 0
    assert trace.recorded["send"] + lost["send"] == SENT
    assert trace.recorded["recv"] + lost["recv"] == SENT + 1  # the last one reads the end
    gaps = trace.events[trace.events["kind"] == EventKind.GAP]
    assert 0 < int(gaps["ret"].sum()) <= sum(lost.values())
    assert (gaps["t0"] <= gaps["t"]).all()


def test_nothing_is_lost_with_room_enough(tmp_path: Path) -> None:
    assert _record(tmp_path / "large", 1 << 26).lost == {}
    assert Trace(tmp_path / "large").recorded["send"] == SENT


def test_every_view_says_what_was_lost(tmp_path: Path) -> None:
    lost = _record(tmp_path / "small", ONE_PAGE).lost
    for form in ("text", "json", "svg", "mermaid", "dot"):
        shown = clew("show", tmp_path / "small", "--format", form)
        assert shown.returncode == 0, complaint(shown)
        assert b"lost" in shown.stdout
        if form == "json":
            assert flow_of(shown)["events"]["lost"] == lost


def test_a_killed_recorder_s_losses_are_known_from_the_gaps(tmp_path: Path) -> None:
    _record(tmp_path / "small", ONE_PAGE)
    (tmp_path / "small" / "meta.json").write_text('{"format": 1, "finished": false}')
    trace = Trace(tmp_path / "small")
    assert trace.lost["any"] > 0
    done = clew("recover", tmp_path / "small")
    assert f"{trace.lost['any']:,} known to be lost".encode() in done.stdout
