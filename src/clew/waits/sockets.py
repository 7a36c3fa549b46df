"""Who is at the other end of a socket."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from clew.kernel import procfs
from clew.model.waits import Awaited, Ender, WaitKind
from clew.waits.machine import Holder, Machine

_LISTEN = "0A"  # TCP_LISTEN (include/net/tcp_states.h)


@dataclass(frozen=True, slots=True)
class _Inet:
    """A line of /proc/PID/net/tcp: addresses as the kernel prints them."""

    local: str
    remote: str
    state: str
    inode: int


def awaited(machine: Machine, pid: int, inode: int, wants: str) -> Awaited:
    """What is waited for on a socket: "data", "room" or "a connection"."""
    socket = machine.unix.get(inode)
    if socket is not None:
        return _unix(machine, inode, wants)
    for family in ("tcp", "tcp6", "udp", "udp6"):
        table = _table(pid, family)
        own = next((one for one in table if one.inode == inode), None)
        if own is not None:
            return _inet(machine, own, table, family, wants)
    why = "the other end is not one that this network namespace shows"
    return Awaited(WaitKind.SOCKET, f"socket:[{inode}]".encode(), wants, outside=True, why=why)


def _unix(machine: Machine, inode: int, wants: str) -> Awaited:
    own = machine.unix[inode]
    peer = machine.unix.get(own.peer)
    name = own.name or (peer.name if peer else b"")
    if own.listening:
        return Awaited(WaitKind.UNIX, name, "a connection", outside=True, why="any client may connect")
    if not own.peer and inode not in machine.accepts_for:
        # A datagram socket that is bound, or one whose other end is closed.
        return Awaited(WaitKind.UNIX, name, wants, outside=True, why="it is connected to no other socket")
    listener = machine.accepts_for.get(inode)
    if listener is not None:
        name = machine.unix[listener].name
        how = "has not accepted the connection yet"
        return _held(machine, WaitKind.UNIX, name, wants, listener, how)
    return _held(machine, WaitKind.UNIX, name, wants, own.peer, "holds its other end")


def _held(machine: Machine, kind: WaitKind, name: bytes, wants: str, inode: int, how: str) -> Awaited:
    holders = machine.holders(b"socket:[%d]" % inode)
    enders = tuple(Ender(holder.pid, 0, f"{how} (fd {holder.fd})") for holder in _once(holders))
    outside, why = bool(machine.hidden) or not enders, ""
    if outside:
        why = "it may be held by processes that are not ours to see" if machine.hidden else "nobody holds it"
    return Awaited(kind, name, wants, enders, outside, why)


def _once(holders: list[Holder]) -> list[Holder]:
    """One descriptor of each process."""
    return list({holder.pid: holder for holder in holders}.values())


def _table(pid: int, family: str) -> list[_Inet]:
    found = []
    for line in (procfs.read(f"/proc/{pid}/net/{family}") or b"").decode().splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9:
            found.append(_Inet(fields[1], fields[2], fields[3], int(fields[9])))
    return found


def _inet(machine: Machine, own: _Inet, table: list[_Inet], family: str, wants: str) -> Awaited:
    kind = WaitKind.TCP if family.startswith("tcp") else WaitKind.UDP
    if own.state == _LISTEN:
        return Awaited(kind, _shown(own.local), "a connection", outside=True, why="any client may connect")
    name = _shown(own.local) + b" to " + _shown(own.remote)
    other = next((one for one in table if one.local == own.remote and one.remote == own.local), None)
    if other is not None and other.inode:
        return _held(machine, kind, name, wants, other.inode, "holds its other end")
    listener = next(
        (one for one in table if one.state == _LISTEN and _port(one.local) == _port(own.remote)), None
    )
    if other is not None and listener is not None:
        return _held(machine, kind, name, wants, listener.inode, "has not accepted the connection yet")
    return Awaited(kind, name, wants, outside=True, why="its other end is not in this network namespace")


def _port(address: str) -> str:
    return address.rpartition(":")[2]


def _shown(address: str) -> bytes:
    """As /proc prints it (words of the host's byte order, in hexadecimal) to what a person writes."""
    digits, _, port = address.rpartition(":")
    words = bytes.fromhex(digits)
    packed = b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4))
    ip = ipaddress.ip_address(packed)
    return (f"[{ip}]" if ip.version == 6 else str(ip)).encode() + b":%d" % int(port, 16)
