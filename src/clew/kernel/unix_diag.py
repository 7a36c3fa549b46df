"""Unix sockets as sock_diag(7) tells of them: who is connected to whom, and who waits to be accepted."""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass

# include/uapi/linux/{netlink,sock_diag,unix_diag}.h
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_DUMP = 1, 0x300
_SHOW_NAME, _SHOW_PEER, _SHOW_ICONS = 1, 4, 8
_ATTR_NAME, _ATTR_PEER, _ATTR_ICONS = 0, 2, 3
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBHIIIII")
_MESSAGE = struct.Struct("=BBBBIII")
_ATTRIBUTE = struct.Struct("=HH")
_ALL_STATES = 0xFFFFFFFF
_LISTEN = 10  # TCP_LISTEN (include/net/tcp_states.h)


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """A unix socket: its ``peer`` (inode, 0 if none), its name, the clients in its queue (a listener's)."""

    inode: int
    peer: int
    name: bytes
    queue: tuple[int, ...]
    listening: bool


def unix_sockets() -> dict[int, UnixSocket]:
    """Every unix socket of this network namespace by inode; none if the kernel does not answer."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as asked:
            asked.settimeout(2)
            body = _REQUEST.pack(
                socket.AF_UNIX, 0, 0, _ALL_STATES, 0, _SHOW_NAME | _SHOW_PEER | _SHOW_ICONS, 0, 0
            )
            flags = _NLM_F_REQUEST | _NLM_F_DUMP
            asked.send(_HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, flags, 1, 0) + body)
            return _answers(asked)
    except OSError as error:
        if error.errno == errno.EMFILE:
            raise
        return {}


def _answers(asked: socket.socket) -> dict[int, UnixSocket]:
    found: dict[int, UnixSocket] = {}
    while True:
        data = asked.recv(1 << 18)
        while len(data) >= _HEADER.size:
            length, kind, *_ = _HEADER.unpack_from(data)
            if kind in (_NLMSG_ERROR, _NLMSG_DONE) or length < _HEADER.size:
                return found
            if kind == _SOCK_DIAG_BY_FAMILY:
                one = _socket(data[_HEADER.size : length])
                found[one.inode] = one
            data = data[(length + 3) & ~3 :]


def _socket(message: bytes) -> UnixSocket:
    _, _, state, _, inode, _, _ = _MESSAGE.unpack_from(message)
    peer, name, queue = 0, b"", ()
    left = message[_MESSAGE.size :]
    while len(left) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(left)
        value = left[_ATTRIBUTE.size : length]
        if kind == _ATTR_PEER:
            peer = int.from_bytes(value[:4], "little")
        elif kind == _ATTR_NAME:
            # An abstract name begins with NUL and is shown with "@", as ss(8) does; a path ends at its NUL.
            name = b"@" + value[1:].rstrip(b"\0") if value[:1] == b"\0" else value.rstrip(b"\0")
        elif kind == _ATTR_ICONS:
            queue = tuple(struct.unpack(f"={len(value) // 4}I", value[: len(value) & ~3]))
        left = left[max((length + 3) & ~3, _ATTRIBUTE.size) :]
    return UnixSocket(inode, peer, name, queue, state == _LISTEN)
