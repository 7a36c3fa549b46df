"""Random systems of tasks and pipes that know what caused what: the flow must be exactly that."""

from __future__ import annotations

import random
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from clew.model.flow import Flow, HopKind
from tests.support.script import Actor, End, Script

SEEDS = range(40)
ROUNDS = 800
Fact = tuple[str, str, str, int]
"""A hop: kind, source, target, bytes."""


@dataclass
class Work:
    """A piece of work: what is left to do, whom to answer, whether the root caused it."""

    of_root: bool
    plan: list[str]
    answer_to: Pipe | None = None


@dataclass
class Message:
    size: int
    work: Work
    sender: str
    answer_to: Pipe | None = None


@dataclass
class Pipe:
    """A pipe and what is in it."""

    end: End
    queue: deque[Message] = field(default_factory=deque)


class Task:
    """A task of the system: at most one piece of work in hand, and its private pipe for answers."""

    def __init__(self, system: System, actor: Actor) -> None:
        self.system, self.actor = system, actor
        self.inbox, self.answers = Pipe(system.script.pipe()), Pipe(system.script.pipe())
        self.work: Work | None = None
        self.asked = False
        self.later: deque[Message] = deque()  # read together with the first by one poll


class System:
    """Clients that ask, servers that answer, forward, ask helpers, wake workers and fork."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.script = Script()
        self.facts: Counter[Fact] = Counter()
        self.servers = [Task(self, self.script.running(f"server {i}")) for i in range(3)]
        self.helpers = [Task(self, self.script.running(f"helper {i}")) for i in range(2)]
        self.workers = [
            Task(self, s.actor.thread(f"worker {i}", before=True)) for i, s in enumerate(self.servers)
        ]
        for task in self.servers + self.helpers:
            task.actor.poll(0)
        for task in self.workers:
            task.actor.futex(ret=-110)
        self.clients = [Task(self, self.script.running("stranger")), Task(self, self.script.command("root"))]
        self._children = 0

    def told(self, kind: str, source: str, target: str, size: int, work: Work) -> None:
        if work.of_root:
            self.facts[kind, source, target, size] += 1

    def send(self, task: Task, pipe: Pipe, work: Work, depth: int = 2, answer_to: Pipe | None = None) -> None:
        size = self.random.randint(1, 2000)
        task.actor.send(pipe.end, size, depth)
        pipe.queue.append(Message(size, work, task.actor.label, answer_to))

    def take(self, task: Task, pipe: Pipe, depth: int) -> Message:
        """Read a whole message, now and then in two parts."""
        message = pipe.queue.popleft()
        parts = [message.size]
        if message.size > 1 and self.random.random() < 0.3:
            parts = [1, message.size - 1]
        for part in parts:
            task.actor.recv(pipe.end, part, depth)
        self.told("message", message.sender, task.actor.label, message.size, message.work)
        return message

    def plan(self) -> list[str]:
        return self.random.choices(
            ["forward", "ask", "wake", "fork", "nap"], [3, 3, 3, 1, 1], k=self.random.randint(0, 3)
        )

    def step(self) -> None:
        """Somebody does something."""
        task = self.random.choice(self.servers + self.helpers + self.workers + self.clients)
        if task in self.clients:
            self.client(task)
        elif task.work is None:
            self.idle(task)
        elif task.asked:
            if task.answers.queue:
                self.take(task, task.answers, depth=6)
                task.asked = False
        elif task.work.plan:
            self.act(task, task.work, task.work.plan.pop())
        else:
            self.finish(task, task.work)

    def client(self, task: Task) -> None:
        if task.answers.queue:
            self.take(task, task.answers, depth=1)
        else:
            server = self.random.choice(self.servers)
            of_root = task is self.clients[1]
            self.send(task, server.inbox, Work(of_root, []), answer_to=task.answers)

    def idle(self, task: Task) -> None:
        """Wait in the loop, and take in the next message if there is one."""
        if not task.inbox.queue:
            if task not in self.workers and self.random.random() < 0.1:
                task.actor.poll(0)
            return
        task.actor.poll()
        self.begin(task)

    def begin(self, task: Task) -> None:
        message = self.take(task, task.inbox, depth=1)
        plan = self.plan() if task in self.servers else []
        task.work = Work(message.work.of_root, plan, message.answer_to)

    def act(self, task: Task, work: Work, what: str) -> None:
        label = task.actor.label
        match what:
            case "forward":
                self.send(task, self.random.choice([s for s in self.servers if s is not task]).inbox, work)
            case "ask" if task in self.servers:
                self.send(task, self.random.choice(self.helpers).inbox, work, 6, task.answers)
                task.asked = True
            case "wake" if task in self.servers:
                worker = self.workers[self.servers.index(task)]
                if worker.work is None:
                    task.actor.wakes(worker.actor)
                    worker.actor.futex()
                    self.told("wake", label, worker.actor.label, 0, work)
                    worker.work = Work(work.of_root, self.plan())
            case "fork":
                self._children += 1
                child = task.actor.fork(f"child {self._children}")
                self.told("spawn", label, child.label, 0, work)
                self.send(Task(self, child), self.random.choice(self.servers).inbox, work)
                child.exit()
            case "nap":
                task.actor.poll(0, depth=7)

    def finish(self, task: Task, work: Work) -> None:
        if work.answer_to:
            self.send(task, work.answer_to, work)
        task.work = None
        if task.inbox.queue and task in self.servers and self.random.random() < 0.5:
            self.begin(task)  # the next of several that were ready after one wait


def facts_of(script: Script, flow: Flow) -> Counter[Fact]:
    return Counter(
        (hop.kind.value, script.label(hop.source), script.label(hop.target), hop.bytes or 0)
        for hop in flow.hops
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_the_flow_is_what_the_root_caused(seed: int, tmp_path: Path) -> None:
    system = System(seed)
    for _ in range(ROUNDS):
        system.step()
    assert facts_of(system.script, system.script.flow(tmp_path)) == system.facts
    assert len(system.facts) > 20


@pytest.mark.parametrize("seed", SEEDS[:10])
def test_every_hop_leads_back_to_the_root(seed: int, tmp_path: Path) -> None:
    system = System(seed)
    for _ in range(ROUNDS):
        system.step()
    flow = system.script.flow(tmp_path)
    began = {hop.n: {h.n for h in flow.hops if h.target_activation == hop.source_activation and not h.reply}
             for hop in flow.hops}  # fmt: skip
    for hop in flow.hops:
        assert system.script.label(hop.source) == "root" or min(began[hop.n]) < hop.n
        assert hop.t_ns <= hop.arrived_ns
    assert {hop.kind for hop in flow.hops} <= {HopKind.MESSAGE, HopKind.WAKE, HopKind.SPAWN}


def test_the_same_recording_gives_the_same_flow(tmp_path: Path) -> None:
    system = System(7)
    for _ in range(ROUNDS):
        system.step()
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert system.script.flow(tmp_path / "a") == system.script.flow(tmp_path / "b")
