"""Internet addresses as records have them, in one number with the port.

IPv4: the address (network order) << 16 and the port.  IPv6: the top bit, 47 bits that are made of the address
(``clew_pack_inet6`` of alike.h), and the port; a socket's own record says the whole of both its addresses.
IPv4 in IPv6 is IPv4.
"""

from __future__ import annotations

import ipaddress

Address = tuple[int, bytes]
"""An address and port as above, and of IPv6 the whole address of 16 bytes (b"" if that is not known)."""

_PORT = 0xFFFF
_INET6 = 1 << 63
_LOOPBACK_6 = 0xDCBFA53E0A80 << 16  # ::1, as clew_pack_inet6 makes it


def address(packed: int, whole: bytes) -> Address:
    """The address that a socket's record tells: of one in IPv6 the number is a part, of another it is all."""
    return packed, whole if packed & _INET6 else b""


def show_inet(packed: int, whole: bytes = b"") -> str:
    """``127.0.0.1:80`` or ``[fd00::1]:80``; ``[IPv6]:80`` where the whole address is not known."""
    if packed & _INET6:
        text = str(ipaddress.IPv6Address(whole)) if len(whole) == 16 else "IPv6"
        return f"[{text}]:{packed & _PORT}"
    return ".".join(str(packed >> shift & 255) for shift in (16, 24, 32, 40)) + f":{packed & _PORT}"


def is_loopback(packed: int) -> bool:
    """Whether an address is of one network namespace alone: 127.0.0.0/8, or ::1."""
    if packed & _INET6:
        return packed & ~_PORT == _LOOPBACK_6
    return packed >> 16 & 0xFF == 127


def anywhere(packed: int) -> tuple[int, ...]:
    """What a socket is bound to that gets what is sent to any address: 0.0.0.0, or :: which is for both."""
    port = packed & _PORT
    return (port | _INET6,) if packed & _INET6 else (port, port | _INET6)


def goes_by(packed: int, local: int) -> bool:
    """Whether a socket that is bound to ``local`` may have this address."""
    return packed == local or local in anywhere(packed)
