"""Which send each receive answers to: bytes by offset, messages by order, counters by time.

Everything is done on whole columns; only a channel on which the arithmetic contradicts the clock (bytes that
were there before the recording, lost records) is gone through call by call.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clew.flow.moments import left_at
from clew.flow.sockets import SocketTable, receiving_keys
from clew.kernel.syscalls import numbers
from clew.model.event import ChannelType, EventFlag, EventKind

Rows = NDArray[np.int64]
_STREAMS = [c for c in ChannelType if c.is_stream]
_DATAGRAMS = [c for c in ChannelType if c.is_datagram]
_COUNTERS = [ChannelType.EVENTFD, ChannelType.PTY]
_QUEUES = [ChannelType.QUEUE]
_MMSG = [numbers()["sendmmsg"], numbers()["recvmmsg"]]


@dataclass(frozen=True, slots=True)
class Matches:
    """Pairs of rows of the events table: ``send[i]`` put in what ``recv[i]`` took out, ``size[i]`` bytes."""

    send: Rows
    recv: Rows
    size: Rows

    @staticmethod
    def join(parts: list[Matches]) -> Matches:
        """All pairs of ``parts``."""
        return Matches(
            np.concatenate([p.send for p in parts]),
            np.concatenate([p.recv for p in parts]),
            np.concatenate([p.size for p in parts]),
        )


_NONE = Matches(*(np.zeros(0, np.int64) for _ in range(3)))


@dataclass(frozen=True, slots=True)
class _Side:
    """One direction's calls by endpoint, then time: rows, keys, how much, and where that starts."""

    rows: Rows
    keys: NDArray[np.uint64]
    amount: Rows
    start: Rows


def _side(rows: Rows, keys: NDArray[np.uint64], amount: Rows, when: NDArray[Any]) -> _Side:
    order = np.lexsort((when, keys))
    rows, keys, amount = rows[order], keys[order], amount[order]
    ends = np.cumsum(amount)
    return _Side(rows, keys, amount, ends - amount)


def _relative(side: _Side, keys: NDArray[np.uint64]) -> tuple[Rows, Rows]:
    """Index of each call's endpoint in ``keys``, and its start counted from the endpoint's first byte."""
    index = np.searchsorted(keys, side.keys)
    first = np.searchsorted(side.keys, keys)
    base = np.append(side.start, 0)[np.minimum(first, len(side.start))]
    return index, side.start - base[index]


def match(events: NDArray[np.void], sockets: SocketTable) -> Matches:
    """All pairs in ``events`` (ordered by ``t``)."""
    rows, keys = _moved(events, sockets)
    parts = [_NONE]
    for channels, how in (
        (_STREAMS, _by_offset),
        (_DATAGRAMS, _by_order),
        (_COUNTERS, _by_time),
        (_QUEUES, _by_job),
    ):
        mine = np.isin(events["channel"][rows], channels)
        if mine.any():
            parts.append(how(events, rows[mine], keys[mine]))
    found = Matches.join(parts)
    order = np.lexsort((found.send, found.recv))
    return Matches(found.send[order], found.recv[order], found.size[order])


def astray(events: NDArray[np.void], sockets: SocketTable, lost_at: int) -> Rows:
    """Receives of which it is not sure what they answer to, if records were lost from ``lost_at`` on.

    Those after it, on channels that gave more or less than was put in.
    """
    rows, keys = _moved(events, sockets)
    bounded = ~np.isin(events["channel"][rows], _COUNTERS + _QUEUES)
    rows, keys = rows[bounded], keys[bounded]
    stream = np.isin(events["channel"][rows], _STREAMS)
    amount = np.where(stream, events["ret"][rows], _messages(events, rows))
    received = events["kind"][rows] == EventKind.RECV
    _, channel = np.unique(keys, return_inverse=True)
    uneven = np.bincount(channel, np.where(received, -amount, amount)) != 0
    doubtful: Rows = rows[received & uneven[channel] & (events["t"][rows] >= lost_at)]
    return doubtful


def _moved(events: NDArray[np.void], sockets: SocketTable) -> tuple[Rows, NDArray[np.uint64]]:
    """Rows of the calls that moved something, with the key of the endpoint that received it."""
    kind, channel, ret = (np.ascontiguousarray(events[name]) for name in ("kind", "channel", "ret"))
    moved = ((kind == EventKind.SEND) | (kind == EventKind.RECV)) & (events["flags"] & EventFlag.PEEK == 0)
    moved &= np.isin(channel, _STREAMS + _COUNTERS) & (ret > 0) | np.isin(channel, _DATAGRAMS + _QUEUES) & (
        ret >= 0
    )
    rows = np.flatnonzero(moved)
    keys = receiving_keys(events, rows, sockets)
    return rows[keys != 0], keys[keys != 0]


def _split(
    events: NDArray[np.void], rows: Rows, keys: NDArray[np.uint64], amount: Rows
) -> tuple[_Side, _Side]:
    sends = events["kind"][rows] == EventKind.SEND
    sent, received = rows[sends], rows[~sends]
    return (
        _side(sent, keys[sends], amount[sends], left_at(events, sent)),
        _side(received, keys[~sends], amount[~sends], events["t"][received]),
    )


def _by_offset(events: NDArray[np.void], rows: Rows, keys: NDArray[np.uint64]) -> Matches:
    amount = events["ret"][rows].astype(np.int64)
    send, recv = _split(events, rows, keys, amount)
    pairs, doubtful = _overlaps(events, send, recv)
    return _mend(events, send, recv, pairs, doubtful)


def _by_order(events: NDArray[np.void], rows: Rows, keys: NDArray[np.uint64]) -> Matches:
    send, recv = _split(events, rows, keys, _messages(events, rows))
    pairs, doubtful = _overlaps(events, send, recv)
    pairs = _mend(events, send, recv, pairs, doubtful)
    # Of part of a call's messages only their number is known.
    whole_send = pairs.size == _messages(events, pairs.send)
    size = np.where(whole_send, events["ret"][pairs.send], 0)
    whole_recv = pairs.size == _messages(events, pairs.recv)
    size = np.where(whole_recv, events["ret"][pairs.recv], size)
    return Matches(pairs.send, pairs.recv, size.astype(np.int64))


def _messages(events: NDArray[np.void], rows: Rows) -> Rows:
    """How many messages each call moved."""
    many = np.isin(events["nr"][rows], _MMSG)
    return np.where(many, events["count"][rows], 1).astype(np.int64)


def _overlaps(events: NDArray[np.void], send: _Side, recv: _Side) -> tuple[Matches, NDArray[np.uint64]]:
    """Pairs whose byte ranges overlap, and the endpoints where one of them contradicts the clock."""
    keys = np.unique(send.keys)
    shared = np.isin(recv.keys, keys)
    if not shared.any():
        return _NONE, keys[:0]
    recv = _side(recv.rows[shared], recv.keys[shared], recv.amount[shared], events["t"][recv.rows[shared]])
    send_index, send_start = _relative(send, keys)
    recv_index, recv_start = _relative(recv, keys)
    # Endpoints get stretches of one long line that cannot meet.
    longest = int(max((send_start + send.amount).max(), (recv_start + recv.amount).max())) + 1
    send_at, recv_at = send_index * longest + send_start, recv_index * longest + recv_start
    send_end, recv_end = send_at + send.amount, recv_at + recv.amount
    first = np.searchsorted(send_end, recv_at, side="right")
    last = np.searchsorted(send_at, recv_end, side="left")
    per_recv = np.maximum(last - first, 0)
    r = np.repeat(np.arange(len(recv.rows)), per_recv)
    s = np.arange(len(r)) - np.repeat(np.cumsum(per_recv) - per_recv, per_recv) + first[r]
    size = np.minimum(send_end[s], recv_end[r]) - np.maximum(send_at[s], recv_at[r])
    keep = size > 0
    s, r, size = s[keep], r[keep], size[keep]
    pairs = Matches(send.rows[s], recv.rows[r], size)
    wrong = left_at(events, pairs.send) > events["t"][pairs.recv].astype(np.int64)
    past_end = recv_start + recv.amount > np.bincount(send_index, send.amount, len(keys))[recv_index]
    return pairs, np.unique(np.concatenate([recv.keys[r][wrong], recv.keys[past_end]]))


def _mend(
    events: NDArray[np.void], send: _Side, recv: _Side, pairs: Matches, doubtful: NDArray[np.uint64]
) -> Matches:
    """Replace the pairs of doubtful endpoints by those found going through their calls in order of time."""
    if not len(doubtful):
        return pairs
    touched = recv.rows[np.isin(recv.keys, doubtful)]
    keep = ~np.isin(pairs.recv, touched)
    parts = [Matches(pairs.send[keep], pairs.recv[keep], pairs.size[keep])]
    for key in doubtful:
        parts.append(_walk(events, send, recv, key))
    return Matches.join(parts)


def _only(side: _Side, key: np.uint64) -> slice:
    return slice(*np.searchsorted(side.keys, (key, key + np.uint64(1))).tolist())


def _walk(events: NDArray[np.void], send: _Side, recv: _Side, key: np.uint64) -> Matches:
    """A receive of more than was sent by then took, first, what was there before the recording (or what a
    lost record sent): that much of it has no sender; the rest is matched in order."""
    s, r = _only(send, key), _only(recv, key)
    left, received = left_at(events, send.rows[s]), events["t"][recv.rows[r]]
    sends = zip(send.rows[s].tolist(), send.amount[s].tolist(), left.tolist(), strict=True)
    recvs = zip(recv.rows[r].tolist(), recv.amount[r].tolist(), received.tolist(), strict=True)
    queue: deque[list[int]] = deque()
    there = 0
    found: list[tuple[int, int, int]] = []
    following = next(sends, None)
    for row, wanted, t in recvs:
        while following and following[2] <= t:
            queue.append([following[0], following[1]])
            there += following[1]
            following = next(sends, None)
        wanted = min(wanted, there)
        there -= wanted
        while wanted > 0:
            taken = min(wanted, queue[0][1])
            found.append((queue[0][0], row, taken))
            wanted -= taken
            queue[0][1] -= taken
            if not queue[0][1]:
                queue.popleft()
    columns = np.array(found, np.int64).reshape(-1, 3)
    return Matches(columns[:, 0], columns[:, 1], columns[:, 2])


def _by_time(events: NDArray[np.void], rows: Rows, keys: NDArray[np.uint64]) -> Matches:
    """Counters and terminals keep no bounds: what is written is taken by the next read of the other end."""
    send, recv = _split(events, rows, keys, np.ones(len(rows), np.int64))
    parts = [_NONE]
    for key in np.intersect1d(send.keys, recv.keys):
        s_rows, r_rows = send.rows[_only(send, key)], recv.rows[_only(recv, key)]
        entered, read = left_at(events, s_rows), events["t"][r_rows].astype(np.int64)
        after = np.searchsorted(read, entered)
        hit = after < len(r_rows)
        if events["channel"][s_rows[0]] == ChannelType.EVENTFD and _is_semaphore(entered, read):
            s_hit, r_hit = s_rows[: len(r_rows)], r_rows
        else:
            s_hit, r_hit = s_rows[hit], r_rows[after[hit]]
        parts.append(Matches(s_hit, r_hit, events["ret"][s_hit].astype(np.int64)))
    return Matches.join(parts)


def _by_job(events: NDArray[np.void], rows: Rows, keys: NDArray[np.uint64]) -> Matches:
    """A job is what was last put into the queue under its number, if that was not taken before.

    Numbers are used again, being addresses, and not every taking out is seen: order would give a job to the
    one before it.
    """
    send, recv = _split(events, rows, keys, np.ones(len(rows), np.int64))
    parts = [_NONE]
    for key in np.intersect1d(send.keys, recv.keys):
        s_rows, r_rows = send.rows[_only(send, key)], recv.rows[_only(recv, key)]
        last = np.searchsorted(events["t"][s_rows], events["t"][r_rows], side="right") - 1
        _, first = np.unique(last, return_index=True)
        first = first[last[first] >= 0]
        parts.append(Matches(s_rows[last[first]], r_rows[first], np.zeros(len(first), np.int64)))
    return Matches.join(parts)


def _is_semaphore(entered: Rows, read: Rows) -> bool:
    """Whether reads take one write each, in order (EFD_SEMAPHORE).

    One came with no write since the read before it, and still there was always a write left; where there was
    not, the kernel itself adds to the counter.
    """
    if len(read) > len(entered) or np.any(entered[: len(read)] > read):
        return False
    return bool(np.any(np.diff(np.searchsorted(entered, read, side="right"), prepend=0) == 0))
