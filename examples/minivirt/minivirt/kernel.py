"""The few Linux calls Python does not offer, through libc."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import time
from pathlib import Path

# linux/prctl.h and linux/capability.h
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_CAPBSET_DROP = 24
_CAPABILITY_VERSION_3 = 0x20080522

# Looked up when this module is imported: a forked child of a threaded process should not run the
# dynamic loader, whose locks another thread may have held at the fork.
_libc = ctypes.CDLL(None, use_errno=True)
_prctl = _libc.prctl
_prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]
_capset = _libc.capset
_NO_CAPABILITIES = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; low words, then high
_CAPSET_HEADER = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)  # pid 0: the caller
_LAST_CAPABILITY = int(Path("/proc/sys/kernel/cap_last_cap").read_text())


def name_thread(name: str) -> None:
    """Name the calling thread as ``ps -L`` and gdb show it (15 bytes). libvirt: ``virThreadCreateFull``."""
    buffer = ctypes.create_string_buffer(os.fsencode(name)[:15])
    _prctl(_PR_SET_NAME, ctypes.addressof(buffer), 0, 0, 0)


def die_with_parent() -> None:
    """Have the kernel end the caller when the thread that forked it is gone: no guest without its daemon."""
    _check(_prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))


def empty_capability_bounding_set() -> None:
    """Let no exec bring a capability back, as it does for uid 0 (capabilities(7)). Needs CAP_SETPCAP."""
    for capability in range(_LAST_CAPABILITY + 1):
        _check(_prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0))


def drop_capabilities() -> None:
    """Give up every capability of the caller for good."""
    _check(_capset(_CAPSET_HEADER, _NO_CAPABILITIES))


def ended_within(pidfd: int, seconds: float) -> bool:
    """Wait for the process behind ``pidfd`` to end; whether it did in time. It need not be reaped yet."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)  # pidfd_open(2): readable once the process has ended
    deadline = time.monotonic() + seconds
    while not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        if time.monotonic() >= deadline:
            return False
    return True


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
