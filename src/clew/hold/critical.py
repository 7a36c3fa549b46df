"""Rules that would also hold what a machine needs to go on, so that they are not armed by mistake."""

from __future__ import annotations

from collections.abc import Iterable

from clew.model.frame import Frame
from clew.model.rules.facts import Ancestor, Facts
from clew.model.rules.match import matches
from clew.model.rules.rule import Function, Rule, RuleKind, Signals, Syscalls

CRITICAL = (
    b"/usr/lib/systemd/systemd",
    b"/usr/lib/systemd/systemd-journald",
    b"/usr/lib/systemd/systemd-logind",
    b"/usr/lib/systemd/systemd-udevd",
    b"/usr/bin/dbus-daemon",
    b"/usr/sbin/sshd",
    b"/usr/bin/login",
    b"/usr/bin/sudo",
    b"/usr/bin/bash",
    b"/usr/bin/dash",
    b"/usr/bin/sh",
    b"/usr/sbin/agetty",
)
"""Programs whose stop can lock everybody out."""

_LIBC = (b"libc.so.6", b"ld-linux-x86-64.so.2")


def critical_matches(rules: Iterable[Rule]) -> list[tuple[str, list[str]]]:
    """For each rule that would hold critical programs: its text, and their names."""
    found = []
    for rule in rules:
        names = [exe.rpartition(b"/")[2].decode() for exe in CRITICAL if _would_hold(rule, exe)]
        if names:
            found.append((rule.text, names))
    return found


def _would_hold(rule: Rule, exe: bytes) -> bool:
    """Whether the rule takes an event of that program, run by root as a service is."""
    frames: tuple[Frame, ...] = ()
    match rule.subject:
        case Function(name, file) if file is not None:
            # Only what everybody has mapped concerns everybody.
            libraries = [library for library in _LIBC if file.matches_path(b"/usr/lib/" + library)]
            frames = tuple(Frame(name.source, b"/usr/lib/" + library, 0) for library in libraries)
        case _:
            pass
    facts = Facts(
        kind=rule.kind,
        pid=2,
        exe=exe,
        argv=(exe,),
        comm=exe.rpartition(b"/")[2][:15],
        ancestors=(Ancestor(1, CRITICAL[0], b"systemd"),),
        frames=frames,
        syscall="read" if isinstance(rule.subject, Syscalls) else "",
        signal=min(rule.subject.numbers, default=0) if isinstance(rule.subject, Signals) else 0,
    )
    if rule.kind is RuleKind.SYSCALL and isinstance(rule.subject, Syscalls):
        return any(_syscall_held(rule, facts, name) for name in _COMMON_CALLS)
    return matches(rule, facts)


_COMMON_CALLS = ("read", "write", "openat", "clone", "execve", "close", "poll", "futex")


def _syscall_held(rule: Rule, facts: Facts, name: str) -> bool:
    from dataclasses import replace

    return matches(rule, replace(facts, syscall=name))
