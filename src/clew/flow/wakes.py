"""What ended a sleep that no message ended: wake-ups, timers that somebody set, ends of streams."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clew.flow.moments import Rows
from clew.flow.sockets import SocketTable
from clew.kernel.syscalls import numbers
from clew.model.event import ChannelType, EventFlag, EventKind

Pairs = tuple[Rows, Rows]
"""Rows of causes, and of what they ended."""

_BY_SIGNAL = [
    numbers()[name]
    for name in ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal")
]
_MOST = 8  # others that are looked at for one wake-up
_PARKS = (EventKind.WAIT, EventKind.ACCEPT, EventKind.RECV)


def spread(first: NDArray[Any], last: NDArray[Any]) -> tuple[Rows, Rows]:
    """For ranges [first, last): of each number in them, which range, and the number."""
    count = np.maximum(last - first, 0)
    which = np.repeat(np.arange(len(count)), count)
    return which, np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count) + first[which]


def wakes(events: NDArray[np.void], waits: Rows, kind: NDArray[np.uint8], told: Rows) -> Pairs:
    """Wake-ups and what they ended: futex waits among ``waits``, and other calls.

    Not those in rows ``told``, of which a message tells, nor those that signals ended.
    """
    rows = np.flatnonzero(kind == EventKind.WAKE)
    if not len(rows):
        return rows, rows
    futex = events["channel"][rows] == ChannelType.FUTEX
    same = events["flags"][rows] & EventFlag.SAME_FUTEX != 0
    other = rows[~futex & ~np.isin(events["count"][rows], _BY_SIGNAL)]
    handed_over = _while_it_lasted(events, rows[futex & same], waits)
    pairs = [handed_over, others_meanwhile(events, *handed_over)]
    if len(other):
        slept = np.isin(kind, _PARKS) & (events["flags"] & EventFlag.PENDING == 0)
        slept[told] = False
        pairs.append(_while_it_lasted(events, other, np.flatnonzero(slept)))
    cause, effect = (np.concatenate(column) for column in zip(*pairs, strict=True))
    order = np.argsort(effect, kind="stable")
    return cause[order], effect[order]


def _while_it_lasted(events: NDArray[np.void], rows: Rows, waits: Rows) -> Pairs:
    """Wake-ups in ``rows`` that came while ``waits`` of the task that was woken lasted."""
    if not len(rows) or not len(waits):
        return rows[:0], waits[:0]
    # One number for (task, moment); a moment is the number of events before it.
    stride = len(events)
    woken = (events["chan"][rows] & np.uint64(0xFFFFFFFF)).astype(np.int64) * stride + rows
    order = np.argsort(woken, kind="stable")
    rows, woken = rows[order], woken[order]
    task = events["tid"][waits].astype(np.int64) * stride
    began = np.searchsorted(events["t"], events["t0"][waits])
    which, index = spread(np.searchsorted(woken, task + began), np.searchsorted(woken, task + waits))
    return rows[index], waits[which]


def others_meanwhile(events: NDArray[np.void], cause: Rows, effect: Rows) -> Pairs:
    """For futex wake-ups and the waits they ended: others that may have been for what the wait found."""
    # glibc's condition variables have two words side by side that take turns (struct __pthread_cond_s).
    word = (events["peer"][cause] >> np.uint64(3)) * np.uint64(1 << 22) ^ events["pid"][effect]
    order = np.lexsort((cause, word))
    word, cause, effect = word[order], cause[order], effect[order]
    first, second = [], []
    for further in range(1, min(_MOST, len(cause))):
        meets = (word[further:] == word[:-further]) & (cause[further:] < effect[:-further])
        (before,) = np.nonzero(meets)
        first.append(before)
        second.append(before + further)
    one, other = (np.concatenate([np.zeros(0, np.int64), *part]) for part in (first, second))
    return np.concatenate([cause[one], cause[other]]), np.concatenate([effect[other], effect[one]])


def timers(events: NDArray[np.void], kind: NDArray[np.uint8]) -> Pairs:
    """Settings of timers, and the reads that they let return."""
    armed = np.flatnonzero(kind == EventKind.ARM)
    armed = armed[events["channel"][armed] == ChannelType.TIMERFD]
    reads = armed[:0]
    if len(armed):
        reads = np.flatnonzero((kind == EventKind.RECV) & (events["channel"] == ChannelType.TIMERFD))
    return _last_before(events, armed, events["chan"][armed], reads[events["ret"][reads] > 0])


def ends(events: NDArray[np.void], kind: NDArray[np.uint8], sockets: SocketTable) -> Pairs:
    """Ends of what was sent on TCP connections, and the reads that saw them."""
    shut = np.flatnonzero(kind == EventKind.SHUT)
    columns = (events[name][shut].tolist() for name in ("chan", "channel", "peer", "flags", "t"))
    keys = [sockets.receiver(*row) for row in zip(*columns, strict=True)]
    reads = np.flatnonzero((kind == EventKind.RECV) & (events["ret"] == 0)) if len(shut) else shut
    reads = reads[events["channel"][reads] == ChannelType.TCP]
    return _last_before(events, shut, np.array(keys, np.uint64), reads)


def _last_before(events: NDArray[np.void], causes: Rows, keys: NDArray[np.uint64], effects: Rows) -> Pairs:
    """For each of ``effects`` the last of ``causes`` before it whose key is the endpoint it was made at."""
    if not len(causes) or not len(effects):
        return causes[:0], effects[:0]
    ends, which = np.unique(np.concatenate([keys, events["chan"][effects]]), return_inverse=True)
    del ends
    stride = len(events)
    made = which[: len(causes)].astype(np.int64) * stride + causes
    order = np.argsort(made)
    wanted = which[len(causes) :].astype(np.int64) * stride
    at = np.searchsorted(made[order], wanted + effects) - 1
    found = (at >= 0) & (made[order][np.maximum(at, 0)] >= wanted)
    return causes[order][at[found]], effects[found]
