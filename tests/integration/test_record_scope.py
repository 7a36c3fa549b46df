"""Who is recorded: the whole system, a tree, a running process; and who never is."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clew.model.event import EventKind
from clew.trace.reader import Trace
from clew.trace.spool import SPOOLS
from tests.support.bounded import until
from tests.support.clew_command import CLEW, clew, complaint, flow_of

pytestmark = pytest.mark.requires("root", "bpf")

PIPED = ("sh", "-c", "echo hi | cat")
GUARD_S = 60
Bytes = subprocess.Popen[bytes]


@contextmanager
def _cat() -> Iterator[Bytes]:
    """A cat of ours that nobody recorded starts, and that answers each line."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cat:
        try:
            yield cat
        finally:
            cat.kill()


@contextmanager
def _ended(recorder: Bytes) -> Iterator[Bytes]:
    """A recorder that is gone afterwards, whatever the test found."""
    with recorder:
        try:
            yield recorder
        finally:
            recorder.kill()


def _ask(cat: Bytes) -> None:
    assert cat.stdin is not None and cat.stdout is not None
    cat.stdin.write(b"ping\n")
    cat.stdin.flush()
    assert cat.stdout.readline() == b"ping\n"


def _asking(cat: Bytes) -> str:
    """A command that makes the cat work while it is recorded: it asks the cat, and waits for the answer."""
    ends = f"/proc/{cat.pid}/fd"
    return f"echo ping > {ends}/0; read answer < {ends}/1; echo hi | cat"


def _pids(trace: Trace) -> set[int]:
    """All processes of which anything was recorded, those described at the beginning left aside."""
    return {int(pid) for pid in trace.events["pid"]} | {life.pid for life in trace.lives if life.t}


def _born_of(trace: Trace, root: int) -> set[int]:
    """The root and its descendants."""
    family = {root}
    for life in trace.lives:
        if life.kind == EventKind.FORKED and life.other_pid in family and life.t:
            family.add(life.pid)
    return family


def _record(folder: Path, *words: str) -> Trace:
    done = clew("record", "--engine", "bpf", "-o", folder / "trace", *words)
    assert done.returncode == 0, complaint(done)
    trace = Trace(folder / "trace")
    assert trace.lost == {}
    return trace


def _programs(trace: Trace) -> list[bytes]:
    return [life.comm for life in trace.lives if life.kind == EventKind.EXECED and life.t]


@pytest.mark.parametrize("scope", ["tree", "system"])
def test_a_stranger_is_in_the_system_and_not_in_the_tree(scope: str, tmp_path: Path) -> None:
    with _cat() as stranger:
        trace = _record(tmp_path, "--scope", scope, "--", "sh", "-c", _asking(stranger))
    assert (stranger.pid in _pids(trace)) == (scope == "system")
    root = int(trace.meta["root_pid"])
    family = _born_of(trace, root)
    assert len(family) == 3
    if scope == "tree":
        assert _pids(trace) == family
    assert family <= _pids(trace)


def test_a_named_process_s_children_are_in_the_tree(tmp_path: Path) -> None:
    folder = tmp_path / "trace"
    shell = ("sh", "-c", "while read line; do /bin/echo $line; done | cat; :")
    with subprocess.Popen(shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as pipeline:
        command = [*CLEW, "record", "-q", "--scope", "tree", "-p", str(pipeline.pid), "-o", str(folder)]
        with _ended(subprocess.Popen(command)) as recorder:
            until(lambda: _asked_and_recorded(pipeline, folder), timeout=30, what="events")
            _ask(pipeline)
            assert pipeline.stdin is not None
            pipeline.stdin.close()
            assert recorder.wait(GUARD_S) == 0
    assert b"echo" in _programs(Trace(folder))
    assert b"cat" in {life.comm for life in Trace(folder).lives if life.kind == EventKind.EXITED}


def _asked_and_recorded(cat: Bytes, folder: Path) -> bool:
    _ask(cat)
    return (folder / "events.spool").exists() and len(Trace(folder).events) > 0


def test_programs_left_out_are_not_recorded(tmp_path: Path) -> None:
    script = "echo hi | cat; /bin/echo ho; sh -c 'echo once | cat'"
    with _cat() as stranger:
        trace = _record(tmp_path, "--exclude", "c?t", "--", "sh", "-c", f"{_asking(stranger)}; {script}")
    assert stranger.pid not in _pids(trace)
    assert b"cat" not in _programs(trace)
    assert b"echo" in _programs(trace)


def test_the_root_is_recorded_whatever_is_left_out(tmp_path: Path) -> None:
    trace = _record(tmp_path, "--exclude", "*", "--", "sh", "-c", "echo hi | cat")
    assert set(_programs(trace)) == {b"sh"}


def test_what_an_excluded_program_starts_is_left_out_too(tmp_path: Path) -> None:
    script = "env true; env sh -c 'true; true'; :"  # anybody may run these, anywhere
    trace = _record(tmp_path, "--scope", "tree", "--exclude", "env", "--", "sh", "-c", script)
    assert set(_programs(trace)) & {b"env", b"true"} == set()


def test_no_stacks_when_none_are_wanted(tmp_path: Path) -> None:
    trace = _record(tmp_path, "--no-stacks", "--", *PIPED)
    assert (tmp_path / "trace" / "stacks.spool").stat().st_size == 0
    assert not trace.events["stack"].any()
    shown = clew("show", tmp_path / "trace", "--json")
    assert [hop for hop in flow_of(shown)["hops"] if hop["kind"] == "message" and hop["bytes"] == 3]


def test_the_recorder_and_its_children_never_appear(tmp_path: Path) -> None:
    command = [*CLEW, "record", "-q", "-o", str(tmp_path / "trace"), "--", *PIPED]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as recorder:
        assert recorder.wait(GUARD_S) == 0
    trace = Trace(tmp_path / "trace")
    assert recorder.pid not in _pids(trace)
    assert recorder.pid not in {life.pid for life in trace.lives}
    assert [life for life in trace.lives if life.other_pid == recorder.pid and life.t] == []
    assert not (trace.events["tid"] == recorder.pid).any()


def test_two_recorders_do_not_mind_each_other(tmp_path: Path) -> None:
    command = [*CLEW, "record", "-q", "-o"]
    first, second = tmp_path / "first", tmp_path / "second"
    with subprocess.Popen([*command, first, "--", "cat"], stdin=subprocess.PIPE) as outer:
        assert outer.stdin is not None
        until(lambda: _runs(first), timeout=30, what="the first recorder records")
        subprocess.run([*command, second, "--", *PIPED], stdout=subprocess.DEVNULL, check=True)
        outer.stdin.close()
        assert outer.wait(GUARD_S) == 0
    for folder in (first, second):
        assert Trace(folder).lost == {}
        assert clew("show", folder, "--json").returncode == 0
    hops = flow_of(clew("show", second, "--json"))["hops"]
    assert [hop["bytes"] for hop in hops if hop["kind"] == "message" and hop["to"]["comm"] == "cat"] == [3]


def _runs(folder: Path) -> bool:
    return (folder / "lifecycle.spool").exists() and any(
        life.kind == EventKind.EXECED and life.t for life in Trace(folder).lives
    )


def test_a_running_process_is_recorded_until_an_interrupt(tmp_path: Path) -> None:
    folder = tmp_path / "trace"
    with _cat() as cat:
        command = [*CLEW, "follow", "--json", "-p", str(cat.pid), "-o", str(folder)]
        with _ended(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)) as recorder:
            until(lambda: _answers_recorded(cat, folder), timeout=30, what="the cat's answer is recorded")
            recorder.send_signal(signal.SIGINT)
            stdout, stderr = recorder.communicate(timeout=GUARD_S)
        assert recorder.returncode == 0, stderr.decode()
        _ask(cat)
    flow = flow_of(subprocess.CompletedProcess((), 0, stdout, stderr))
    assert flow["root"]["pid"] == cat.pid
    assert flow["root"]["comm"] == "cat"
    assert any(hop["from"]["pid"] == cat.pid and hop["bytes"] == 5 for hop in flow["hops"])


def _answers_recorded(cat: Bytes, folder: Path) -> bool:
    _ask(cat)
    if not all((folder / name).exists() for name in ("meta.json", "events.spool")):
        return False
    events = Trace(folder).events
    return bool(((events["pid"] == cat.pid) & (events["kind"] == EventKind.SEND)).any())


def test_the_end_of_the_process_ends_the_recording(tmp_path: Path) -> None:
    folder = tmp_path / "trace"
    with _cat() as cat:
        command = [*CLEW, "record", "-p", str(cat.pid), "-o", str(folder)]
        with _ended(subprocess.Popen(command, stderr=subprocess.DEVNULL)) as recorder:
            until(lambda: _answers_recorded(cat, folder), timeout=30, what="the cat's answer is recorded")
            assert cat.stdin is not None
            cat.stdin.close()
            assert recorder.wait(GUARD_S) == 0
    trace = Trace(folder)
    assert trace.finished
    assert any(life.kind == EventKind.EXITED and life.pid == cat.pid for life in trace.lives)


def test_a_flow_of_a_hundred_thousand_hops(tmp_path: Path) -> None:
    sent = 100_000
    script = f"dd if=/dev/zero bs=1 count={sent} 2>&- | dd bs=1 2>&- | wc -c"
    trace = _record(tmp_path, "--no-stacks", "--scope", "tree", "--", "sh", "-c", script)
    assert trace.recorded["send"] >= 2 * sent
    done = clew("show", tmp_path / "trace")
    assert done.returncode == 0, complaint(done)
    assert b"hops are not listed" in done.stdout
    assert len(done.stdout.splitlines()) < 50_000


def test_the_trace_is_its_owner_s_alone(tmp_path: Path) -> None:
    _record(tmp_path, "--", "sh", "-c", "umask 000; echo hi | cat")
    folder = tmp_path / "trace"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in folder.iterdir()} == {"meta.json", *(f"{name}.spool" for name in SPOOLS)}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
