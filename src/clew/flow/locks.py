"""Which futex waits wait for a resource: a lock is no hand-over of work.

The operation does not tell: ``FUTEX_WAIT`` serves glibc's mutexes, and the hand-overs of musl, of C++20's
atomics and of barriers; ``FUTEX_WAIT_BITSET`` serves condition variables, and the mutexes of Rust and the
semaphores of Python's multiprocessing.  Who releases tells: a task that got a lock for which it had waited
releases it itself, with a wake-up on the same word (whoever waited marks the lock as contended); a job that
is handed over is given by one side and taken by the other.

glibc's own condition variables and semaphores within a process are hand-overs without looking (their waits
have ``FUTEX_CLOCK_REALTIME``, nptl/futex-internal.c): the memory of a lock of this kind is soon used again
for another, so that there the word does not tell.  Two sides that take turns on one word look like a lock.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clew.flow.moments import Rows
from clew.kernel.syscalls import numbers
from clew.model.event import EventFlag, EventKind

Words = dict[int, list[tuple[int, int]]]
"""Futex words that guard a resource: per process id, address ranges [low, high)."""

_CMD = 0x7F
_WAIT, _WAIT_BITSET = 0, 9
_GLIBC = _WAIT_BITSET | 0x80 | 0x100  # FUTEX_PRIVATE_FLAG, FUTEX_CLOCK_REALTIME
_FUTEX = numbers()["futex"]
_MIX = np.uint64(0x9E3779B97F4A7C15)


def waits_for_work(events: NDArray[np.void], kind: NDArray[np.uint8], resources: Words) -> Rows:
    """Rows of the futex waits that are not for a lock, nor for one of ``resources``."""
    rows = np.flatnonzero(kind == EventKind.FUTEX_WAIT)
    operation, own_call = events["count"][rows], events["nr"][rows] != _FUTEX
    command = operation & _CMD
    plain = (command == _WAIT) | (command == _WAIT_BITSET) | own_call
    rows, own_call, glibc = rows[plain], own_call[plain], operation[plain] == _GLIBC
    pid, word = events["pid"][rows], events["chan"][rows]
    guards = ~glibc & np.isin(_mixed(word, pid), _locks(events, kind, rows))
    for process, ranges in resources.items():
        for low, high in ranges:
            guards |= (pid == process) & (word >= low) & (word < high)
    free: Rows = rows[~guards]
    return free


def _locks(events: NDArray[np.void], kind: NDArray[np.uint8], waits: Rows) -> NDArray[np.uint64]:
    """Words (mixed with their process) that a task woke itself after it had waited on them."""
    waits = waits[events["flags"][waits] & EventFlag.PENDING == 0]
    wakes = np.flatnonzero(kind == EventKind.FUTEX_WAKE)[::-1]
    who_waited, first = np.unique(_task_and_word(events, waits), return_index=True)
    who_woke, last = np.unique(_task_and_word(events, wakes), return_index=True)
    _, waited, woke = np.intersect1d(who_waited, who_woke, assume_unique=True, return_indices=True)
    released = wakes[last[woke]]
    released = released[released > waits[first[waited]]]
    return _mixed(events["chan"][released], events["pid"][released])


def _task_and_word(events: NDArray[np.void], rows: Rows) -> NDArray[np.uint64]:
    return _mixed(events["chan"][rows], events["tid"][rows])


def _mixed(word: NDArray[np.uint64], number: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """One number for two; that two pairs share one is as likely as a bit flip."""
    return (word + number * _MIX) * _MIX ^ number
