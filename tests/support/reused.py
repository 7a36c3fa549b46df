"""Processes that get a number of our choice: what happens by chance when numbers are used again."""

from __future__ import annotations

import ctypes as C
import os
import signal
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from clew.kernel import procfs
from tests.support.bounded import until

_CLONE3 = 435
_LIBC = C.CDLL(None, use_errno=True)


def spawn_as(pid: int, *words: str, stdin: int = 0, stdout: int = 1) -> int:
    """Run a program as process ``pid``, whose number is free (clone3(2), ``set_tid``); needs root.

    It begins in a later clock tick than whoever had the number: proc(5) tells starts by ticks.
    """
    until(_next_tick(), what="a clock tick")
    numbers = (C.c_int * 1)(pid)
    exit_signal = int(signal.SIGCHLD)
    # struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid…
    arguments = struct.pack("=10Q", 0, 0, 0, 0, exit_signal, 0, 0, 0, C.addressof(numbers), 1)
    made = int(_LIBC.syscall(_CLONE3, arguments, len(arguments)))
    if made == 0:
        try:
            os.dup2(stdin, 0)
            os.dup2(stdout, 1)
            os.execvp(words[0], words)
        finally:
            os._exit(127)
    if made < 0:
        raise OSError(C.get_errno(), os.strerror(C.get_errno()))
    assert made == pid
    return made


def sleeper() -> int:
    """A process that does nothing."""
    return os.posix_spawnp("sleep", ("sleep", "600"), os.environ)


def _next_tick() -> Callable[[], bool]:
    first = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // procfs.TICK_NS
    return lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME) // procfs.TICK_NS > first


def end(pid: int) -> None:
    """Kill a child and wait for it."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@contextmanager
def ended_at_last(pid: int) -> Iterator[int]:
    """The child ``pid``, killed in the end if it lives."""
    try:
        yield pid
    finally:
        with suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                end(pid)
