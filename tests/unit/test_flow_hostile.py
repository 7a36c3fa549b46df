"""Recordings that no kernel made: following ends with a flow, or with an error that says what is wrong."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from clew.errors import TraceError
from clew.model.event import EventKind
from clew.model.flow import Flow
from tests.support.script import TICK, Script

HUGE = dict.fromkeys(("t0", "t"), 1 << 62) | dict.fromkeys(("sp", "chan", "peer"), 1 << 64)
HUGE |= dict.fromkeys(("tid", "pid"), 1 << 32)
SMALL = {"kind": 15, "channel": 15, "nr": 512, "flags": 256, "count": 300, "stack": 1}


def nonsense(seed: int) -> Script:
    """Events and lifecycle records of random numbers, a few tasks and channels among them."""
    rng = random.Random(seed)
    script = Script()
    actors = [script.command("root"), script.running("daemon"), script.actor("unknown")]
    actors += [actors[0].fork("child"), actors[1].thread("thread", before=True)]
    for _ in range(150):
        script.tick()
        fields = {name: rng.randrange(limit) for name, limit in SMALL.items()}
        fields |= {name: rng.choice((0, 1, 2, 3, rng.randrange(limit))) for name, limit in HUGE.items()}
        fields["ret"] = rng.choice((-4, 0, 1, 10, 128, rng.randrange(-(1 << 31), 1 << 31)))
        if rng.random() < 0.8:
            actor, other = rng.choices(actors, k=2)
            fields |= {"tid": actor.tid, "pid": actor.pid, "t": script.now}
            fields["t0"] = rng.choice((0, script.now - rng.randrange(100 * TICK), script.now + TICK))
            fields["chan"] = rng.choice((7, 8, other.tid, other.pid << 32 | other.tid))
        script.event(**fields)
        if rng.random() < 0.2:
            facts = {name: rng.randrange(limit) for name, limit in (("channel", 20), ("flags", 16))}
            facts["other_tid"] = facts["other_pid"] = rng.choice((0, 1, *(a.tid for a in actors)))
            for name in ("chan", "peer", "peer2", "local"):
                facts[name] = rng.choice((0, 7, rng.randrange(1 << 63)))
            script.life(rng.choice(list(EventKind)), rng.choice(actors), rng.randbytes(20), **facts)
    return script


@pytest.mark.parametrize("seed", range(25))
def test_nonsense_is_followed_or_refused(seed: int, tmp_path: Path) -> None:
    script = nonsense(seed)
    try:
        flow = script.flow(tmp_path, "exec:*")
    except TraceError:
        return
    assert isinstance(flow, Flow)
    assert [hop.n for hop in flow.hops] == list(range(1, len(flow.hops) + 1))


def test_a_call_that_returned_before_its_task_was_born(tmp_path: Path) -> None:
    script = Script()
    child = script.command("root").fork("child")
    script.event(kind=EventKind.WAIT, tid=child.tid, pid=child.pid, t0=script.now, t=0, nr=7, ret=1)
    assert script.told(script.flow(tmp_path)) == ["root spawns child"]


@pytest.mark.parametrize("cut", range(0, 2000, 97))
def test_a_recording_cut_short_anywhere_is_followed(cut: int, tmp_path: Path) -> None:
    script = nonsense(1)
    trace = script.trace(tmp_path)
    for name in ("events", "lifecycle"):
        spool = trace.path / f"{name}.spool"
        spool.write_bytes(spool.read_bytes()[: -cut or None])
    try:
        script.follow(tmp_path)
    except TraceError as error:
        assert "no root" in str(error)
