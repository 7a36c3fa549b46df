"""The parts of the bpf engine, and which of its ways a kernel has the functions for."""

from __future__ import annotations

import pytest

from clew.engine.bpf.libbpf import objection
from clew.engine.bpf.parts import CRASH_HOLDS, HOLDS, LONE_HOLDS, PARTS, PREEMPTED, RECORDING, Part, Way
from clew.errors import PartRefused

SCHEDULE = "bpf_task_work_schedule_signal"
LOG = """libbpf: prog 'one': -- BEGIN PROG LOAD LOG --
12: (85) call bpf_probe_read_user_str#114
R2 unbounded memory access, use 'var &= const' or 'if (var < const)'
processed 3516 insns (limit 1000000) max_states_per_insn 4 total_states 197 peak_states 189 mark_read 28
-- END PROG LOAD LOG --
libbpf: failed to load object 'one.bpf.o'
"""


@pytest.mark.parametrize(
    ("functions", "taken"),
    [
        (set(), None),
        ({f"{SCHEDULE}_impl"}, "hold_fatal"),
        ({SCHEDULE}, "hold_fatal_implicit"),
        ({SCHEDULE, f"{SCHEDULE}_impl"}, "hold_fatal_implicit"),
    ],
)
def test_a_way_is_taken_that_the_kernel_has_all_functions_for(functions: set[str], taken: str | None) -> None:
    way = CRASH_HOLDS.way(functions.__contains__)
    assert (way.object if way else None) == taken


@pytest.mark.parametrize("part", [RECORDING, HOLDS], ids=lambda part: part.name)
def test_what_every_kernel_is_to_have_has_a_way_that_needs_no_function(part: Part) -> None:
    plain = part.way(lambda function: False)
    assert plain is not None
    assert plain.object.endswith("_plain")
    assert part.way(lambda function: True) == part.ways[0] != plain


def test_a_part_without_a_way_says_which_functions_lack_and_what_is_had_instead() -> None:
    part = Part("odd holds", (Way("odd", ("bpf_no_such", "bpf_nor_this")),), "Others work.")
    with pytest.raises(PartRefused) as refused:
        part.open()
    assert "bpf_no_such or bpf_nor_this, which odd holds need" in refused.value.cause
    assert refused.value.remedy == "Others work."


def test_every_part_says_what_is_had_without_it() -> None:
    assert len({part.name for part in PARTS}) == len(PARTS)
    assert all(part.instead.endswith(".") for part in PARTS)


def test_the_verifiers_objection_is_found_in_all_that_it_says() -> None:
    assert objection(LOG) == "R2 unbounded memory access, use 'var &= const' or 'if (var < const)'"
    assert objection("libbpf: extern (func ksym) 'x': not found in kernel or module BTFs\n") == ""


@pytest.mark.parametrize("part", [RECORDING, HOLDS, LONE_HOLDS], ids=lambda part: part.name)
def test_raw_tracepoints_are_taken_only_where_they_cannot_be_preempted(part: Part) -> None:
    names = {name for way in part.ways for name in way.needs}
    safe, unsafe = part.way((names - {PREEMPTED}).__contains__), part.way(names.__contains__)
    assert safe is not None and not safe.by_perf
    assert unsafe is not None and unsafe.by_perf
    assert part.way({PREEMPTED}.__contains__) is None
    assert "bpf_task_from_pid" in part.lacks({PREEMPTED}.__contains__)
    assert part.lacks(names.__contains__) == ()
