"""Hops of a recording become rules for the next run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clew.model.flow import Hop, HopKind, Tier
from clew.model.frame import Frame
from clew.model.rules import Facts, RuleKind, matches, parse_target, rule_for_hop, text_for_hop
from clew.model.task import Party, TaskId

LIBVIRTD = Party(TaskId(400, 416, 1), b"rpc-libvirtd", b"/usr/sbin/libvirtd")
CHILD = Party(TaskId(500, 500, 2), b"rpc-libvirtd", b"/usr/sbin/libvirtd")
STACK = (
    Frame("__write", b"/usr/lib/libc.so.6", 0x10),
    Frame("", b"/usr/lib/libvirt.so.0", 0x20),
    Frame("virCommandHandshakeNotify", b"/usr/lib/libvirt.so.0", 0x30),
)
MESSAGE = Hop(
    n=7,
    kind=HopKind.MESSAGE,
    tier=Tier.OBSERVED,
    source=LIBVIRTD,
    target=CHILD,
    source_activation=1,
    target_activation=2,
    t_ns=5,
    arrived_ns=6,
    syscall_from="write",
    stack_from=STACK,
)


@pytest.mark.parametrize(
    ("hop", "text"),
    [
        (MESSAGE, "call:/usr/lib/libvirt.so.0!virCommandHandshakeNotify,exe=/usr/sbin/libvirtd"),
        (replace(MESSAGE, stack_from=STACK[:2]), "syscall:write,exe=/usr/sbin/libvirtd"),
        (replace(MESSAGE, kind=HopKind.SPAWN), "fork:/usr/sbin/libvirtd"),
        (replace(MESSAGE, kind=HopKind.EXEC, exe=b"/bin/a,b*"), r"exec:/bin/a\,b\*"),
        (replace(MESSAGE, kind=HopKind.EXIT), "exit:/usr/sbin/libvirtd"),
    ],
)
def test_the_rule_of_a_hop(hop: Hop, text: str) -> None:
    assert text_for_hop(hop) == text
    assert parse_target(text)


def test_conditions_and_counts_of_the_hop_rule_stay() -> None:
    rule = rule_for_hop(parse_target("hop:t#7,uid=0,n=2"), MESSAGE)
    assert (rule.kind, rule.first, rule.limit) == (RuleKind.CALL, 2, 1)
    hit = Facts(RuleKind.CALL, 400, b"/usr/sbin/libvirtd", frames=STACK[2:])
    assert matches(rule, hit)
    assert not matches(rule, replace(hit, uid=1))
    assert not matches(rule, replace(hit, exe=b"/usr/bin/other"))


def test_a_cpp_name_survives() -> None:
    name = "ns::Pool<int, char>::operator[](int, char*)"
    hop = replace(MESSAGE, stack_from=(Frame(name, b"/usr/lib/libp.so", 1),))
    rule = rule_for_hop(parse_target("hop:t#7"), hop)
    assert matches(rule, Facts(RuleKind.CALL, 1, b"/usr/sbin/libvirtd", frames=hop.stack_from))
    other = (replace(hop.stack_from[0], function=name.replace("char*", "charX")),)
    assert not matches(rule, Facts(RuleKind.CALL, 1, b"/usr/sbin/libvirtd", frames=other))
