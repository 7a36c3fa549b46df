"""The flow of a root, the path in it to a target, and what is said of both."""

from __future__ import annotations

from pathlib import Path

import pytest

from clew.errors import TraceError
from clew.flow.follow import Target, follow
from clew.model.flow import Flow, HopKind
from clew.model.rules import parse_target
from tests.support.script import Actor, Script

GUEST = "exec:*guest"


@pytest.fixture
def script() -> Script:
    return Script()


class Start:
    """``client`` asks ``daemon``, which hands on to its ``worker``; nothing has been started yet."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.client, self.daemon = script.command("client"), script.running("daemon")
        self.worker = self.daemon.thread("worker", before=True)
        self.near, self.far = script.socketpair()
        self.worker.futex()
        self.daemon.poll()
        self.client.send(self.near, 56)
        self.daemon.poll()
        self.daemon.recv(self.far, 56)
        self.daemon.wakes(self.worker)
        self.worker.futex()

    def answer(self, size: int = 28) -> None:
        self.worker.send(self.far, size)
        self.client.recv(self.near, size, waited=True)

    def launch(self, label: str = "child", exe: str = "/usr/bin/guest") -> Actor:
        return self.worker.fork(label).exec(exe)


@pytest.fixture
def start(script: Script) -> Start:
    return Start(script)


def kinds(flow: Flow, numbers: tuple[int, ...]) -> list[HopKind]:
    return [flow.hops[n - 1].kind for n in numbers]


def test_replies_and_dead_ends_are_in_the_flow_and_not_on_the_path(
    script: Script, start: Start, tmp_path: Path
) -> None:
    start.launch("probe", "/usr/bin/probe")
    start.launch()
    start.answer()
    flow = script.flow(tmp_path, GUEST)
    assert script.path(flow) == [
        "client > daemon unix 56",
        "daemon wakes worker",
        "worker spawns child",
        "child execs /usr/bin/guest",
    ]
    rest = [script.line(hop) for hop in flow.hops if not hop.on_path]
    assert rest == [
        "worker spawns probe",
        "probe execs /usr/bin/probe",
        "worker > client unix 28 (reply)",
    ]
    assert [script.label(reached.task) for reached in flow.reached] == ["child"]


def test_the_root_may_do_it_itself(script: Script, tmp_path: Path) -> None:
    script.command("client").exec("/usr/bin/guest", "-x")
    flow = script.flow(tmp_path, GUEST)
    assert script.path(flow) == ["client execs /usr/bin/guest"]
    assert flow.reached[0].argv == (b"/usr/bin/guest", b"-x")


def test_the_path_leads_to_the_last_of_several_targets(script: Script, start: Start, tmp_path: Path) -> None:
    start.launch("first")
    start.launch("second")
    flow = script.flow(tmp_path, GUEST)
    assert script.path(flow)[-2:] == ["worker spawns second", "second execs /usr/bin/guest"]
    assert len(flow.reached) == 2


def test_a_target_that_was_not_reached_is_told(script: Script, start: Start, tmp_path: Path) -> None:
    script.running("stranger").fork("other").exec("/usr/bin/guest")
    flow = script.flow(tmp_path, GUEST)
    assert (flow.path, flow.reached) == ((), ())
    assert "Nothing in the flow matched exec:*guest." in flow.notes


def test_without_a_target_every_exec_is_reached(script: Script, start: Start, tmp_path: Path) -> None:
    start.launch("probe", "/usr/bin/probe")
    start.launch()
    flow = script.flow(tmp_path)
    assert [reached.exe for reached in flow.reached] == [b"/usr/bin/probe", b"/usr/bin/guest"]
    assert flow.path == ()


def test_of_several_causes_the_last_to_arrive_set_the_work_going(script: Script, tmp_path: Path) -> None:
    client, daemon, pipe = script.command("client"), script.running("daemon"), script.pipe()
    helpers = [client.fork(f"helper {i}") for i in range(2)]
    daemon.poll()
    for i, helper in enumerate(helpers):
        helper.send(pipe, 10 + i)
    daemon.poll()
    daemon.recv(pipe, 21)  # of both at once
    daemon.fork("child").exec("/usr/bin/guest")
    flow = script.flow(tmp_path, GUEST)
    assert script.path(flow)[:2] == ["client spawns helper 1", "helper 1 > daemon pipe 11"]
    (taken,) = [a for a in flow.activations if len(a.triggers) == 2]
    assert [script.line(flow.hops[n - 1]) for n in taken.triggers] == [
        "helper 0 > daemon pipe 10",
        "helper 1 > daemon pipe 11",
    ]
    alone = script.follow(tmp_path, GUEST, whole=False)
    assert [a.triggers for a in alone.activations if len(a.triggers) == 2] == [taken.triggers]


def test_a_cause_that_came_after_the_step_is_not_on_its_path(script: Script, tmp_path: Path) -> None:
    client, daemon, pipe = script.command("client"), script.running("daemon"), script.pipe()
    early, late = client.fork("early"), client.fork("late")
    daemon.poll()
    early.send(pipe, 20)
    daemon.poll()
    daemon.recv(pipe, 10)
    daemon.fork("child").exec("/usr/bin/guest")
    daemon.recv(pipe, 10)  # the rest of the same message
    late.send(pipe, 5)
    flow = script.flow(tmp_path, GUEST)
    assert script.path(flow)[0] == "client spawns early"
    assert [script.line(flow.hops[n - 1]) for n in flow.path].count("early > daemon pipe 20") == 1


def test_work_that_was_sent_before_the_cause_came_is_not_of_the_flow(script: Script, tmp_path: Path) -> None:
    client, stranger, daemon = script.command("client"), script.running("stranger"), script.running("daemon")
    pipe, out = script.pipe(), script.pipe()
    other = script.running("other")
    stranger.send(pipe, 10)
    daemon.poll()
    daemon.recv(pipe, 10)
    daemon.send(out, 3)
    client.send(pipe, 10)
    other.poll()
    other.recv(out, 3)
    daemon.poll()
    daemon.recv(pipe, 10)
    daemon.fork("child")
    assert script.told(script.flow(tmp_path)) == ["client > daemon pipe 10", "daemon spawns child"]


def test_hops_are_numbered_by_when_they_left(script: Script, start: Start, tmp_path: Path) -> None:
    pipe, reader = script.pipe(), script.running("reader")
    began = script.now
    start.launch()
    reader.poll()
    reader.recv(pipe, 10)
    start.worker.send(pipe, 10, began=began - 10)
    flow = script.flow(tmp_path, GUEST)
    assert [hop.n for hop in flow.hops] == list(range(1, len(flow.hops) + 1))
    left = [hop.t_ns for hop in flow.hops]
    assert left == sorted(left)
    assert script.told(flow)[2:4] == ["worker > reader pipe 10", "worker spawns child"]


def test_numbers_do_not_depend_on_the_target(script: Script, start: Start, tmp_path: Path) -> None:
    start.launch()
    start.answer()
    trace = script.trace(tmp_path)
    plain, aimed = follow(trace), follow(trace, Target(GUEST, parse_target(GUEST)))
    only_path = follow(trace, Target(GUEST, parse_target(GUEST)), whole=False)
    assert [(hop.n, script.line(hop)) for hop in plain.hops] == [
        (hop.n, script.line(hop)) for hop in aimed.hops
    ]
    assert [hop.n for hop in only_path.hops] == list(aimed.path) == list(only_path.path)


def test_the_end_of_a_child_belongs_to_who_waited_for_it(script: Script, tmp_path: Path) -> None:
    client = script.command("client")
    child = client.fork("child")
    stray = script.running("stray")
    child.exit(3 << 8)
    client.reap(child)
    stray.exit()
    client.reap(child)  # tells of no second end
    assert script.told(script.flow(tmp_path)) == ["client spawns child", "child ends: client"]


def test_a_stopped_child_has_not_ended(script: Script, tmp_path: Path) -> None:
    client = script.command("client")
    child = client.fork("child")
    client.reap(child)  # WUNTRACED
    child.exit()
    client.reap(child)
    flow = script.flow(tmp_path)
    assert kinds(flow, (1, 2)) == [HopKind.SPAWN, HopKind.EXIT]
    assert len(flow.hops) == 2


# --- losses ---


def test_hops_across_a_gap_are_marked(script: Script, start: Start, tmp_path: Path) -> None:
    start.launch()
    script.tick(100)
    began = script.now
    start.worker.send(start.far, 28)
    script.tick(5)
    script.gap(began)
    start.client.recv(start.near, 28, waited=True)
    flow = script.flow(tmp_path, GUEST)
    assert [script.line(hop) for hop in flow.hops if hop.near_gap] == ["worker > client unix 28 (reply)"]
    assert "Records were lost, none of them near the path." in flow.notes
    assert flow.lost == {"send": 1}


def test_a_gap_that_lasts_longer_than_a_hop_is_near_it_too(
    script: Script, start: Start, tmp_path: Path
) -> None:
    began = script.now
    script.tick(10)
    start.launch()
    script.tick(10)
    script.gap(began)
    flow = script.flow(tmp_path, GUEST)
    assert {script.line(hop) for hop in flow.hops if hop.near_gap} == {
        "worker spawns child",
        "child execs /usr/bin/guest",
    }
    assert "Records were lost near the path: hops may be missing there." in flow.notes


def test_a_gap_between_a_cause_and_what_it_caused_is_near_that(
    script: Script, start: Start, tmp_path: Path
) -> None:
    script.tick(5)
    script.gap()  # was there another hand-over to the worker?
    start.launch()
    flow = script.flow(tmp_path, GUEST)
    assert next(script.line(hop) for hop in flow.hops if hop.near_gap) == "worker spawns child"


def test_a_channel_of_which_a_receive_was_lost_is_doubtful_from_then_on(
    script: Script, tmp_path: Path
) -> None:
    client, daemon = script.command("client"), script.running("daemon")
    wrong, right = script.pipe(), script.pipe()
    daemon.poll()
    for size in (10, 20, 30):
        client.send(wrong, size), client.send(right, size + 1)
        daemon.poll()
        lost = daemon.recv(wrong, size)
        if size == 20:
            script.forget(lost)
            script.gap()
        daemon.recv(right, size + 1)
    told = [(hop.bytes, hop.near_gap) for hop in script.flow(tmp_path).hops]
    assert told[:3] == [(10, False), (11, False), (20, True)]
    assert (31, False) in told
    assert (30, False) not in told


def test_a_loss_that_nobody_located_is_not_called_far(script: Script, start: Start, tmp_path: Path) -> None:
    start.launch()
    script.meta["lost"] = {"forked": 2}
    flow = script.flow(tmp_path, GUEST)
    assert not any("none of them near" in note for note in flow.notes)
    assert any("Records were lost" in note for note in flow.notes)


def test_a_recorder_that_was_killed_is_told(script: Script, start: Start, tmp_path: Path) -> None:
    script.meta["finished"] = False
    assert any("did not end in order" in note for note in script.flow(tmp_path).notes)


# --- roots ---


def test_a_recording_without_a_root_says_so(script: Script, tmp_path: Path) -> None:
    script.running("daemon").poll()
    with pytest.raises(TraceError, match="no root"):
        script.flow(tmp_path)


def test_named_processes_are_roots_too(script: Script, tmp_path: Path) -> None:
    daemon, other, pipe = script.running("daemon"), script.running("other"), script.pipe()
    script.meta["pids"] = [daemon.pid]
    daemon.send(pipe, 10)
    other.poll()
    other.recv(pipe, 10)
    other.fork("child").exec("/usr/bin/guest")
    flow = script.flow(tmp_path, GUEST)
    assert script.path(flow) == [
        "daemon > other pipe 10",
        "other spawns child",
        "child execs /usr/bin/guest",
    ]
    assert script.label(flow.root) == "daemon"


def test_an_empty_recording_has_an_empty_flow(script: Script, tmp_path: Path) -> None:
    script.command("client")
    flow = script.flow(tmp_path)
    assert (flow.hops, flow.duration_ns, flow.exit_status) == ((), 0, 0)
    assert script.label(flow.root) == "client"


@pytest.mark.parametrize("waiting", [False, True])
def test_a_message_that_is_read_bytewise_is_one_hop(script: Script, tmp_path: Path, waiting: bool) -> None:
    client, server = script.command("client"), script.running("server")
    near, far = script.socketpair()
    client.send(near, 40)
    for _ in range(40):
        if waiting:
            server.poll()
        server.recv(far, 1)
    server.fork("child").exec("/bin/guest")
    flow = script.flow(tmp_path, "exec:*guest")
    assert script.told(flow) == script.path(flow) == [
        "client > server unix 40",
        "server spawns child",
        "child execs /bin/guest",
    ]  # fmt: skip
    (last,) = [act for act in flow.activations if act.id == flow.hops[1].source_activation]
    assert last.triggers == (1,)
