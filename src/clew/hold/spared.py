"""Who is never held: ourselves, whom we live by, and debuggers."""

from __future__ import annotations

import os

from clew.engine.bpf.hold_probes import HoldProbes
from clew.kernel import procfs

DEBUGGERS = (
    b"gdb",
    b"gdbserver",
    b"gdb-multiarch",
    b"lldb",
    b"lldb-server",
    b"lldb-mi",
    b"rr",
    b"strace",
    b"ltrace",
    b"perf",
    b"bpftrace",
    b"drgn",
    b"dlv",
    b"delve",
)
"""Names (comm) of programs that are not held, nor what they start."""


def spare_own(probes: HoldProbes) -> None:
    """Spare pid 1, this process and its ancestors: the shell, the terminal, the login that lead to it."""
    for pid in (1, *own_chain()[1:]):
        probes.spare(pid)
    probes.spare_self(os.getpid())
    probes.spare_debuggers(DEBUGGERS)


def own_chain() -> list[int]:
    """This process, its parent, and so on."""
    chain: list[int] = []
    pid = os.getpid()
    while pid > 0 and pid not in chain:
        chain.append(pid)
        found = procfs.stat(pid)
        pid = found.parent if found else 0
    return chain
