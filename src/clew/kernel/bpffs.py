"""The file system in which the kernel keeps BPF objects that somebody pinned (bpf(2), BPF_OBJ_PIN)."""

from __future__ import annotations

import ctypes as C
from pathlib import Path
from typing import Final

BPFFS: Final = Path("/sys/fs/bpf")
_TYPE: Final = b"bpf"


def is_mounted() -> bool:
    """Whether it is where everybody expects it."""
    try:
        mounts = Path("/proc/self/mounts").read_bytes().splitlines()
    except OSError:
        return False
    return any(line.split()[1:3] == [bytes(BPFFS), _TYPE] for line in mounts)


def mount() -> bool:
    """See to it that it is mounted; whether it is.

    systemd mounts it at boot.  Where nobody did, whoever pins first does, as bpftool does too: it is the
    kernel's own, empty, and for root alone.
    """
    if is_mounted():
        return True
    libc = C.CDLL(None, use_errno=True)
    return bool(libc.mount(_TYPE, bytes(BPFFS), _TYPE, C.c_ulong(0), b"mode=0700") == 0)
