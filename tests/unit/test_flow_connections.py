"""Connections: who asked for them, what asks and what answers on them, and whose work is whose."""

from __future__ import annotations

from pathlib import Path

import pytest

from clew.flow.follow import Target, follow
from clew.model.event import EventFlag
from clew.model.flow import Tier
from clew.model.rules import parse_origin, parse_target
from tests.support.script import EINPROGRESS, Actor, End, Script


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def server(script: Script) -> Actor:
    """A server that has accepted once before, at the place where it waits for connections."""
    server = script.running("server")
    server.accept(script.socketpair()[1], 0, blocked=True, began=0)
    return server


def served(script: Script, client: Actor, server: Actor) -> tuple[End, End]:
    """``client`` connects and ``server`` accepts, which had waited for that."""
    near, far = script.socketpair()
    client.connect(near)
    server.accept(far, 0, blocked=True, waited=True)
    return near, far


def test_a_connection_is_a_hop(script: Script, server: Actor, tmp_path: Path) -> None:
    client = script.command("client")
    served(script, client, server)
    server.fork("child")
    assert script.told(script.flow(tmp_path)) == ["client connects to server", "server spawns child"]


def test_a_connection_that_is_not_there_at_once_is_a_hop(
    script: Script, server: Actor, tmp_path: Path
) -> None:
    client = script.command("client")
    near, far = script.socketpair()
    client.connect(near, EINPROGRESS)
    server.accept(far, 0, blocked=True, waited=True)
    assert script.told(script.flow(tmp_path)) == ["client connects to server"]


def test_a_thread_for_each_connection_reads_the_request(
    script: Script, server: Actor, tmp_path: Path
) -> None:
    stranger, client = script.running("stranger"), script.command("client")
    for task in (stranger, client):
        near, far = served(script, task, server)
        thread = server.thread(f"for the {task.label}")
        task.send(near, 10)
        thread.recv(far, 10, 4, waited=True)
        thread.fork(f"child for the {task.label}")
    assert script.told(script.flow(tmp_path)) == [
        "client connects to server",
        "server spawns for the client",
        "client > for the client unix 10",
        "for the client spawns child for the client",
    ]


def test_the_side_says_what_is_a_request_and_what_an_answer(
    script: Script, server: Actor, tmp_path: Path
) -> None:
    client = script.command("client")
    near, far = served(script, client, server)
    client.send(near, 10)
    server.recv(far, 10, 3)
    server.send(far, 20, 3)
    client.recv(near, 20, waited=True)
    client.send(near, 11)
    server.recv(far, 11, 3, waited=True)
    assert script.told(script.flow(tmp_path)) == [
        "client connects to server",
        "client > server unix 10",
        "server > client unix 20 (reply)",
        "client > server unix 11",
    ]


def test_a_worker_that_takes_the_next_connection_awake_works_for_its_client(
    script: Script, server: Actor, tmp_path: Path
) -> None:
    worker = server.thread("worker", before=True)
    worker.futex()
    stranger, client = script.running("stranger"), script.command("client")
    ends = []
    for task in (stranger, client):
        near, far = served(script, task, server)
        if task is stranger:
            server.wakes(worker)
            worker.futex()
        task.send(near, 10)
        ends.append(far)
    for far, label in zip(ends, ("for the stranger", "for the client"), strict=True):
        worker.recv(far, 10, 4)
        worker.fork(label)
        worker.send(far, 20, 4)
    told = script.told(script.flow(tmp_path))
    assert "worker spawns for the client" in told
    assert "worker spawns for the stranger" not in told


def test_a_loop_that_reads_two_and_then_answers_both_answers_each(
    script: Script, server: Actor, tmp_path: Path
) -> None:
    stranger, client = script.running("stranger"), script.command("client")
    (near1, far1), (near2, far2) = served(script, client, server), served(script, stranger, server)
    server.poll()
    for task, near, far in ((client, near1, far1), (stranger, near2, far2)):
        task.send(near, 10)
        server.recv(far, 10)
    server.send(far1, 20)
    server.send(far2, 21)
    for task, near, size in ((client, near1, 20), (stranger, near2, 21)):
        task.recv(near, size, waited=True)
        task.fork(f"child of {task.label}")
    assert script.told(script.flow(tmp_path)) == [
        "client connects to server",
        "client > server unix 10",
        "server > client unix 20 (reply)",
        "client spawns child of client",
    ]


def test_the_path_of_who_acts_on_an_answer_does_not_lead_through_the_server(
    script: Script, server: Actor, tmp_path: Path
) -> None:
    shell = script.command("shell")
    client = shell.fork("client")
    near, far = served(script, client, server)
    for _ in range(2):
        client.send(near, 10)
        server.recv(far, 10, 3, waited=True)
        server.send(far, 20, 3)
        client.recv(near, 20, waited=True)
    client.fork("child").exec("/bin/guest")
    assert script.path(script.flow(tmp_path, "exec:*guest")) == [
        "shell spawns client",
        "client spawns child",
        "child execs /bin/guest",
    ]


def test_a_call_that_waited_for_nothing_ends_nothing(script: Script, tmp_path: Path) -> None:
    client, daemon = script.command("client"), script.running("daemon")
    near, far = script.socketpair()
    client.send(near, 56)
    daemon.poll(flags=EventFlag.BLOCKED)
    daemon.recv(far, 56)
    daemon.poll(0)  # looks whether there is more
    daemon.fork("for the client")
    daemon.poll(0, flags=EventFlag.BLOCKED)
    daemon.fork("by itself")
    assert script.told(script.flow(tmp_path)) == ["client > daemon unix 56", "daemon spawns for the client"]


def test_a_foreign_message_deep_in_other_work_adds_to_it(script: Script, tmp_path: Path) -> None:
    stranger, client, daemon = script.running("stranger"), script.command("client"), script.running("daemon")
    (near, far), pipe = script.socketpair(), script.pipe()
    stranger.send(near, 10)
    daemon.poll()
    daemon.recv(far, 10)
    client.send(pipe, 1)
    daemon.recv(pipe, 1, depth=7, waited=True)
    daemon.fork("child")
    assert script.told(script.flow(tmp_path)) == ["client > daemon pipe 1", "daemon spawns child"]


def test_a_zombie_collected_in_passing_is_no_cause(script: Script, tmp_path: Path) -> None:
    stranger, client, daemon = script.running("stranger"), script.command("client"), script.running("daemon")
    child = {}
    for task in (client, stranger):
        near, far = script.socketpair()
        task.send(near, 10)
        daemon.poll(flags=EventFlag.BLOCKED)
        daemon.recv(far, 10)
        child[task] = daemon.fork(f"for {task.label}")
        child[client].exit() if task is client else daemon.reap(child[client])
    daemon.fork("second for stranger")
    assert script.told(script.flow(tmp_path)) == [
        "client > daemon unix 10",
        "daemon spawns for client",
        "for client ends: daemon",
    ]


def queued(script: Script, server: Actor, *tasks: Actor) -> list[tuple[End, End]]:
    """The server accepts a connection of each of ``tasks`` and reads its request, all in one turn."""
    ends = [served(script, task, server) for task in tasks]
    server.poll()
    for task, (near, far) in zip(tasks, ends, strict=True):
        task.send(near, 10)
        server.recv(far, 10)
    return ends


def test_a_worker_that_finds_its_next_job_awake_works_for_whom_it_answers(
    script: Script, server: Actor, tmp_path: Path
) -> None:
    worker = server.thread("worker", before=True)
    worker.futex()
    strangers, client = [script.running("s1"), script.running("s2")], script.command("client")
    ends = queued(script, server, strangers[0], client, strangers[1])
    server.wakes(worker)
    worker.futex()
    for (_, far), label in zip(ends, ("for s1", "for the client", "for s2"), strict=True):
        worker.fork(label)
        worker.send(far, 20, 4)
    told = script.told(script.flow(tmp_path))
    assert [line for line in told if line.startswith("worker spawns")] == ["worker spawns for the client"]


def test_what_a_loop_asks_for_a_request_that_waited_belongs_to_that_request(
    script: Script, server: Actor, tmp_path: Path
) -> None:
    upstream = script.running("upstream")
    up, down = served(script, server, upstream)
    stranger, client = script.running("stranger"), script.command("client")
    server.poll()
    ends = queued(script, server, stranger, client)
    for i, (_, far) in enumerate(ends):
        server.send(up, 30 + i)
        upstream.recv(down, 30 + i, 1, waited=True)
        upstream.send(down, 40 + i)
        server.poll()
        server.recv(up, 40 + i)
        server.fork(f"child {i}").exec("/bin/guest", str(i))
        server.send(far, 20)
    flow = script.flow(tmp_path, "exec:*guest")
    assert script.path(flow)[-3:] == [
        "client > server unix 10",
        "server spawns child 1",
        "child 1 execs /bin/guest",
    ]
    assert "child 0 execs /bin/guest" not in script.told(flow)
    assert "server > upstream unix 31" in script.told(flow)


def test_what_is_done_between_two_requests_and_their_answers_is_ambiguous(
    script: Script, server: Actor, tmp_path: Path
) -> None:
    stranger, client = script.running("stranger"), script.command("client")
    ends = queued(script, server, stranger, client)
    server.fork("child")
    for _, far in ends:
        server.send(far, 20)
    flow = script.flow(tmp_path)
    (spawn,) = [hop for hop in flow.hops if script.line(hop) == "server spawns child"]
    assert spawn.tier is Tier.AMBIGUOUS
    strict = follow(script.trace(tmp_path, "again"), strict=True)
    assert "server spawns child" not in script.told(strict)


def test_the_side_of_a_connection_that_was_there_before_is_told_by_its_name(
    script: Script, tmp_path: Path
) -> None:
    client, server = script.command("client"), script.running("server")
    near, far = script.socketpair()
    script.socket(far.channel, far.chan, b"/run/server", peer=9, peer2=near.chan)
    script.socket(near.channel, near.chan, peer=8, peer2=far.chan)
    client.send(near, 10)
    server.recv(far, 10, waited=True)
    server.send(far, 20)
    client.recv(near, 20, waited=True)
    client.send(near, 11)
    server.recv(far, 11, waited=True)
    assert script.told(script.flow(tmp_path)) == [
        "client > server unix 10",
        "server > client unix 20 (reply)",
        "client > server unix 11",
    ]


def test_what_a_loop_began_in_the_order_of_the_requests_belongs_to_them_in_that_order(
    script: Script, server: Actor, tmp_path: Path
) -> None:
    """However the jobs end: the last first, here, and all before the loop looked again."""
    shell = script.command("shell")
    ends = queued(script, server, *(shell.fork(f"client {i}") for i in range(3)))
    near, far = script.socketpair()
    children = [server.fork(f"child {i}") for i in range(3)]
    for i, child in enumerate(children):
        child.exec("/bin/guest", str(i))
    for child in reversed(children):
        child.send(far, 30)
    server.poll()
    server.recv(near, 90)
    server.poll(0)
    for _, end in ends:
        server.send(end, 20)
    trace = script.trace(tmp_path)
    for i in range(3):
        until = f"exec:*guest,argv={i}"
        flow = follow(trace, Target(until, parse_target(until)))
        assert script.path(flow)[-3:] == [
            f"client {i} > server unix 10",
            f"server spawns child {i}",
            f"child {i} execs /bin/guest",
        ]
        spawn = flow.hops[flow.path[-2] - 1]
        assert spawn.tier is Tier.AMBIGUOUS and len(spawn.alternatives) == 2


def test_connections_of_clients_that_were_not_recorded_are_work_apart(
    script: Script, server: Actor, tmp_path: Path
) -> None:
    ends = [script.socketpair()[1] for _ in range(2)]
    for number, far in enumerate(ends):
        server.accept(far, 0)  # it was there already: the server did not wait
        thread = server.thread(f"thread {number}")
        thread.recv(far, 10, 4)
        thread.fork(f"child {number}")
    trace = script.trace(tmp_path)
    told = [script.told(follow(trace, origin=parse_origin(f"connect:*,n={n}"))) for n in (2, 3)]
    assert told == [
        [f"server spawns thread {number}", f"thread {number} spawns child {number}"] for number in (0, 1)
    ]


@pytest.mark.parametrize("answered", [False, True])
def test_a_worker_that_was_slow_to_wake_may_have_found_the_next_job(
    script: Script, server: Actor, tmp_path: Path, answered: bool
) -> None:
    workers = [server.thread(f"worker {i}", before=True) for i in range(2)]
    for worker in workers:
        worker.futex(flags=EventFlag.BLOCKED)
    shell = script.command("shell")
    clients = [shell.fork(f"client {i}") for i in range(2)]
    ends = [served(script, client, server) for client in clients]
    for client, (near, far), worker in zip(clients, ends, workers, strict=True):
        client.send(near, 10)
        server.recv(far, 10, waited=True)
        server.wakes(worker)
        if answered and worker is workers[0]:
            server.send(far, 20)
    for worker in workers:
        worker.futex(flags=EventFlag.BLOCKED)
    back, out = script.pipe(), ends[1][1]
    workers[0].fork("child").exec("/bin/guest")
    workers[0].send(back, 1)
    server.poll(flags=EventFlag.BLOCKED)
    server.recv(back, 1)
    if answered:
        server.send(out, 20)
    flow = script.flow(tmp_path, "exec:*guest")
    wake, spawn = [flow.hops[n - 1] for n in flow.path[-3:-1]]
    assert (script.line(wake), script.line(spawn)) == ("server wakes worker 0", "worker 0 spawns child")
    if answered:
        assert script.path(flow)[-4] == "client 1 > server unix 10"
        assert wake.tier is Tier.CONTINUED
    else:
        assert wake.tier is Tier.AMBIGUOUS and wake.alternatives
        strict = follow(script.trace(tmp_path, "again"), strict=True)
        assert "child execs /bin/guest" not in script.told(strict)
