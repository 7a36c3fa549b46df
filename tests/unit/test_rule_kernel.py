"""What BPF is given of a rule."""

from __future__ import annotations

import pytest

from clew.errors import RuleError
from clew.kernel.syscalls import numbers
from clew.model.rules import Exclusion, Glob, parse_rule, parse_target
from clew.model.rules.kernel import (
    GLOB_LENGTH,
    GLOB_SIZE,
    KernelPlan,
    KernelTest,
    Look,
    compile_exclusion,
    compile_rule,
    pack_glob,
)

NUMBERS = numbers("x86_64")


def plan(text: str) -> KernelPlan:
    return compile_rule(parse_target(text), NUMBERS)


def test_tests_are_in_the_order_of_their_cost() -> None:
    compiled = plan(
        "exec:qemu*,argv=*tiny*,lineage=a,uid=0,parent!=sh,exe=/x*,tree=cmd,pid=3,parent=4,tree=5,comm=b"
    )
    assert compiled.tests == (
        KernelTest(Look.UID, number=0),
        KernelTest(Look.PID, number=3),
        KernelTest(Look.PARENT_PID, number=4),
        KernelTest(Look.TREE_COMMAND),
        KernelTest(Look.TREE_PID, number=5),
        KernelTest(Look.COMM, glob=Glob.parse("b")),
        KernelTest(Look.PROGRAM, glob=Glob.parse("qemu*")),
        KernelTest(Look.EXE, glob=Glob.parse("/x*")),
        KernelTest(Look.PARENT, negated=True, glob=Glob.parse("sh")),
        KernelTest(Look.ARGV, glob=Glob.parse("*tiny*")),
        KernelTest(Look.LINEAGE, glob=Glob.parse("a")),
    )
    assert [test.whole_path for test in compiled.tests if test.look in (Look.PROGRAM, Look.EXE)] == [
        False,
        True,
    ]


def test_a_lone_star_is_not_asked() -> None:
    assert plan("exec:*").tests == ()
    assert plan("exec:*,argv!=**").tests == (KernelTest(Look.ARGV, negated=True, glob=Glob.parse("**")),)


@pytest.mark.parametrize(
    ("suffix", "hits"), [("", (1, None)), (",n=3", (3, 3)), (",n=3,max=2", (3, 4)), (",max=2", (1, 2))]
)
def test_hits(suffix: str, hits: tuple[int, int | None]) -> None:
    compiled = plan(f"fork:a{suffix}")
    assert (compiled.first, compiled.last) == hits


def test_numbers_of_system_calls_and_signals() -> None:
    assert plan("syscall:openat*").syscalls == {257, 437}
    assert plan("syscall:syscall_999").syscalls == {999}
    assert plan("signal:TERM").signals == {15}
    assert plan("signal:*").signals == set(range(1, 65)) - {9, 18, 19}
    assert plan("call:main").tests == ()


@pytest.mark.parametrize(
    ("text", "position", "said"),
    [
        ("signal:KILL", 7, "runs nothing more"),
        ("signal:STOP", 7, "SIGSTOP is how"),
        ("syscall:nonesuch", 8, "no system call 'nonesuch'"),
        ("hop:t#1", 0, "until it is read"),
        (f"exec:a,exe=/{'b' * GLOB_LENGTH}", 11, "at most 127"),
    ],
)
def test_what_cannot_be_held(text: str, position: int, said: str) -> None:
    with pytest.raises(RuleError, match=said) as caught:
        plan(text)
    assert caught.value.position == position


def test_exclusions() -> None:
    def tests(text: str) -> tuple[KernelTest, ...]:
        exclusion = parse_rule(text)
        assert isinstance(exclusion, Exclusion)
        return compile_exclusion(exclusion)

    gdb = Glob.parse("gdb")
    assert tests("!exec:gdb,uid=0") == (KernelTest(Look.UID), KernelTest(Look.PROGRAM, glob=gdb))
    assert tests("!tree:gdb") == (KernelTest(Look.SELF_OR_LINEAGE, glob=gdb),)
    assert tests("!tree:12") == (KernelTest(Look.TREE_PID, number=12),)
    assert tests("!tree:cmd") == (KernelTest(Look.TREE_COMMAND),)


def test_a_packed_pattern_has_the_size_bpf_declares() -> None:
    longest = Glob.parse("*".join("a" * GLOB_LENGTH) + "*")
    assert len(pack_glob(Glob.parse("*"))) == len(pack_glob(longest)) == GLOB_SIZE
