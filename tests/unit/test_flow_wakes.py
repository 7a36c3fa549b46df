"""What ends a sleep that no message ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from clew.kernel.syscalls import numbers
from clew.model.event import NO_CALL, ChannelType, EventFlag, EventKind
from tests.support.script import Actor, Script

SIGCONT = 18


@pytest.fixture
def script() -> Script:
    return Script()


def wakes(
    by: Actor,
    other: Actor,
    call: str,
    channel: ChannelType = ChannelType.NONE,
    peer: int = 0,
    count: int = -1,
) -> None:
    """``by``, inside the call ``count`` (default: the same), wakes ``other`` from ``call``, no futex wait."""
    target = other.pid << 32 | other.tid
    by.call(EventKind.WAKE, call, 0, 2, began=by.script.now, channel=channel, chan=target, peer=peer,
            count=numbers()[call] if count < 0 else count)  # fmt: skip


def test_whoever_ends_a_sleep_hands_over(script: Script, tmp_path: Path) -> None:
    client, daemon = script.command("client"), script.running("daemon")
    wakes(client, daemon, "semop")
    daemon.poll(0, call="semop", flags=EventFlag.BLOCKED)
    daemon.fork("child")
    flow = script.flow(tmp_path)
    assert script.told(flow) == ["client wakes daemon", "daemon spawns child"]
    assert flow.hops[0].channel is None


def test_a_wake_up_names_the_waker_s_call_and_the_sleeper_s(script: Script, tmp_path: Path) -> None:
    client, daemon = script.command("client"), script.running("daemon")
    wakes(client, daemon, "accept", count=numbers()["connect"])
    daemon.poll(0, call="accept", flags=EventFlag.BLOCKED)
    wakes(client, daemon, "openat", count=NO_CALL)
    daemon.poll(0, call="openat", flags=EventFlag.BLOCKED)
    hops = script.flow(tmp_path).hops
    assert [(hop.syscall_from, hop.syscall_to) for hop in hops] == [("connect", "accept"), ("", "openat")]


def test_a_sleep_that_a_signal_ends_is_told_by_the_signal(script: Script, tmp_path: Path) -> None:
    client, daemon = script.command("client"), script.running("daemon")
    client.kill(daemon, 10)
    wakes(client, daemon, "kill")
    daemon.poll(-4, flags=EventFlag.BLOCKED)
    daemon.signalled(10)
    daemon.fork("child")
    assert script.told(script.flow(tmp_path)) == ["client signals daemon", "daemon spawns child"]


def test_a_timer_runs_for_whoever_set_it(script: Script, tmp_path: Path) -> None:
    client, daemon = script.command("client"), script.running("daemon")
    timer = script.pipe(ChannelType.TIMERFD)
    client.call(EventKind.ARM, "timerfd_settime", channel=timer.channel, chan=timer.chan, peer=timer.peer)
    daemon.recv(timer, 8, waited=True)
    daemon.fork("child")
    assert script.told(script.flow(tmp_path)) == ["client wakes daemon", "daemon spawns child"]


def test_a_stopped_task_goes_on_when_it_is_let(script: Script, tmp_path: Path) -> None:
    client, daemon = script.command("client"), script.running("daemon")
    daemon.poll(0)
    client.kill(daemon, SIGCONT, result=1)
    daemon.fork("child")
    assert script.told(script.flow(tmp_path)) == ["client signals daemon", "daemon spawns child"]
