"""Lanes and rows: order kept, columns used again, every hop once, and work that grows with the hops alone."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import pairwise
from types import FrameType
from typing import Any

import pytest

from clew.model.flow import Flow, HopKind
from clew.model.task import TaskId
from clew.view import Options
from clew.view.fold import Run, by_names, by_tasks, fold
from clew.view.lanes import plan
from clew.view.layout import picture
from clew.view.measure import fit, width
from clew.view.rows import rows
from clew.view.select import drawn
from tests.golden.view import flows

ALL = [flows.libvirt(), flows.mixed(), flows.nasty(), flows.big(300), flows.chain(60)]


@pytest.mark.parametrize("flow", ALL)
def test_later_is_lower(flow: Flow) -> None:
    chart = picture(flow, Options(whole=True, verbose=True))
    moments = [(a.hop.t_ns, a.y1) for a in chart.arrows] + [(a.hop.arrived_ns, a.y2) for a in chart.arrows]
    moments.sort()
    for (t1, y1), (t2, y2) in pairwise(moments):
        assert y1 <= y2 or t1 == t2


@pytest.mark.parametrize("flow", ALL)
def test_every_hop_is_drawn_once(flow: Flow) -> None:
    chart = picture(flow, Options(whole=True, verbose=True))
    numbers = [arrow.hop.n for arrow in chart.arrows] + [box.hop.n for box in chart.boxes if box.hop]
    assert sorted(numbers) == [hop.n for hop in flow.hops]


@pytest.mark.parametrize("flow", ALL)
def test_lanes_do_not_share_a_column_at_the_same_time(flow: Flow) -> None:
    table = rows(flow, [Run((hop,)) for hop in flow.hops])
    lanes = sorted(plan(table).lanes.values(), key=lambda lane: (lane.column, lane.first))
    for before, after in pairwise(lanes):
        assert before.column != after.column or before.last < after.first


@pytest.mark.parametrize("flow", ALL)
def test_frames_of_processes_do_not_overlap(flow: Flow) -> None:
    frames = picture(flow, Options(whole=True)).frames
    for number, one in enumerate(frames):
        for two in frames[number + 1 :]:
            beside = one.x + one.width <= two.x or two.x + two.width <= one.x
            assert beside or one.y + one.height <= two.y or two.y + two.height <= one.y


def test_columns_are_used_again_by_those_who_come_later() -> None:
    flow = flows.chain(3000)
    assert plan(rows(flow, [Run((hop,)) for hop in flow.hops])).columns == 2


def test_a_number_used_again_is_another_process() -> None:
    flow = flows.chain(3)
    again = flows.party(1001, 1001, b"later", b"/usr/bin/later")
    again = replace(again, id=replace(again.id, start_ns=again.id.start_ns + 10**9))
    last = replace(
        flow.hops[-1], n=4, source=flow.hops[-1].target, target=again, t_ns=10**9, arrived_ns=10**9 + 1
    )
    last = replace(last, source_activation=3, target_activation=4)
    table = rows(flow, [Run((hop,)) for hop in (*flow.hops, last)])
    assert [process.pid for process in plan(table).processes] == [1000, 1001, 1002, 1003, 1001]


def test_threads_share_their_processs_frame() -> None:
    frames = {frame.title: len(frame.lanes) for frame in picture(flows.libvirt(), Options()).frames}
    assert frames == {"virsh": 1, "libvirtd": 2, "libvirtd → qemu-system-x86_64": 1}


def test_what_a_child_becomes_begins_where_it_was_born() -> None:
    chart = picture(flows.libvirt(), Options())
    (fork,) = (arrow for arrow in chart.arrows if arrow.hop.kind is HopKind.SPAWN)
    virsh, libvirtd, child = chart.frames
    assert virsh.y == libvirtd.y < child.y < fork.y1 < child.y + child.height


def test_replies_along_the_path_are_drawn_and_other_requests_are_not() -> None:
    flow = flows.libvirt()
    elsewhere = replace(flow.hops[0], n=9, target_activation=9, on_path=False)
    answered = replace(flow.hops[7], n=10, source_activation=9)
    chosen = drawn(replace(flow, hops=(*flow.hops, elsewhere, answered)), whole=False)
    assert [hop.n for hop in chosen] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_without_a_path_all_is_drawn() -> None:
    assert drawn(flows.mixed(), whole=False) == flows.mixed().hops


def test_fold_finds_rounds_and_keeps_the_rest() -> None:
    runs = list(fold(flows.mixed().hops, by_names))
    assert [(len(run.shown), run.repeats) for run in runs] == [(1, 0)] * 7 + [(2, 39)] + [(1, 0)] * 2
    assert [hop for run in runs for hop in (*run.shown, *run.more)] == list(flows.mixed().hops)


def test_fold_keeps_pairs_apart() -> None:
    hops = flows.mixed().hops[7:11]
    assert [run.repeats for run in fold(hops, by_tasks)] == [0, 0, 0, 0]


def test_fold_by_task_keeps_other_tasks_apart() -> None:
    hops = flows.chain(50).hops
    assert len(list(fold(hops, by_tasks))) == 50


def test_fold_by_name_keeps_directions_and_processes_apart() -> None:
    hop = next(hop for hop in flows.mixed().hops if hop.kind is HopKind.MESSAGE)
    alike = replace(hop, target=replace(hop.source, id=hop.target.id))
    back = replace(alike, source=alike.target, target=alike.source)
    others = [replace(alike, target=replace(hop.source, id=TaskId(n, n, 0))) for n in range(6)]
    assert [run.repeats for run in fold([alike] * 6, by_names)] == [5]
    assert [run.repeats for run in fold([alike] * 3 + [back] * 3, by_names)] == [2, 2]
    assert len(list(fold(others, by_names))) == 6
    born = [replace(other, kind=HopKind.SPAWN) for other in others]
    assert [run.repeats for run in fold(born, by_names)] == [5]


@pytest.mark.parametrize(
    "words", ["qemu-system-x86_64", "證券" * 9, "a" * 100_000, "", "…", "l" * 50 + "M" * 50]
)
def test_what_is_fitted_fits(words: str) -> None:
    for room in (0, 5, 30, 80, 300):
        for mono in (False, True):
            assert width(fit(words, room, 12, mono), 12, mono) <= room
    assert fit(words, width(words, 12), 12) == words


def _steps(flow: Flow) -> int:
    """How many Python functions drawing takes: a measure of work that no other process disturbs."""
    calls = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        picture(flow, Options(whole=True))
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("flow", [flows.big, flows.chain])
def test_work_grows_with_the_hops_and_no_faster(flow: Any) -> None:
    _steps(flow(500))
    assert _steps(flow(4000)) < 9 * _steps(flow(500))
