"""The road a request takes is the one the README draws: each step in the task that is to take it."""

from __future__ import annotations

from pathlib import Path

from minivirt_world import Fields, World, status

ROAD = [
    *("send request", "read request", "take job", "parse", "hand on", "take command"),
    *("fork", "child is ready", "notify child", "child has execed", "send reply", "receive reply"),
]


def thread_name(pid: int, tid: object) -> str:
    return Path(f"/proc/{pid}/task/{tid}/comm").read_text().strip()


def last_start(world: World) -> list[Fields]:
    said = world.said()
    begins = max(n for n, step in enumerate(said) if step["did"] == "send request")
    return said[begins:]


def test_a_start_takes_every_step_in_order(any_world: World) -> None:
    any_world.start("tiny")
    steps = last_start(any_world)
    assert [step["did"] for step in steps] == ROAD
    times = [step["ns"] for step in steps]
    assert times == sorted(times, key=lambda ns: int(str(ns)))


def test_each_step_is_taken_by_the_task_that_is_to_take_it(any_world: World) -> None:
    guest = any_world.start("tiny")
    daemon = any_world.daemon_pid()
    by = {str(step["did"]): (step["pid"], step["tid"]) for step in last_start(any_world)}
    shell = by["send request"]
    assert shell == by["receive reply"] and shell[0] == shell[1] != daemon
    assert by["read request"] == by["send reply"] == (daemon, daemon)
    worker, launcher = by["take job"], by["take command"]
    assert worker == by["parse"] == by["hand on"]
    assert thread_name(daemon, worker[1]).startswith("rpc-worker-")
    assert launcher == by["fork"] == by["notify child"] == by["child has execed"]
    assert thread_name(daemon, launcher[1]) == "launcher"
    assert {step["child"] for step in last_start(any_world) if "child" in step} == {guest}


def test_the_daemon_is_one_loop_sixteen_workers_and_a_launcher(world: World) -> None:
    world.sh("list")
    daemon = world.daemon_pid()
    names = sorted(thread_name(daemon, task.name) for task in Path(f"/proc/{daemon}/task").iterdir())
    assert names == sorted(["minivirtd", "launcher", *(f"rpc-worker-{n}" for n in range(16))])


def test_every_worker_gets_its_turn(world: World) -> None:
    world.sh("list")
    for _ in range(64):
        world.ask(command="list")
    took = [step["thread"] for step in world.said() if step["did"] == "take job"]
    assert set(took) <= {f"rpc-worker-{n}" for n in range(16)}
    assert len(set(took)) > 1


def test_a_user_s_first_request_starts_the_daemon(session: World) -> None:
    session.sh("list")
    steps = [step["did"] for step in session.said()]
    assert steps[:3] == ["start daemon", "send request", "read request"]
    facts = status(session.daemon_pid())
    assert facts["Uid"].split() == [str(session.uid)] * 4
    assert session.folder.stat().st_mode & 0o777 == 0o700
    session.sh("list")
    assert [step["did"] for step in session.said()].count("start daemon") == 1
