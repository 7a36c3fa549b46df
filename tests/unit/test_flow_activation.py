"""How tasks' time is split into pieces of work, and what set each going."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from clew.model.event import ChannelType, EventFlag
from clew.model.flow import Tier
from clew.model.frame import Mapping
from clew.stack.interpreters import resource_words
from tests.support.capture import mappings_of
from tests.support.script import EAGAIN, EINPROGRESS, EINTR, ETIMEDOUT, Actor, End, Script

SIGCHLD, SIGKILL, SIGTERM, SIGUSR1, SIGUSR2 = 17, 9, 15, 10, 12


@pytest.fixture
def script() -> Script:
    return Script()


class Served:
    """A client (the command) and a daemon that has just waited for, and taken in, the client's request."""

    def __init__(self, script: Script) -> None:
        self.client, self.daemon = script.command("client"), script.running("daemon")
        self.near, self.far = script.socketpair()
        self.daemon.poll()
        self.client.send(self.near, 56)
        self.daemon.poll()
        self.daemon.recv(self.far, 56)


@pytest.fixture
def served(script: Script) -> Served:
    return Served(script)


def asked(script: Script, by: Actor, other: Actor, depth: int = 5) -> None:
    """``by`` asks ``other`` over a new connection, and waits for the answer deep in its stack."""
    near, far = script.socketpair()
    by.send(near, 10, depth)
    other.poll()
    other.recv(far, 10)
    other.send(far, 20)
    by.recv(near, 20, depth, waited=True)


# --- where work ends ---


def test_work_lasts_until_the_task_waits_at_the_same_place(
    script: Script, served: Served, tmp_path: Path
) -> None:
    served.daemon.fork("for the client")
    served.daemon.poll(0)  # timed out
    served.daemon.fork("by itself")
    assert script.told(script.flow(tmp_path)) == ["client > daemon unix 56", "daemon spawns for the client"]


def test_a_wait_higher_up_ends_the_work_too(script: Script, served: Served, tmp_path: Path) -> None:
    served.daemon.poll(0, depth=-3, call="epoll_wait")
    served.daemon.fork("by itself")
    assert script.told(script.flow(tmp_path)) == ["client > daemon unix 56"]


@pytest.mark.parametrize("call", ["poll", "futex"])
def test_a_wait_deeper_in_the_stack_is_part_of_the_work(
    call: str, script: Script, served: Served, tmp_path: Path
) -> None:
    if call == "poll":
        served.daemon.poll(0, depth=4)
    else:
        served.daemon.futex(ret=ETIMEDOUT, depth=4)
    served.daemon.fork("for the client")
    assert "daemon spawns for the client" in script.told(script.flow(tmp_path))


def test_a_handler_waits_for_its_helper(script: Script, served: Served, tmp_path: Path) -> None:
    helper = script.running("helper")
    helper.poll()
    asked(script, served.daemon, helper)
    served.daemon.send(served.far, 28)
    served.client.recv(served.near, 28, waited=True)
    assert script.told(script.flow(tmp_path)) == [
        "client > daemon unix 56",
        "daemon > helper unix 10",
        "helper > daemon unix 20 (reply)",
        "daemon > client unix 28 (reply)",
    ]


def test_an_event_loop_serves_three_clients_after_one_wait(script: Script, tmp_path: Path) -> None:
    daemon = script.running("daemon")
    daemon.poll()
    strangers = [script.running("s1"), script.running("s2")]
    client = script.command("client")
    clients = [strangers[0], client, strangers[1]]
    ends = [script.socketpair() for _ in clients]
    for task, (near, _) in zip(clients, ends, strict=True):
        task.send(near, 10)
    daemon.poll(3)
    for i, (_, far) in enumerate(ends):
        daemon.recv(far, 10)
        daemon.fork(f"child {i}")
    assert script.told(script.flow(tmp_path)) == ["client > daemon unix 10", "daemon spawns child 1"]


def test_a_message_taken_in_by_several_reads_is_one_piece_of_work(script: Script, tmp_path: Path) -> None:
    client, daemon = script.command("client"), script.running("daemon")
    near, far = script.socketpair()
    client.send(near, 56)
    daemon.poll()
    daemon.recv(far, 4)
    daemon.recv(far, 52)
    daemon.recv(far, EAGAIN)
    daemon.fork("child")
    flow = script.flow(tmp_path)
    assert script.told(flow) == ["client > daemon unix 56", "daemon spawns child"]
    assert flow.hops[0].target_activation == flow.hops[1].source_activation


def test_the_end_of_a_stream_is_no_new_work(script: Script, tmp_path: Path) -> None:
    client, daemon = script.command("client"), script.running("daemon")
    near, far = script.socketpair()
    client.send(near, 56)
    daemon.recv(far, 56, waited=True)
    daemon.recv(far, 0, waited=True)  # it reads to the end, then acts
    daemon.fork("child")
    assert script.told(script.flow(tmp_path)) == ["client > daemon unix 56", "daemon spawns child"]


def test_a_wait_from_before_the_recording_ends_in_it(script: Script, tmp_path: Path) -> None:
    client, daemon = script.command("client"), script.running("daemon")
    near, far = script.socketpair()
    client.send(near, 56)
    daemon.poll(began=0)
    daemon.recv(far, 56)
    daemon.fork("child")
    assert script.told(script.flow(tmp_path))[-1] == "daemon spawns child"


def test_what_a_proxy_splices_through_is_caused_by_what_came_in(script: Script, tmp_path: Path) -> None:
    stranger, proxy, server = (script.running(name) for name in ("stranger", "proxy", "server"))
    client, pipe, out = script.command("client"), script.pipe(), script.pipe()
    proxy.poll(), server.poll()
    for task, size in ((stranger, 10), (client, 20), (stranger, 30)):
        began = script.now
        task.send(pipe, size)
        # One call: entered before there was anything, read by the server before it returned.
        server.poll()
        server.recv(out, size)
        server.fork(f"child {size}")
        proxy.recv(pipe, size, call="splice", began=began)
        script.tick(-1)
        proxy.send(out, size, depth=1, call="splice", began=began)
    assert script.told(script.flow(tmp_path)) == [
        "client > proxy pipe 20",
        "proxy > server pipe 20",
        "server spawns child 20",
    ]


# --- tasks that have not waited yet ---


def test_a_thread_born_to_loop_does_a_piece_of_work_for_each_message(script: Script, tmp_path: Path) -> None:
    stranger, daemon = script.running("stranger"), script.running("daemon")
    client = script.command("client")
    pipe = script.pipe()
    client.send(pipe, 1)
    daemon.recv(pipe, 1, waited=True)
    worker = daemon.thread("worker")
    (near, far), (near2, far2) = script.socketpair(), script.socketpair()
    stranger.send(near, 10)
    worker.recv(far, 10)
    worker.fork("for the stranger")
    client.send(near2, 20)
    worker.recv(far2, 20)
    worker.fork("for the client")
    assert script.told(script.flow(tmp_path)) == [
        "client > daemon pipe 1",
        "daemon spawns worker",
        "client > worker unix 20",
        "worker spawns for the client",
    ]


def test_a_thread_for_each_connection_works_for_its_client(script: Script, tmp_path: Path) -> None:
    client, daemon = script.command("client"), script.running("daemon")
    daemon.poll(call="accept")
    thread = daemon.thread("thread")
    near, far = script.socketpair()
    client.send(near, 56)
    thread.recv(far, 56, waited=True)
    thread.fork("child")
    thread.recv(far, 0, waited=True)  # it came back for more
    assert script.told(script.flow(tmp_path)) == ["client > thread unix 56", "thread spawns child"]


@pytest.mark.parametrize("call", ["recv", "futex", "poll"])
def test_who_waits_again_when_the_recording_ends_has_a_loop(
    call: str, script: Script, tmp_path: Path
) -> None:
    stranger, client = script.running("stranger"), script.command("client")
    worker = stranger.thread("worker")
    near, far = script.socketpair()
    options: dict[str, Any] = {"ret": EINPROGRESS, "flags": EventFlag.PENDING}
    match call:
        case "recv":
            client.send(near, 56)
            worker.recv(far, 56, waited=True)
            worker.recv(far.to(far.peer, EventFlag.PENDING), EINPROGRESS, waited=True)
        case "futex":
            client.wakes(worker)
            worker.futex()
            worker.futex(**options)
        case "poll":
            client.send(near, 56)
            worker.poll()
            worker.recv(far, 56)
            worker.poll(**options)
    script.tick(-1)
    worker.fork("child")
    assert script.told(script.flow(tmp_path))[1:] == ["worker spawns child"]


def test_a_child_reads_what_it_was_born_to_read(script: Script, tmp_path: Path) -> None:
    stranger, pipe = script.running("stranger"), script.pipe()
    client = script.command("client")
    child = client.fork("child")
    stranger.send(pipe, 10)
    child.recv(pipe, 10)  # once: nothing that it comes back to
    child.fork("grandchild")
    assert script.told(script.flow(tmp_path)) == ["client spawns child", "child spawns grandchild"]


def test_a_handshake_with_its_parent_is_part_of_a_childs_birth(
    script: Script, served: Served, tmp_path: Path
) -> None:
    down, up = script.pipe(), script.pipe()
    child = served.daemon.fork("child")
    for _ in range(2):
        child.send(up, 1)
        served.daemon.recv(up, 1, 5, waited=True)
        served.daemon.send(down, 1, 5)
        child.recv(down, 1, waited=True)
    child.exec("/usr/bin/guest")
    flow = script.flow(tmp_path, "exec:*guest")
    assert script.path(flow) == [
        "client > daemon unix 56",
        "daemon spawns child",
        "child execs /usr/bin/guest",
    ]
    assert script.told(flow).count("daemon > child pipe 1 (reply)") == 2


def test_a_daemon_started_on_demand_answers_its_starter(script: Script, tmp_path: Path) -> None:
    client = script.command("client")
    daemon = client.fork("daemon").exec("/usr/sbin/daemon")
    near, far = script.socketpair()
    daemon.poll()
    client.send(near, 56)
    daemon.poll()
    daemon.recv(far, 56)
    daemon.fork("child").exec("/usr/bin/guest")
    flow = script.flow(tmp_path, "exec:*guest")
    assert script.path(flow)[0] == "client > daemon unix 56"
    assert script.told(flow)[:2] == ["client spawns daemon", "daemon execs /usr/sbin/daemon"]


# --- wake-ups ---


def test_a_woken_worker_works_for_who_woke_it(script: Script, served: Served, tmp_path: Path) -> None:
    worker, idle = (served.daemon.thread(name, before=True) for name in ("worker", "idle"))
    worker.futex()
    served.daemon.wakes(worker)
    worker.futex()
    worker.fork("child")
    idle.fork("other")
    worker.futex(ret=ETIMEDOUT)
    worker.fork("later")
    assert script.told(script.flow(tmp_path)) == [
        "client > daemon unix 56",
        "daemon wakes worker",
        "worker spawns child",
    ]


def test_messages_taken_in_by_a_woken_worker_do_not_begin_its_work(
    script: Script, served: Served, tmp_path: Path
) -> None:
    worker = served.daemon.thread("worker", before=True)
    stranger, pipe = script.running("stranger"), script.pipe()
    stranger.send(pipe, 10)
    worker.futex()
    served.daemon.wakes(worker)
    worker.futex()
    worker.recv(pipe, 10, depth=4)
    worker.fork("child")
    assert script.told(script.flow(tmp_path))[-1] == "worker spawns child"


def test_a_mutex_hands_nothing_over(script: Script, served: Served, tmp_path: Path) -> None:
    worker = served.daemon.thread("worker", before=True)
    worker.poll(0)
    served.daemon.wakes(worker)
    worker.futex(mutex=True)
    worker.fork("child")
    worker.releases()
    assert script.told(script.flow(tmp_path)) == ["client > daemon unix 56"]


def test_an_operation_that_mutexes_use_too_may_hand_over(
    script: Script, served: Served, tmp_path: Path
) -> None:
    worker = served.daemon.thread("worker", before=True)
    worker.futex(mutex=True)
    served.daemon.wakes(worker)
    worker.futex(mutex=True)
    worker.fork("child")
    assert script.told(script.flow(tmp_path)) == [
        "client > daemon unix 56",
        "daemon wakes worker",
        "worker spawns child",
    ]


def test_a_lock_whose_waiters_use_the_operation_of_hand_overs_hands_nothing_over(
    script: Script, served: Served, tmp_path: Path
) -> None:
    worker = served.daemon.thread("worker", before=True)
    worker.poll(0)
    served.daemon.wakes(worker)
    worker.futex()
    worker.fork("child")
    worker.releases()
    assert script.told(script.flow(tmp_path)) == ["client > daemon unix 56"]


def interpreter() -> Mapping:
    """Where an interpreter that exports its state is mapped in this very process."""
    for mapping in mappings_of(os.getpid(), with_build_ids=False):
        if resource_words({1: [mapping]}, [1]):
            return mapping
    pytest.skip("this Python does not export _PyRuntime")


def test_pythons_lock_hands_nothing_over(script: Script, served: Served, tmp_path: Path) -> None:
    mapping = interpreter()
    ((low, high),) = resource_words({1: [mapping]}, [1])[1]
    script.maps(served.daemon, mapping)
    workers = [served.daemon.thread(f"worker {i}", before=True) for i in range(3)]
    for worker, word in zip(workers, (low, high - 4, high), strict=True):
        worker.poll(0)
        served.daemon.wakes(worker, word)
        worker.futex(word)
    assert script.told(script.flow(tmp_path)) == ["client > daemon unix 56", "daemon wakes worker 2"]


def test_an_earlier_wake_up_says_nothing_of_a_later_wait(
    script: Script, served: Served, tmp_path: Path
) -> None:
    worker = served.daemon.thread("worker", before=True)
    worker.poll(0)
    served.daemon.wakes(worker)
    worker.futex(mutex=True)
    worker.releases()
    worker.futex(ret=ETIMEDOUT)
    worker.fork("child")
    assert script.told(script.flow(tmp_path)) == ["client > daemon unix 56"]


def test_a_wake_up_of_another_word_is_none(script: Script, served: Served, tmp_path: Path) -> None:
    worker = served.daemon.thread("worker", before=True)
    worker.futex()
    served.daemon.wakes(worker, same=False)
    worker.futex()
    assert script.told(script.flow(tmp_path)) == ["client > daemon unix 56"]


# --- what tasks do by themselves ---


def test_what_the_commands_descendants_do_by_themselves_is_the_commands(
    script: Script, tmp_path: Path
) -> None:
    client = script.command("client")
    child = client.fork("child").exec("/bin/child")
    for _ in range(2):
        child.poll(0)  # a timer, over and over
    child.fork("grandchild")
    assert script.told(script.flow(tmp_path))[-1] == "child spawns grandchild"


def test_a_daemons_child_has_a_life_of_its_own_once_it_execs(
    script: Script, served: Served, tmp_path: Path
) -> None:
    child = served.daemon.fork("child")
    for _ in range(2):
        child.poll(0)
    child.fork("before")
    guest = child.exec("/usr/bin/guest")
    for _ in range(2):
        guest.poll(0)
    guest.fork("after")
    assert script.told(script.flow(tmp_path)) == [
        "client > daemon unix 56",
        "daemon spawns child",
        "child spawns before",
        "child execs /usr/bin/guest",
    ]


# --- signals ---


def test_a_signal_begins_work_where_a_task_waited(script: Script, tmp_path: Path) -> None:
    client, daemon = script.command("client"), script.running("daemon")
    daemon.poll()
    client.kill(daemon, SIGUSR1)
    daemon.poll(EINTR)
    daemon.signalled(SIGUSR1)
    daemon.fork("child")
    assert script.told(script.flow(tmp_path)) == ["client signals daemon", "daemon spawns child"]


def test_a_signal_amid_work_does_not_change_whose_it_is(
    script: Script, served: Served, tmp_path: Path
) -> None:
    stranger = script.running("stranger")
    stranger.kill(served.daemon, SIGUSR1, thread=True)
    served.daemon.signalled(SIGUSR1)
    served.daemon.fork("child")
    assert script.told(script.flow(tmp_path)) == ["client > daemon unix 56", "daemon spawns child"]


@pytest.mark.parametrize("thread", [True, False])
def test_signals_are_told_apart_by_their_numbers(thread: bool, script: Script, tmp_path: Path) -> None:
    client, stranger, daemon = script.command("client"), script.running("stranger"), script.running("daemon")
    client.kill(daemon, SIGUSR2, thread)
    stranger.kill(daemon, SIGUSR1, thread)
    daemon.signalled(SIGUSR1)  # the lower number is delivered first
    daemon.fork("for the stranger")
    taken = daemon.signalled(SIGUSR2)
    flow = script.flow(tmp_path)
    assert script.told(flow) == ["client signals daemon"]
    assert flow.hops[0].arrived_ns == script.when(taken) - script.began


def test_alike_signals_become_one(script: Script, tmp_path: Path) -> None:
    pending = 2
    client, stranger, daemon = script.command("client"), script.running("stranger"), script.running("daemon")
    daemon.poll()
    stranger.kill(daemon, SIGUSR1)
    client.kill(daemon, SIGUSR1, result=pending)
    daemon.poll(EINTR)
    daemon.signalled(SIGUSR1)
    daemon.fork("for both")
    stranger.kill(daemon, SIGUSR1)
    daemon.poll(EINTR)
    daemon.signalled(SIGUSR1)
    daemon.fork("for the stranger")
    assert script.told(script.flow(tmp_path)) == ["client signals daemon", "daemon spawns for both"]


@pytest.mark.parametrize("signal", [SIGTERM, SIGKILL])
def test_whatever_kills_a_task_arrives_as_sigkill(signal: int, script: Script, tmp_path: Path) -> None:
    client = script.command("client")
    child = client.fork("child")
    client.kill(child, signal)
    child.signalled(SIGKILL)
    child.exit(signal)
    client.reap(child)
    assert script.told(script.flow(tmp_path)) == [
        "client spawns child",
        "client signals child",
        "child ends: client",
    ]


def test_a_signal_that_was_ignored_is_not_taken_for_a_later_one(script: Script, tmp_path: Path) -> None:
    ignored = 1
    client, stranger, daemon = script.command("client"), script.running("stranger"), script.running("daemon")
    client.kill(daemon, SIGCHLD, result=ignored)
    stranger.kill(daemon, SIGCHLD)
    daemon.signalled(SIGCHLD)
    assert script.told(script.flow(tmp_path)) == []


def test_a_signalfd_takes_as_many_signals_as_were_read(script: Script, tmp_path: Path) -> None:
    client, daemon = script.command("client"), script.running("daemon")
    signals = End(ChannelType.SIGNALFD, script.number(), 0)
    client.kill(daemon, SIGUSR1)
    client.kill(daemon, SIGUSR2)
    daemon.poll()
    daemon.recv(signals, 256)
    daemon.fork("child")
    assert script.told(script.flow(tmp_path)) == ["client signals daemon"] * 2 + ["daemon spawns child"]


def test_passed_descriptors_are_told(script: Script, served: Served, tmp_path: Path) -> None:
    served.daemon.send(served.far, 1, flags=EventFlag.FDS, call="sendmsg")
    served.client.recv(served.near, 1, waited=True)
    assert [hop.passed_fds for hop in script.flow(tmp_path).hops] == [0, 1]


def test_a_job_begins_work_of_its_own_whatever_woke_its_worker(script: Script, tmp_path: Path) -> None:
    """It is woken for the second of two jobs, takes the first, and finds the second awake."""
    client, worker, keeper = script.command("client"), script.running("worker"), script.running("keeper")
    producers = [script.running(f"producer {i}") for i in range(2)]
    store, jobs = script.pipe(), [End(ChannelType.QUEUE, 0x5000 + i, 0x5000 + i) for i in range(2)]
    for producer, job in zip(producers, jobs, strict=True):
        near, far = script.socketpair()
        client.send(near, 10)
        producer.poll()
        producer.recv(far, 10)
        producer.send(job, 0)
    producers[1].wakes(worker)
    worker.futex()
    for i, job in enumerate(jobs):
        worker.recv(job, 0, depth=1)
        worker.send(store, 30 + i, depth=3)
        keeper.recv(store, 30 + i, waited=True)
    flow = script.flow(tmp_path)
    put = [hop for hop in flow.hops if hop.channel and hop.channel.type == "queue"]
    told = [hop for hop in flow.hops if hop.channel and hop.channel.type == "pipe"]
    assert [hop.source_activation for hop in told] == [hop.target_activation for hop in put]
    assert [script.label(hop.source) for hop in put] == ["producer 0", "producer 1"]
    triggers = {act.id: act.triggers for act in flow.activations}
    assert [triggers[hop.target_activation] for hop in put] == [(hop.n,) for hop in put]
    assert all(hop.tier is Tier.OBSERVED and hop.bytes is None for hop in put)
