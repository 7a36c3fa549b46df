"""Who was who: numbers used again, programs replaced, threads that exec."""

from __future__ import annotations

from pathlib import Path

import pytest

from clew.model.event import EventKind
from clew.trace.tasks import TaskTable
from tests.support.script import Script


@pytest.fixture
def script() -> Script:
    return Script()


def test_a_thread_that_execs_becomes_its_process(script: Script, tmp_path: Path) -> None:
    client = script.command("client")
    child = client.fork("child")
    thread = child.thread("child")
    child.exit()  # the leader, as the kernel tells it during the exec
    heir = thread.exec("/usr/bin/other")
    assert (heir.pid, heir.tid) == (child.pid, child.pid)
    pipe, reader = script.pipe(), script.running("reader")
    heir.send(pipe, 10)
    reader.poll()
    reader.recv(pipe, 10)
    heir.exit()
    client.reap(heir)
    flow = script.flow(tmp_path)
    assert [hop.kind.value for hop in flow.hops] == ["spawn", "spawn", "exec", "message", "exit"]
    executed, sent = flow.hops[2], flow.hops[3]
    assert (executed.source.tid, executed.target.tid) == (thread.tid, child.pid)
    assert sent.source.exe == b"/usr/bin/other"
    assert flow.hops[4].arrived_ns > sent.arrived_ns


def test_a_number_used_again_is_another_task(script: Script, tmp_path: Path) -> None:
    client = script.command("client")
    first = client.fork("first", tid=5000)
    first.exec("/bin/first")
    first.exit()
    client.reap(first)
    stranger = script.running("stranger")
    second = stranger.fork("second", tid=5000)
    second.exec("/bin/second")
    third = second.fork("third")
    third.exit()
    flow = script.flow(tmp_path)
    assert script.told(flow) == ["client spawns first", "first execs /bin/first", "first ends: client"]


def test_two_lives_of_one_number_have_two_names(script: Script, tmp_path: Path) -> None:
    client = script.command("client")
    for label in ("first", "second"):
        child = client.fork(label, tid=5000)
        child.exec(f"/bin/{label}")
        child.exit()
        client.reap(child)
    flow = script.flow(tmp_path)
    assert script.told(flow) == [
        line
        for label in ("first", "second")
        for line in (f"client spawns {label}", f"{label} execs /bin/{label}", f"{label} ends: client")
    ]
    assert len({hop.target.id for hop in flow.hops[:2] + flow.hops[3:5]}) == 2


def test_the_roots_number_used_again_is_not_the_root(script: Script, tmp_path: Path) -> None:
    client = script.command("client")
    client.exit()
    stranger = script.running("stranger")
    again = stranger.fork("again", tid=client.pid)
    again.fork("child")
    assert script.told(script.flow(tmp_path)) == []


def test_events_from_before_the_root_began_are_not_its(script: Script, tmp_path: Path) -> None:
    shell = script.running("shell")
    gate = shell.fork("client")
    pipe, reader = script.pipe(), script.running("reader")
    gate.send(pipe, 10)
    reader.poll()
    reader.recv(pipe, 10)
    script.root(gate)
    gate.send(pipe, 20)
    reader.poll()
    reader.recv(pipe, 20)
    assert script.told(script.flow(tmp_path)) == ["client > reader pipe 20"]


def test_a_task_has_the_name_it_had_at_the_time(script: Script, tmp_path: Path) -> None:
    client = script.command("client")
    before = script.now
    script.tick()
    script.life(EventKind.RENAMED, client, comm=b"renamed")
    script.tick()
    table = TaskTable(script.trace(tmp_path))
    assert [table.comm(client.tid, t) for t in (before, script.now)] == [b"client", b"renamed"]


def test_a_task_nobody_told_of_is_still_one(script: Script, tmp_path: Path) -> None:
    client, unknown = script.command("client"), script.actor("unknown")
    near, far = script.socketpair()
    client.send(near, 10)
    unknown.poll()
    unknown.recv(far, 10)
    (hop,) = script.flow(tmp_path).hops
    assert (hop.target.pid, hop.target.comm, hop.target.exe) == (unknown.pid, b"?", b"")
