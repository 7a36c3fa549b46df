"""Which endpoint a send goes to: socket facts turned into one key per receiving end.

Bytes sent are keyed by the endpoint that will receive them, bytes received by the endpoint they were read
from; where both keys are equal, the bytes are the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clew.model.event import ChannelType, EventFlag, EventKind
from clew.trace.reader import Life

Keys = NDArray[np.uint64]
_PORT = 0xFFFF


def name_hash(address: bytes) -> int:
    """FNV-1a of a unix socket's address as bind(2) took it; calls.bpf.h computes the same in the kernel."""
    if address[:1] != b"\0":
        address = address.split(b"\0", 1)[0]
    value = 0xCBF29CE484222325
    for byte in address:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def show_inet(packed: int) -> str:
    """``127.0.0.1:80`` from an address (network order) << 16 and a port."""
    address = packed >> 16
    return ".".join(str(address >> shift & 255) for shift in (0, 8, 16, 24)) + f":{packed & _PORT}"


def show_name(address: bytes) -> str:
    """A unix socket's address as people write it: a path, or ``@name`` for an abstract one."""
    if address[:1] == b"\0":
        return "@" + address[1:].decode(errors="backslashreplace")
    return address.split(b"\0", 1)[0].decode(errors="backslashreplace")


@dataclass(slots=True)
class Socket:
    """One socket as it was first seen (and seen again when its address changed)."""

    inode: int
    t: int
    channel: ChannelType
    sock: int
    peer: int
    local: int
    name: str


class SocketTable:
    """Resolves peers."""

    def __init__(self, lives: list[Life]) -> None:
        self._by_inode: dict[int, Socket] = {}
        self._by_sock: dict[int, list[Socket]] = {}
        self._by_ends: dict[tuple[int, int, int], list[Socket]] = {}
        self._by_local: dict[tuple[int, int], int] = {}
        self._by_name: dict[int, int] = {}
        self._peer_of: dict[int, int] = {}
        for life in lives:
            if life.kind == EventKind.SOCKET:
                self._take(life)

    def _take(self, life: Life) -> None:
        channel = ChannelType(life.channel) if life.channel in set(ChannelType) else ChannelType.NONE
        name = show_name(life.blob) if life.blob else ""
        socket = Socket(life.chan, life.t, channel, life.peer, life.peer2, life.local, name)
        self._by_inode[socket.inode] = socket
        self._by_sock.setdefault(socket.sock, []).append(socket)
        if channel in (ChannelType.TCP, ChannelType.UDP):
            self._by_ends.setdefault((channel, socket.local, socket.peer), []).append(socket)
            self._by_local[channel, socket.local] = socket.inode
        elif socket.peer:
            self._peer_of.setdefault(socket.peer, socket.inode)
        if life.blob:
            self._by_name[name_hash(life.blob)] = socket.inode

    def name(self, inode: int, peer: int = 0) -> str:
        """What a person knows the connection by: the path an end is bound to, or both addresses."""
        for end in (self._by_inode.get(inode), self._by_inode.get(peer)):
            if end is None:
                continue
            if end.channel in (ChannelType.TCP, ChannelType.UDP):
                return f"{show_inet(end.local)} → {show_inet(end.peer)}" if end.peer else show_inet(end.local)
            if end.name:
                return end.name
        return ""

    def receiver(self, inode: int, channel: int, peer: int, flags: int, t: int) -> int:
        """The inode of the socket that gets what ``inode`` sends to ``peer`` at ``t``; 0 if unknown."""
        if flags & EventFlag.PEER_NAME:
            return self._by_name.get(peer, 0)
        if flags & EventFlag.PEER_INET:
            return self._inet(inode, channel, peer, t)
        if flags & EventFlag.PEER_SOCK:
            seen = [s for s in self._by_sock.get(peer, ()) if s.t >= t]
            return seen[0].inode if seen else 0
        return peer or self._peer_of.get(inode, 0)

    def _inet(self, inode: int, channel: int, peer: int, t: int) -> int:
        own = self._by_inode.get(inode)
        if channel == ChannelType.TCP:
            if own is None:
                return 0
            # The same pair of addresses may serve one connection after another: the nearest in time.
            ends = self._by_ends.get((channel, own.peer, own.local), ())
            return min(ends, key=lambda s: abs(s.t - own.t)).inode if ends else 0
        exact = self._by_local.get((channel, peer))
        return exact if exact is not None else self._by_local.get((channel, peer & _PORT), 0)


def receiving_keys(events: NDArray[np.void], sockets: SocketTable) -> Keys:
    """For each event (SEND or RECV) the key of the endpoint that receives; 0 where it is unknown."""
    chan, peer = events["chan"].astype(np.uint64), events["peer"].astype(np.uint64)
    channel = events["channel"].astype(np.uint64)
    keys: Keys = chan.copy()
    sending = events["kind"] == EventKind.SEND
    keys[sending] = peer[sending]
    socket = (channel >= ChannelType.UNIX) & (channel <= ChannelType.UDP)
    unresolved = np.flatnonzero(sending & socket & ((events["flags"] & 28 != 0) | (peer == 0)))
    if len(unresolved):
        keys[unresolved] = _resolve(events[unresolved], sockets)
    # Numbers of different name spaces must not meet: inodes, pty indices, kernel addresses.
    known = keys != 0
    keys[known] = keys[known] * np.uint64(16) + channel[known]
    return keys


def _resolve(events: NDArray[np.void], sockets: SocketTable) -> Keys:
    """Peers by the table; looked up once per (socket, peer, flags), except where time tells them apart."""
    cache: dict[tuple[int, int, int, int], int] = {}
    found = np.zeros(len(events), np.uint64)
    columns = (events[name].tolist() for name in ("chan", "peer", "channel", "flags", "t0", "t"))
    for i, (chan, peer, channel, flags, t0, t) in enumerate(zip(*columns, strict=True)):
        key = (chan, peer, channel, flags & 28)
        inode = cache.get(key)
        if inode is None:
            inode = sockets.receiver(chan, channel, peer, flags, t0 or t)
            if not flags & EventFlag.PEER_SOCK:
                cache[key] = inode
        found[i] = inode
    return found
