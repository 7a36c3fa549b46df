"""The comparison itself: it accepts what was testified, and names each way to differ from it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.comparison import differences
from tests.support.testimony import Task, TestifiedHop, Testimony

ROOT, CHILD, STRANGER = Task(10, 10), Task(20, 20), Task(99, 99)
TOLD = Testimony(
    (
        TestifiedHop("spawn", "fork", ROOT, CHILD, 0, b""),
        TestifiedHop("exec", "exec", CHILD, CHILD, 0, b"/bin/guest"),
        TestifiedHop("message", "pipe", CHILD, ROOT, 24, b""),
        TestifiedHop("wake", "futex", ROOT, CHILD, 0, b""),
        TestifiedHop("signal", "SIGUSR1", CHILD, ROOT, 0, b""),
        TestifiedHop("exit", "wait", CHILD, ROOT, 0, b""),
    )
)
WORDS = [f"{hop.kind} {hop.source.pid}/{hop.source.tid}" for hop in TOLD.hops]


def _hop(kind: str, source: Task, target: Task, **more: Any) -> dict[str, Any]:
    ends = {name: {"pid": task.pid, "tid": task.tid} for name, task in (("from", source), ("to", target))}
    return {"kind": kind, **ends, "channel": None, "bytes": None, **more}


def _hops() -> list[dict[str, Any]]:
    return [
        _hop("spawn", ROOT, CHILD),
        _hop("exec", CHILD, CHILD, exe="/bin/guest"),
        _hop("message", CHILD, ROOT, channel={"type": "pipe", "id": "7"}, bytes=24),
        _hop("wake", ROOT, CHILD),
        _hop("signal", CHILD, ROOT),
        _hop("exit", CHILD, ROOT),
    ]


def _differences(hops: list[dict[str, Any]]) -> list[str]:
    return differences({"root": {"pid": ROOT.pid}, "hops": hops}, TOLD)


def test_the_same_hops_in_any_order_agree() -> None:
    assert _differences(_hops()) == []
    assert _differences(_hops()[::-1]) == []


@pytest.mark.parametrize("absent", range(len(WORDS)))
def test_a_hop_that_is_not_there_is_missed(absent: int) -> None:
    hops = _hops()
    del hops[absent]
    (difference,) = _differences(hops)
    assert difference.startswith(f"missing: {WORDS[absent]}")


@pytest.mark.parametrize("twice", [n for n, word in enumerate(WORDS) if not word.startswith("signal")])
def test_a_hop_that_is_there_twice_is_one_too_many(twice: int) -> None:
    (difference,) = _differences([*_hops(), _hops()[twice]])
    assert difference.startswith(f"never happened: {WORDS[twice]}")


@pytest.mark.parametrize(
    "wrong",
    [
        {"bytes": 23},
        {"channel": {"type": "fifo", "id": "7"}},
        {"to": {"pid": 10, "tid": 11}},
        {"kind": "wake"},
    ],
)
def test_a_message_that_is_wrong_in_one_thing_is_missed(wrong: dict[str, Any]) -> None:
    hops = _hops()
    hops[2] |= wrong
    assert any(difference.startswith("missing: message") for difference in _differences(hops))


def test_an_untold_message_between_the_programs_tasks_is_refused() -> None:
    untold = _hop("message", ROOT, CHILD, channel={"type": "unix", "id": "8"}, bytes=5)
    assert _differences([*_hops(), untold]) == ["never happened: message 10/10 -> 20/20 unix 5"]


def test_what_strangers_do_and_untold_wakes_are_left_alone() -> None:
    elsewhere = _hop("message", STRANGER, ROOT, channel={"type": "pipe", "id": "9"}, bytes=1)
    assert _differences([*_hops(), elsewhere, _hop("wake", CHILD, ROOT), _hop("signal", ROOT, CHILD)]) == []
