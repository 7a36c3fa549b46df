"""Yama's limits to ptrace(2): who may trace whom (Documentation/admin-guide/LSM/Yama.rst)."""

from __future__ import annotations

import os

from clew.kernel import procfs

SCOPE = "/proc/sys/kernel/yama/ptrace_scope"

_MEANING = {
    0: "a process may trace any other one of the same user",
    1: "a process may trace only what it started itself",
    2: "only root (CAP_SYS_PTRACE) may trace",
    3: "nobody may trace, until the machine is booted again",
}


def ptrace_scope() -> int:
    """Yama's level, 0 to 3; 0 where the kernel has no Yama."""
    text = procfs.read(SCOPE)
    return int(text) if text and text.strip().isdigit() else 0


def meaning(scope: int) -> str:
    """What a level means, in half a sentence."""
    return _MEANING.get(scope, f"an unknown rule (level {scope})")


def remedy(pid: int) -> str:
    """What to do where process ``pid`` (0: one's own command) may not be traced."""
    scope = ptrace_scope()
    if scope == 0 or (scope == 1 and not pid):
        return "It belongs to another user or has dropped its privileges: run clew as that user, or as root."
    if scope == 1:
        return f"Yama: only what one starts oneself. Start it under clew, or `sudo sysctl -w {_sysctl()}=0`."
    if scope == 2:
        return f"Yama leaves tracing to root: run clew as root, or `sudo sysctl -w {_sysctl()}=1`."
    return f"Yama forbids tracing until the next boot: boot with {_sysctl()}=1."


def _sysctl() -> str:
    return os.path.relpath(SCOPE, "/proc/sys").replace("/", ".")
