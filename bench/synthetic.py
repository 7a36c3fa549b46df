"""Recordings of any size, made up: a request that goes round a daemon again and again.

Each round is ten events: the client sends on a unix socket, the daemon's poll returns and it receives; it
wakes a worker by futex, which writes to a pipe that the daemon reads; the daemon answers and the client
receives.
The last round ends in an exec by a child of the worker, so that there is a path to find.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from clew.model.event import ChannelType, EventFlag, EventKind, LifeFlag
from clew.trace.layout import FRAMED_EVENT
from clew.trace.life import pack
from clew.trace.spool import SpoolWriter

CLIENT, DAEMON, WORKER, CHILD = 1000, 2000, 2001, 3000
_SEC = 1_000_000_000
_LATE_EVERY = 251
_K, _C = EventKind, ChannelType
# tid, pid, kind, channel, nr, ret, sp, chan, peer, count, wait before the call returned (ns)
_ROUND = (
    (CLIENT, CLIENT, _K.SEND, _C.UNIX, 1, 56, 9000, 11, 12, 4, 300),
    (DAEMON, DAEMON, _K.WAIT, _C.NONE, 7, 1, 8000, 0, 0, 0, 3000),
    (DAEMON, DAEMON, _K.RECV, _C.UNIX, 0, 56, 7000, 12, 11, 5, 300),
    (DAEMON, DAEMON, _K.WAKE, _C.FUTEX, 202, 0, 6000, DAEMON << 32 | WORKER, 77, 0, 0),
    (DAEMON, DAEMON, _K.FUTEX_WAKE, _C.FUTEX, 202, 1, 6000, 77, 1, 129, 300),
    (WORKER, DAEMON, _K.FUTEX_WAIT, _C.FUTEX, 202, 0, 5000, 77, 1, 137, 6000),
    (WORKER, DAEMON, _K.SEND, _C.PIPE, 1, 8, 4000, 99, 99, 6, 300),
    (DAEMON, DAEMON, _K.RECV, _C.PIPE, 0, 8, 7000, 99, 99, 7, 600),
    (DAEMON, DAEMON, _K.SEND, _C.UNIX, 1, 28, 7000, 12, 11, 5, 300),
    (CLIENT, CLIENT, _K.RECV, _C.UNIX, 0, 28, 9000, 11, 12, 4, 300),
)


def write(path: Path, events: int) -> None:
    """Write a finished trace with ``events`` events to ``path``."""
    spool = SpoolWriter(path)
    for pid, comm in ((DAEMON, b"daemon"), (CLIENT, b"client")):
        spool.append("lifecycle", pack(_K.FORKED, tid=pid, pid=pid, comm=comm))
        spool.append("lifecycle", pack(_K.EXECED, b"/bin/" + comm, tid=pid, pid=pid, comm=comm))
    spool.append(
        "lifecycle",
        pack(
            _K.FORKED,
            tid=WORKER,
            pid=DAEMON,
            comm=b"worker",
            other_tid=DAEMON,
            other_pid=DAEMON,
            flags=LifeFlag.THREAD,
        ),
    )
    began = _SEC
    spool.append(
        "lifecycle",
        pack(
            _K.EXECED,
            b"/bin/client",
            tid=CLIENT,
            pid=CLIENT,
            comm=b"client",
            t=began,
            other_tid=CLIENT,
            flags=LifeFlag.ROOT,
        ),
    )
    rounds = events // len(_ROUND)
    for low in range(0, rounds, 100_000):
        spool.append("events", _rounds(began, low, min(rounds, low + 100_000)).tobytes())
    end = began + rounds * 10_000
    spool.append(
        "lifecycle",
        pack(
            _K.FORKED, t=end - 2500, tid=CHILD, pid=CHILD, comm=b"worker", other_tid=WORKER, other_pid=DAEMON
        ),
    )
    spool.append(
        "lifecycle",
        pack(_K.EXECED, b"/bin/target", t=end - 1500, tid=CHILD, pid=CHILD, comm=b"target", other_tid=CHILD),
    )
    spool.write_meta(finished=True, command=["client"], wait_status=0, lost={}, wall=time.time())
    spool.close()


def _rounds(began: int, low: int, high: int) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    table = np.zeros((high - low) * len(_ROUND), FRAMED_EVENT)
    table["header"] = FRAMED_EVENT.itemsize - 8
    start = began + np.arange(low, high, dtype=np.uint64) * np.uint64(10_000)
    for i, (tid, pid, kind, channel, nr, ret, sp, chan, peer, count, waited) in enumerate(_ROUND):
        rows = table[i :: len(_ROUND)]
        rows["t"] = start + np.uint64(1000 * i + 500)
        rows["t0"] = rows["t"] - np.minimum(np.uint64(waited), rows["t"])
        for name, value in (
            ("tid", tid),
            ("pid", pid),
            ("kind", kind),
            ("channel", channel),
            ("nr", nr),
            ("ret", ret),
            ("sp", sp),
            ("chan", chan),
            ("peer", peer),
            ("count", count),
        ):
            rows[name] = value
        if kind == _K.WAKE:
            rows["flags"] = EventFlag.SAME_FUTEX
    # Two CPUs write to one ring: now and then an event lies behind a later one.
    first = np.arange(0, len(table) - 1, _LATE_EVERY)
    table[first], table[first + 1] = table[first + 1], table[first]
    return table
