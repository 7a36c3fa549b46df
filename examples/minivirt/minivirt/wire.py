"""Messages between tasks: a 4-byte big-endian length, then that many bytes (JSON).

libvirt: ``virNetMessageEncodeHeader`` and ``virNetMessageDecodeLength``; its messages are XDR.
The same framing serves the unix socket (shell and daemon) and the pipes inside the daemon.
"""

from __future__ import annotations

import os
import struct

_LENGTH = struct.Struct("!I")
MAX_BODY = 64 * 1024


class TooLong(Exception):
    """A message announces more than ``MAX_BODY`` bytes: it is hostile, or it is no message at all."""


def pack(body: bytes) -> bytes:
    """The bytes to send for one message. Raises ``TooLong``."""
    if len(body) > MAX_BODY:
        raise TooLong(f"a message of {len(body)} bytes; at most {MAX_BODY} are allowed")
    return _LENGTH.pack(len(body)) + body


def cut(buffer: bytearray) -> bytes | None:
    """Take the first whole message off ``buffer``; None while it is not complete. Raises ``TooLong``."""
    if len(buffer) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack_from(buffer)
    if length > MAX_BODY:
        raise TooLong(f"a message of {length} bytes is announced; at most {MAX_BODY} are allowed")
    end = _LENGTH.size + length
    if len(buffer) < end:
        return None
    body = bytes(buffer[_LENGTH.size : end])
    del buffer[:end]
    return body


def receive(fd: int) -> bytes | None:
    """Block until one whole message has come; None when the other side has gone. Raises ``TooLong``.

    Reads the length first and then exactly the body, so nothing of a following message is taken.
    """
    buffer = bytearray()
    while (body := cut(buffer)) is None:
        wanted = _LENGTH.size if len(buffer) < _LENGTH.size else _LENGTH.size + _length_of(buffer)
        data = os.read(fd, wanted - len(buffer))
        if not data:
            return None
        buffer += data
    return body


def _length_of(buffer: bytearray) -> int:
    (length,) = _LENGTH.unpack_from(buffer)
    return int(length)
