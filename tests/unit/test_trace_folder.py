"""The folder a recording is written to: private, and never somebody else's."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from clew.errors import TraceError
from clew.trace.meta import read_meta
from clew.trace.spool import FRAMES, META, SPOOLS, SpoolWriter

FILES = {f"{name}.spool" for name in SPOOLS}


@pytest.fixture(autouse=True)
def _open_umask() -> Iterator[None]:
    """What a careless shell sets: the folder must be private all the same."""
    before = os.umask(0)
    yield
    os.umask(before)


def _write(path: Path, command: str = "true") -> None:
    spool = SpoolWriter(path)
    spool.append("events", b"x" * 72)
    spool.write_meta(command=[command])
    spool.close()


def test_the_folder_and_its_files_are_their_owner_s_alone(tmp_path: Path) -> None:
    _write(tmp_path / "trace")
    assert (tmp_path / "trace").stat().st_mode & 0o7777 == 0o700
    files = {path.name: path.stat().st_mode & 0o7777 for path in (tmp_path / "trace").iterdir()}
    assert files == dict.fromkeys({META, *FILES}, 0o600)


def test_an_earlier_trace_is_overwritten_whole(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    _write(trace, "first")
    (trace / FRAMES).write_text("of another recording")
    (trace / "meta.json.new").write_text("of a killed recorder")
    trace.chmod(0o755)
    _write(trace, "second")
    assert {path.name for path in trace.iterdir()} == {META, *FILES}
    assert (trace / "events.spool").stat().st_size == 72
    assert read_meta(trace)["command"] == ["second"]
    assert trace.stat().st_mode & 0o7777 == 0o700


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    _write(tmp_path)
    assert tmp_path.stat().st_mode & 0o7777 == 0o700


@pytest.mark.parametrize("name", ["notes.txt", "extra.spool", ".hidden"])
def test_a_folder_with_anything_else_is_refused_and_left_alone(name: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    _write(trace)
    (trace / name).write_text("mine")
    trace.chmod(0o755)
    before = sorted((path.name, path.read_bytes()) for path in trace.iterdir())
    with pytest.raises(TraceError, match="exists and is not a trace"):
        SpoolWriter(trace)
    assert sorted((path.name, path.read_bytes()) for path in trace.iterdir()) == before
    assert trace.stat().st_mode & 0o7777 == 0o755


def test_a_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "trace"
    file.write_text("mine")
    with pytest.raises(TraceError, match="exists and is not a trace"):
        SpoolWriter(file)
    assert file.read_text() == "mine"


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    _write(tmp_path / "trace", "first")
    (tmp_path / "link").symlink_to(tmp_path / "trace")
    with pytest.raises(TraceError, match="exists and is not a trace"):
        SpoolWriter(tmp_path / "link")
    assert read_meta(tmp_path / "trace")["command"] == ["first"]


def test_links_planted_in_the_folder_are_removed_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    trace = tmp_path / "trace"
    trace.mkdir()
    for name in (META, "meta.json.new", *FILES):
        (trace / name).symlink_to(victim)
    _write(trace)
    assert victim.read_text() == "precious"
    assert not any(path.is_symlink() for path in trace.iterdir())


def test_a_link_planted_while_we_record_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    spool = SpoolWriter(tmp_path / "trace")
    (tmp_path / "trace" / "meta.json.new").symlink_to(victim)
    (tmp_path / "trace" / META).symlink_to(victim)
    spool.write_meta(command=["true"])
    spool.close()
    assert victim.read_text() == "precious"
    assert read_meta(tmp_path / "trace")["command"] == ["true"]


def test_the_folder_may_be_moved_while_we_record(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path / "trace")
    (tmp_path / "trace").rename(tmp_path / "moved")
    spool.write_meta(command=["true"])
    spool.close()
    assert read_meta(tmp_path / "moved")["command"] == ["true"]


@pytest.mark.requires("root")
def test_another_user_s_folder_is_refused(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    _write(trace)
    os.chown(trace, 65534, 65534)
    with pytest.raises(TraceError, match="another user"):
        SpoolWriter(trace)
    assert (trace / META).exists()


@pytest.mark.parametrize("path", ["missing/trace", "/proc/trace", "/dev/null/trace", "x" * 300])
def test_a_place_that_cannot_be_written_is_said(path: str, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="Cannot write the trace") as raised:
        SpoolWriter(tmp_path / path)
    assert "-o" in raised.value.remedy


def test_a_recording_that_came_to_nothing_leaves_nothing(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path / "trace")
    spool.write_meta(command=["true"])
    spool.discard()
    assert list(tmp_path.iterdir()) == []


def test_meta_is_replaced_in_one_step(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path / "trace")
    spool.write_meta(command=["true"])
    with (tmp_path / "trace" / META).open() as before:
        spool.write_meta(finished=True)
        assert json.load(before)["finished"] is False
    assert read_meta(tmp_path / "trace")["finished"] is True
    spool.close()
