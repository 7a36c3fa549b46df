"""``clew recover`` changes the files of a trace of one's own, and no others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clew.errors import TraceError
from clew.trace.reader import Trace
from clew.trace.recover import recover
from clew.trace.spool import META, SPOOLS, SpoolWriter

SPOOL_FILES = [f"{name}.spool" for name in SPOOLS]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """What a killed recorder left: a record and a half."""
    spool = SpoolWriter(tmp_path / "trace")
    spool.append("events", bytes(72 + 40))
    spool.write_meta(command=["true"])
    spool.close()
    return tmp_path / "trace"


def test_a_cut_off_trace_is_finished_in_place(trace: Path) -> None:
    assert recover(trace).finished
    assert (trace / "events.spool").stat().st_size == 72


@pytest.mark.parametrize("name", SPOOL_FILES)
def test_a_symbolic_link_is_not_followed(name: str, trace: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious " * 20)
    (trace / name).unlink()
    (trace / name).symlink_to(victim)
    with pytest.raises(TraceError, match="no regular file"):
        recover(trace)
    assert victim.read_text() == "precious " * 20


@pytest.mark.parametrize("name", SPOOL_FILES)
def test_nothing_is_made_at_the_end_of_a_dangling_link(name: str, trace: Path, tmp_path: Path) -> None:
    (trace / name).unlink()
    (trace / name).symlink_to(tmp_path / "new")
    with pytest.raises(TraceError, match="no regular file"):
        recover(trace)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", [*SPOOL_FILES, META])
@pytest.mark.parametrize("verb", ["recover", "show"])
def test_a_fifo_does_not_keep_it_waiting(verb: str, name: str, trace: Path) -> None:
    (trace / name).unlink()
    os.mkfifo(trace / name)
    act = recover if verb == "recover" and name != META else Trace
    with pytest.raises(TraceError, match="no regular file"):
        act(trace)


def test_where_one_file_is_not_right_none_is_changed(trace: Path, tmp_path: Path) -> None:
    (trace / "maps.spool").unlink()
    (trace / "maps.spool").symlink_to(tmp_path / "new")
    before = {path.name: path.lstat().st_mtime_ns for path in trace.iterdir()}
    with pytest.raises(TraceError):
        recover(trace)
    assert {path.name: path.lstat().st_mtime_ns for path in trace.iterdir()} == before


def test_a_hard_link_is_not_written_through(trace: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious " * 20)
    (trace / "events.spool").unlink()
    (trace / "events.spool").hardlink_to(victim)
    with pytest.raises(TraceError, match="another name"):
        recover(trace)
    assert victim.read_text() == "precious " * 20


@pytest.mark.requires("root")
@pytest.mark.parametrize("whose", ["", "events.spool"])
def test_what_is_another_user_s_is_left_alone(whose: str, trace: Path) -> None:
    os.chown(trace / whose, 65534, 65534)
    with pytest.raises(TraceError, match="belongs to another user"):
        recover(trace)
    assert (trace / "events.spool").stat().st_size == 112


def test_a_recording_under_way_is_left_alone(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path / "trace")
    spool.append("events", bytes(40))
    spool.write_meta(command=["true"])
    for act in (recover, SpoolWriter):
        with pytest.raises(TraceError, match="is being recorded to"):
            act(tmp_path / "trace")
    spool.append("events", bytes(32))
    spool.close()
    assert len(recover(tmp_path / "trace").events) == 1


_IS_KILLED = """
import os, signal, sys
from pathlib import Path
from clew.trace.spool import SpoolWriter
spool = SpoolWriter(Path(sys.argv[1]))
spool.write_meta(command=["true"])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_recorder_locks_nobody_out(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _IS_KILLED, tmp_path / "trace"], check=False)
    assert recover(tmp_path / "trace").finished
