"""The guardian alone, without BPF: whom it was told of runs on when the keeper is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from clew.cli.holding import seconds, span
from clew.hold.critical import critical_matches
from clew.hold.hold import Hold, HoldEvent
from clew.kernel import procfs, signals
from clew.model.frame import Frame
from clew.model.rules import parse_rules
from clew.model.task import TaskId
from tests.support.bounded import until

KEEPER = """
import os, sys
from clew.hold.watched import Guardian
from clew.kernel import procfs
from clew.model.task import TaskId
guardian = Guardian()
guardian.wait_ready()
for pid in map(int, sys.argv[1:]):
    guardian.holds(TaskId(pid, pid, procfs.stat(pid).start_ns))
print(guardian.pid, flush=True)
sys.stdin.read()
guardian.close()
"""


def _stopped(count: int) -> list[subprocess.Popen[bytes]]:
    started = [subprocess.Popen(["sh", "-c", "kill -STOP $$; exit 9"]) for _ in range(count)]
    for process in started:
        assert signals.wait_stopped(process.pid, process.pid, 10)
    return started


def _keeper(pids: list[int]) -> subprocess.Popen[bytes]:
    keeper = subprocess.Popen(
        [sys.executable, "-c", KEEPER, *map(str, pids)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert keeper.stdout is not None
    keeper.guardian = int(keeper.stdout.readline())  # type: ignore[attr-defined]
    return keeper


def test_everybody_runs_on_when_the_keeper_is_killed() -> None:
    held = _stopped(20)
    keeper = _keeper([process.pid for process in held])
    keeper.kill()
    assert [process.wait(10) for process in held] == [9] * 20
    keeper.communicate()


def test_the_guardian_ends_with_a_keeper_that_says_good_bye() -> None:
    (held,) = _stopped(1)
    keeper = _keeper([held.pid])
    guardian: int = keeper.guardian  # type: ignore[attr-defined]
    keeper.communicate(timeout=10)
    until(lambda: procfs.stat(guardian) is None, what="the guardian's end")
    assert signals.state(held.pid, held.pid) == "T"
    held.kill()
    held.wait()


def test_signals_to_the_terminals_group_do_not_end_it() -> None:
    (held,) = _stopped(1)
    keeper = _keeper([held.pid])
    guardian: int = keeper.guardian  # type: ignore[attr-defined]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(guardian, number)
    keeper.kill()
    assert held.wait(10) == 9
    keeper.communicate()


def test_a_hold_travels_whole() -> None:
    hold = Hold(
        "H3", "exec:x", TaskId(7, 8, 9), b"\xffcomm", b"/\xfe", (b"a\xff", b""), 1, 0, "thread", "function",
        Frame("f", b"/lib\xff", 3, "f.c", 4), 10, 5.0, 6, "ptrace",
    )  # fmt: skip
    event = HoldEvent("released", hold, "released")
    assert HoldEvent.from_wire(event.as_wire()) == event


def test_rules_that_hold_critical_programs_are_known() -> None:
    def hit(*rules: str) -> bool:
        return bool(critical_matches(parse_rules(rules).rules))

    assert hit("exec:*") and hit("exec:*sh*") and hit("fork:dash") and hit("syscall:read")
    assert hit("call:libc.so.6!malloc") and hit("exit:*")
    assert not hit("exec:qemu-system-*") and not hit("exec:*,tree=77") and not hit("call:qemuProcessStart")
    assert not hit("exec:*,uid=1000") and not hit("syscall:read,exe=/opt/mine")


def test_times_are_read_and_shown() -> None:
    assert [seconds(text) for text in ("90", "90s", "10m", "2h")] == [90, 90, 600, 7200]
    assert [span(value) for value in (5.2, 600, 9000)] == ["5s", "10m", "2.5h"]
