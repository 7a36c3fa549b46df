"""What processes that run already are called inside their pid namespaces (``probes/pids.bpf.h``)."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

from clew.engine.bpf.libbpf import Map
from clew.kernel import procfs


def note_numbers(machine_pids: Map, pids: list[int]) -> None:
    """Fill ``machine_pids`` ((namespace, number in it) → number of the machine)."""
    own = Path("/proc/self/ns/pid").stat().st_ino
    for pid in pids:
        with suppress(OSError):
            namespace = Path(f"/proc/{pid}/ns/pid").stat().st_ino
            if namespace == own:
                continue
            numbers = procfs.status(pid).get(b"NSpid", b"0").split()
            machine_pids.update(struct.pack("<II", namespace, int(numbers[-1])), struct.pack("<I", pid))
