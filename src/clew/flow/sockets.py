"""Which endpoint a send goes to: socket facts turned into one key per receiving end.

Bytes sent are keyed by the endpoint that will receive them, bytes received by the endpoint they were read
from; where both keys are equal, the bytes are the same.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clew.flow.addresses import Address, address, anywhere, goes_by, is_loopback, show_inet
from clew.flow.moments import Rows, left_at
from clew.model.event import ChannelType, EventFlag, EventKind
from clew.trace.reader import Life

Keys = NDArray[np.uint64]
Turns = list[tuple[int, int]]
"""Receivers, one after another: (from when on, the receiver's inode; 0: unknown)."""
Ends = tuple[int, Address, Address]
"""A kind of connection, and the addresses of its ends, the lower first."""

_BOTH = 32  # bytes of both addresses
_PEER = EventFlag.PEER_SOCK | EventFlag.PEER_NAME | EventFlag.PEER_INET


def name_hash(address: bytes) -> int:
    """FNV-1a of a unix socket's address as bind(2) took it; calls.bpf.h computes the same in the kernel."""
    if address[:1] != b"\0":
        address = address.split(b"\0", 1)[0]
    value = 0xCBF29CE484222325
    for byte in address:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


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
    net: int
    whole: bytes = b""  # both addresses of an IPv6 socket, its own first

    @property
    def here(self) -> Address:
        """Its own address."""
        return address(self.local, self.whole[:16])

    @property
    def there(self) -> Address:
        """Its peer's address."""
        return address(self.peer, self.whole[16:])

    @property
    def is_inet(self) -> bool:
        """Whether it has internet addresses."""
        return self.channel in (ChannelType.TCP, ChannelType.UDP)


def _show(told: Address) -> str:
    return show_inet(*told) if told[0] else ""


class SocketTable:
    """Resolves peers."""

    def __init__(self, lives: list[Life]) -> None:
        self._by_inode: dict[int, Socket] = {}
        self._by_sock: dict[int, list[Socket]] = {}
        self._by_local: dict[int, list[Socket]] = {}
        self._by_name: dict[int, list[Socket]] = {}
        self._peer_of: dict[int, int] = {}
        self._last_received: dict[int, int] = {}
        connections: dict[Ends, list[Socket]] = {}
        for life in lives:
            if life.kind == EventKind.SOCKET:
                self._take(life, connections)
        for told in connections.values():
            self._pair_by_namespace(told)

    def _take(self, life: Life, connections: dict[Ends, list[Socket]]) -> None:
        channel = ChannelType(life.channel) if life.channel in set(ChannelType) else ChannelType.NONE
        socket = Socket(life.chan, life.t, channel, life.peer, life.peer2, life.local, "", life.namespaces[2])
        if socket.is_inet:
            socket.whole = life.blob if len(life.blob) == _BOTH else b""
        elif life.blob:
            socket.name = show_name(life.blob)
        self._by_inode[socket.inode] = socket
        self._by_sock.setdefault(socket.sock, []).append(socket)
        if socket.is_inet:
            low, high = sorted((socket.here, socket.there))
            connections.setdefault((channel, low, high), []).append(socket)
        elif socket.peer:
            self._peer_of.setdefault(socket.peer, socket.inode)
        # Streams are connected: of them, no send names the receiver.
        if channel is ChannelType.UDP:
            _add(self._by_local.setdefault(socket.local, []), socket)
        elif life.blob and channel is ChannelType.UNIX_DGRAM:
            _add(self._by_name.setdefault(name_hash(life.blob), []), socket)

    def _pair_by_namespace(self, told: list[Socket]) -> None:
        """The same two addresses may be used in several network namespaces, each time by others.

        Both ends in one namespace are of one connection; one end in each is, unless it is the loopback's.
        """
        inside: dict[int, list[Socket]] = {}
        for socket in told:
            inside.setdefault(socket.net, []).append(socket)
        across: list[Socket] = []
        for sockets in inside.values():
            if len({socket.here for socket in sockets}) > 1:
                self._pair(sockets)
            elif not is_loopback(sockets[0].local):
                across += sockets
        self._pair(sorted(across, key=lambda socket: socket.t))

    def _pair(self, told: list[Socket]) -> None:
        """Find the two ends of each connection among all that had the same two addresses, in order of time.

        One connection after another may use the same pair of addresses; an end that is seen a second time
        belongs to the next one.
        """
        ends: dict[Address, Socket] = {}
        for socket in told:
            before = ends.get(socket.here)
            if before and before.inode != socket.inode:
                ends = {}
            ends[socket.here] = socket
            if len(ends) == 2:
                for one, other in itertools.permutations(ends.values()):
                    self._peer_of[one.inode] = other.inode

    def learn(self, receives: NDArray[np.void]) -> None:
        """Note when each datagram socket last received: until then it had its address to itself."""
        of_messages = np.isin(receives["channel"], [ChannelType.UNIX_DGRAM, ChannelType.UDP])
        columns = (receives[name][of_messages].tolist() for name in ("chan", "t"))
        self._last_received = dict(zip(*columns, strict=True))

    def name(self, inode: int, peer: int = 0) -> str:
        """What a person knows the connection by: the path an end is bound to, or both addresses."""
        for end in (self._by_inode.get(inode), self._by_inode.get(peer)):
            if end is None:
                continue
            if end.is_inet:
                if not (end.local or end.peer):
                    continue  # seen before it was bound or connected
                return " → ".join(filter(None, (show_inet(*end.here), _show(end.there))))
            if end.name:
                return end.name
        return ""

    def address(self, inode: int) -> str:
        """Where a socket is: its path or name, or its own address and port; "" if it has none."""
        socket = self._by_inode.get(inode)
        if socket is None:
            return ""
        return _show(socket.here) if socket.is_inet else socket.name

    def far_address(self, inode: int) -> str:
        """Where the other end of a socket is, likewise."""
        socket = self._by_inode.get(inode)
        if socket is None:
            return ""
        return _show(socket.there) if socket.is_inet else self.address(socket.peer)

    def sides(self) -> tuple[set[int], set[int]]:
        """The endpoints that were accepted, and those that were opened, as far as their addresses tell.

        What accept(2) returns has the listener's address: a name, where who connected has none (unix(7)), or
        one that others have as well.
        """
        accepted, opened = set(), set()
        for socket in self._by_inode.values():
            other = self._by_inode.get(socket.peer)
            unnamed = other is None or not other.name
            stream = socket.channel in (ChannelType.UNIX, ChannelType.UNIX_SEQPACKET)
            if stream and socket.peer and socket.name and unnamed:
                accepted.add(socket.inode)
                opened.add(socket.peer)
        listening = self._listening()
        for socket in self._by_inode.values():
            if socket.channel is ChannelType.TCP and socket.peer:
                here, there = ({end, *anywhere(end)} & listening for end in (socket.local, socket.peer))
                if here and not there:
                    accepted.add(socket.inode)
                elif there and not here:
                    opened.add(socket.inode)
        return accepted, opened

    def _listening(self) -> set[int]:
        """TCP addresses that listeners have: those without a peer, and those that several sockets have."""
        seen: set[int] = set()
        found: set[int] = set()
        for socket in self._by_inode.values():
            if socket.channel is ChannelType.TCP:
                if not socket.peer or socket.local in seen:
                    found.add(socket.local)
                seen.add(socket.local)
        return found - {0}

    def receiver(self, inode: int, channel: int, peer: int, flags: int, t: int) -> int:
        """The inode of the socket that gets what ``inode`` sends to ``peer`` at ``t``; 0 if unknown."""
        found = 0
        for since, candidate in self.receivers(inode, channel, peer, flags):
            if since <= t:
                found = candidate
        return found

    def opener(self, accepted: int, channel: int, peer: int, flags: int, t: int) -> int:
        """The socket at the other end of one that accept(2) returned at ``t``; 0 if unknown.

        Who connected and closed before that has no inode any more, only an address: it is the one that was
        connected to the address of the accepted socket.
        """
        own = self._by_inode.get(accepted)
        if own and flags & EventFlag.PEER_SOCK:
            told = reversed(self._by_sock.get(peer, []))
            return next((s.inode for s in told if s.peer == own.sock and s.t <= t), 0)
        return self.receiver(accepted, channel, peer, flags, t)

    def receivers(self, inode: int, channel: int, peer: int, flags: int) -> Turns:
        """Who gets what ``inode`` sends to ``peer``, one after another."""
        if flags & EventFlag.PEER_NAME:
            return self._in_turn(self._by_name.get(peer, []))
        if flags & EventFlag.PEER_INET:
            return self._inet(inode, channel, peer)
        if flags & EventFlag.PEER_SOCK:
            return _accepted(self._by_sock.get(peer, []))
        return [(0, peer or self._peer_of.get(inode, 0))]

    def _inet(self, inode: int, channel: int, peer: int) -> Turns:
        own = self._by_inode.get(inode)
        if own and own.peer == peer and inode in self._peer_of:
            return [(0, self._peer_of[inode])]
        if channel == ChannelType.TCP:
            return []
        to = [peer, *anywhere(peer)]
        bound = next((found for at in to if (found := self._by_local.get(at))), [])
        if len({socket.here for socket in bound}) > 1:
            return []  # two addresses of IPv6 that are one number: nobody knows which was meant
        near = [s for s in bound if own and s.net == own.net]
        if near or is_loopback(peer):
            bound = near or [s for s in bound if not (own and own.net and s.net)]
        # A connected socket receives from its peer only, and before one that is not.
        local = own.local if own else 0
        ours = [s for s in bound if s.peer and goes_by(s.peer, local)]
        return self._in_turn(ours or [s for s in bound if not s.peer])

    def _in_turn(self, sockets: list[Socket]) -> Turns:
        """Sockets of one address: each had it until it last received; if two did at once, nobody knows."""
        turns: Turns = []
        since = 0
        for socket in sockets:
            if turns and socket.t < since:
                turns.append((max(socket.t, turns[-1][0]), 0))
            turns.append((since, socket.inode))
            since = max(since, self._last_received.get(socket.inode, -1) + 1)
        return turns


def _accepted(told: list[Socket]) -> Turns:
    """A socket that was sent to before it was accepted is told of after that: the next one at the address."""
    since = [0, *(socket.t + 1 for socket in told)]
    return list(zip(since, [*(socket.inode for socket in told), 0], strict=True))


def _add(known: list[Socket], socket: Socket) -> None:
    if all(other.inode != socket.inode for other in known):
        known.append(socket)


def receiving_keys(events: NDArray[np.void], rows: Rows, sockets: SocketTable) -> Keys:
    """For each of ``rows`` (sends and receives) the key of the endpoint that receives; 0 if unknown."""
    sending = events["kind"][rows] == EventKind.SEND
    channel = events["channel"][rows]
    keys: Keys = np.where(sending, events["peer"][rows], events["chan"][rows])
    socket = (channel >= ChannelType.UNIX) & (channel <= ChannelType.UDP)
    indirect = (events["flags"][rows] & _PEER != 0) | (keys == 0)
    unresolved = np.flatnonzero(sending & socket & indirect)
    if len(unresolved):
        sockets.learn(events[rows[~sending & socket]])
        keys[unresolved] = _resolve(events[rows[unresolved]], sockets)
    # Numbers of different name spaces must not meet: inodes, pty indices, kernel addresses.
    return np.where(keys == 0, keys, keys * np.uint64(16) + channel)


def _resolve(sends: NDArray[np.void], sockets: SocketTable) -> Keys:
    """Peers by the table; looked up once per (socket, channel, peer, flags)."""
    found = np.zeros(len(sends), np.uint64)
    columns = (sends["chan"], sends["channel"], sends["peer"], sends["flags"] & _PEER)
    order = np.lexsort(columns)
    way = np.stack([column[order].astype(np.uint64) for column in columns])
    first = np.flatnonzero(np.append(True, np.any(way[:, 1:] != way[:, :-1], axis=0)))
    left = left_at(sends, np.arange(len(sends)))
    ways = way[:, first].T.tolist()
    for same, (chan, channel, peer, flags) in zip(np.split(order, first[1:]), ways, strict=True):
        turns = sockets.receivers(chan, channel, peer, flags)
        if turns:
            since, inodes = (np.array(column, np.int64) for column in zip(*turns, strict=True))
            found[same] = inodes[np.searchsorted(since, left[same], side="right") - 1]
    return found
