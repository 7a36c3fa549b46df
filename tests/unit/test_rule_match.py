"""Rules against events written by hand: what each point and condition is met by."""

from __future__ import annotations

import pytest

from clew.model.frame import Frame
from clew.model.rules import (
    Ancestor,
    Exclusion,
    Facts,
    Rule,
    RuleKind,
    excludes,
    matches,
    parse_rule,
    parse_target,
)
from clew.model.rules.match import without_parameters

LIBVIRTD = Ancestor(400, b"/usr/sbin/libvirtd", b"rpc-libvirtd")
SYSTEMD = Ancestor(1, b"/usr/lib/systemd/systemd", b"systemd")

GUEST = Facts(
    kind=RuleKind.EXEC,
    pid=500,
    exe=b"/usr/bin/qemu-system-x86_64",
    filename=b"/usr/bin/qemu-system-x86_64",
    argv=(b"/usr/bin/qemu-system-x86_64", b"-name", b"guest=tiny,debug-threads=on", b"-S"),
    comm=b"qemu-system-x86",
    uid=64055,
    ancestors=(LIBVIRTD, SYSTEMD),
    syscall="execve",
)
PROBE = Facts(
    kind=RuleKind.EXEC,
    pid=501,
    exe=b"/usr/bin/qemu-system-x86_64",
    argv=(b"/usr/bin/qemu-system-x86_64", b"-S", b"-machine", b"none,accel=kvm:tcg"),
    comm=b"qemu-system-x86",
    ancestors=(LIBVIRTD, SYSTEMD),
)
SCRIPT = Facts(
    kind=RuleKind.EXEC,
    pid=7,
    exe=b"/usr/bin/dash",
    filename=b"./build.sh",
    argv=(b"/bin/sh", b"./build.sh"),
    comm=b"build.sh",
    of_command=True,
)
CALL = Facts(
    kind=RuleKind.CALL,
    pid=400,
    tid=416,
    exe=b"/usr/sbin/libvirtd",
    comm=b"rpc-libvirtd",
    frames=(
        Frame("write", b"/usr/lib/libc.so.6", 0x10),
        Frame(
            "ns::Pool<int (*)(char)>::push(int, bool) const",
            b"/usr/lib/libpool.so.1",
            0x20,
            "src/qemu/pool.cc",
            41,
        ),
        Frame("virCommandRun", b"/usr/lib/libvirt.so.0", 0x30),
    ),
    syscall="write",
)


def holds(text: str, facts: Facts) -> bool:
    return matches(parse_target(text), facts)


@pytest.mark.parametrize(
    ("text", "facts", "expected"),
    [
        ("exec:*qemu-system-x86_64,argv=*guest=tiny*", GUEST, True),
        ("exec:*qemu-system-x86_64,argv=*guest=tiny*", PROBE, False),
        ("exec:qemu-*", GUEST, True),
        ("exec:/usr/bin/qemu-*", GUEST, True),
        ("exec:bin/qemu-*", GUEST, False),
        ("fork:qemu-*", GUEST, False),
        ("exec:build.sh", SCRIPT, True),
        ("exec:dash", SCRIPT, True),
        ("exec:sh", SCRIPT, True),
        ("exec:./build.sh", SCRIPT, True),
        ("exec:/bin/sh", SCRIPT, False),
        ("exec:*,exe=sh", SCRIPT, False),
        ("exec:*,exe=dash", SCRIPT, True),
        ("exec:*,argv=-S", GUEST, True),
        ("exec:*,argv=-name guest=tiny*", GUEST, False),
        ("exec:*,argv=*-name guest=tiny*", GUEST, True),
        ("exec:*,argv=guest", GUEST, False),
        ("exec:*,argv!=*none*", GUEST, True),
        ("exec:*,argv!=*none*", PROBE, False),
        ("exec:*,comm=qemu-*", GUEST, True),
        ("exec:*,comm!=qemu-*", GUEST, False),
        ("exec:*,uid=64055", GUEST, True),
        ("exec:*,uid!=64055", GUEST, False),
        ("exec:*,pid=500", GUEST, True),
        ("exec:*,pid=400", GUEST, False),
        ("exec:*,parent=libvirtd", GUEST, True),
        ("exec:*,parent=rpc-*", GUEST, True),
        ("exec:*,parent=/usr/sbin/libvirtd", GUEST, True),
        ("exec:*,parent=systemd", GUEST, False),
        ("exec:*,parent=400", GUEST, True),
        ("exec:*,parent=1", GUEST, False),
        ("exec:*,parent!=1", GUEST, True),
        ("exec:*,parent=*", SCRIPT, False),
        ("exec:*,lineage=systemd", GUEST, True),
        ("exec:*,lineage=qemu-*", GUEST, False),
        ("exec:*,lineage!=sshd", GUEST, True),
        ("exec:*,tree=1", GUEST, True),
        ("exec:*,tree=500", GUEST, True),
        ("exec:*,tree=501", GUEST, False),
        ("exec:*,tree=cmd", GUEST, False),
        ("exec:*,tree=cmd", SCRIPT, True),
        ("call:virCommandRun", CALL, True),
        ("call:libvirt.so*!virCommandRun", CALL, True),
        ("call:libc.so*!virCommandRun", CALL, False),
        ("call:virCommand", CALL, False),
        ("call:ns::Pool<int (*)(char)>::push", CALL, True),
        ("call:*::push(int, bool) const", CALL, True),
        ("call:*::push(int)", CALL, False),
        ("at:pool.cc:41", CALL, True),
        ("at:qemu/pool.cc:41", CALL, True),
        ("at:mu/pool.cc:41", CALL, False),
        ("at:pool.cc:42", CALL, False),
        ("syscall:write*", CALL, True),
        ("syscall:read", CALL, False),
        ("syscall:exec*", GUEST, True),
        ("syscall:*", PROBE, False),
        ("hop:start.clew#1", GUEST, False),
    ],
)
def test_matches(text: str, facts: Facts, expected: bool) -> None:
    assert holds(text, facts) is expected


def test_signals_and_exits() -> None:
    facts = Facts(kind=RuleKind.SIGNAL, pid=5, exe=b"/bin/a", signal=15)
    assert holds("signal:TERM", facts)
    assert not holds("signal:INT", facts)
    assert not holds("exit:a", facts)
    assert holds("exit:a", Facts(kind=RuleKind.EXIT, pid=5, exe=b"/bin/a"))


@pytest.mark.parametrize(
    ("text", "facts", "expected"),
    [
        ("!exec:qemu-*", GUEST, True),
        ("!exec:libvirtd", GUEST, False),
        ("!tree:libvirtd", GUEST, True),
        ("!tree:qemu-*", GUEST, True),
        ("!tree:rpc-libvirtd", GUEST, True),
        ("!tree:libvirtd,uid=0", GUEST, False),
        ("!tree:400", GUEST, True),
        ("!tree:cmd", GUEST, False),
        ("!tree:cmd", SCRIPT, True),
        ("!exec:libvirtd", CALL, True),
    ],
)
def test_exclusions(text: str, facts: Facts, expected: bool) -> None:
    exclusion = parse_rule(text)
    assert isinstance(exclusion, Exclusion)
    assert excludes(exclusion, facts) is expected


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("main", "main"),
        ("f(int)", "f"),
        ("f<int (*)(char)>(int) const", "f<int (*)(char)>"),
        ("X::operator()(int)", "X::operator()"),
        ("X::operator()", "X::operator()"),
        ("(anonymous namespace)::f(int)", "(anonymous namespace)::f"),
        ("f(int) [clone .isra.0]", "f"),
        ("<T as core::Iterator>::next", "<T as core::Iterator>::next"),
        ("f(void (*)(int)) &", "f"),
        (")", ")"),
        ("", ""),
    ],
)
def test_names_without_parameters(name: str, bare: str) -> None:
    assert without_parameters(name) == bare


def test_every_kind_of_rule_is_answered() -> None:
    texts = {"at": "at:a.c:1", "signal": "signal:TERM", "hop": "hop:t#1"}
    for kind in RuleKind:
        rule = parse_target(texts.get(kind, f"{kind}:x"))
        assert isinstance(rule, Rule)
        assert not matches(rule, PROBE)
