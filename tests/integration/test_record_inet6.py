"""Addresses of IPv6 are told whole, and are no addresses of IPv4, in both engines."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from clew.flow.match import match
from clew.flow.sockets import SocketTable
from clew.model.event import ChannelType, EventKind
from tests.support.tracing import Recorded, record
from tests.unit.test_flow_peers import packed6

pytestmark = pytest.mark.requires("root")

# Folded to 32 bits, as once they were, the first two are one number.
ADDRESSES = ("fd00::1", "fd00::1:0:82", "::ffff:127.0.0.1")
TALK = """
import ctypes, socket, subprocess, sys
if ctypes.CDLL(None).unshare(0x40000000): sys.exit(77)  # CLONE_NEWNET
def ip(*words):
    if subprocess.run(["ip", *words], check=False).returncode: sys.exit(77)
ip("link", "set", "lo", "up")
for address in ("fd00::1", "fd00::1:0:82"): ip("-6", "addr", "add", address + "/64", "dev", "lo", "nodad")

def usable(address):
    try: socket.socket(socket.AF_INET6).bind((address, 0))
    except OSError: return False
    here = socket.inet_pton(socket.AF_INET6, address).hex() + " 80 "
    routes = [line.split() for line in open("/proc/self/net/ipv6_route") if line.startswith(here)]
    RTF_LOCAL = 0x80000000
    return address.startswith("::ffff:") or any(int(route[8], 16) & RTF_LOCAL for route in routes)
# A kernel thread makes an address fit for use, and its route (addrconf_dad_begin).
for address in sys.argv[2:]:
    while not usable(address): pass

def tcp(address):
    listener, client = (socket.socket(socket.AF_INET6) for _ in range(2))
    listener.bind((address, 7000))
    listener.listen()
    client.bind((address, 5000))
    client.connect((address, 7000))
    return (lambda data: client.send(data)), listener.accept()[0].recv

def udp(address):
    here, there = (socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(2))
    here.bind((address, 5000))
    there.bind((address, 7000))
    return (lambda data: here.sendto(data, (address, 7000))), there.recv

made = [{"tcp": tcp, "udp": udp}[sys.argv[1]](address) for address in sys.argv[2:]]
for at, (send, recv) in enumerate(made): send(b"x" * (at + 1))
for send, recv in reversed(made): recv(9)
"""


def _talked(folder: Path, how: str, engine: str) -> Recorded:
    done = record(folder, sys.executable, "-c", TALK, how, *ADDRESSES, engine=engine)
    if done.outcome.wait_status == 77 << 8:
        pytest.skip("no network namespaces, no ip(8), or no IPv6")
    assert done.outcome.wait_status == 0
    return done


@pytest.mark.parametrize("how", ["tcp", "udp"])
def test_each_message_goes_to_its_own_address(how: str, engine: str, tmp_path: Path) -> None:
    done = _talked(tmp_path, how, engine)
    events, sockets = done.trace.events, SocketTable(done.lives)
    channel = ChannelType.TCP if how == "tcp" else ChannelType.UDP
    found = match(events, sockets)
    pairs = [
        (int(events["ret"][send]), int(events["ret"][recv]), sockets.name(int(events["chan"][recv])))
        for send, recv in zip(found.send.tolist(), found.recv.tolist(), strict=True)
        if events["channel"][send] == channel
    ]
    names = [f"{address}:7000" for address in ("[fd00::1]", "[fd00::1:0:82]", "127.0.0.1")]
    if how == "tcp":
        names = [f"{name} → {name.replace('7000', '5000')}" for name in names]
    assert pairs == [(size, size, names[size - 1]) for size in (3, 2, 1)]


def test_engines_make_the_same_numbers(engine: str, tmp_path: Path) -> None:
    done = _talked(tmp_path, "udp", engine)
    told = {
        life.local for life in done.lives if life.kind == EventKind.SOCKET and life.channel == ChannelType.UDP
    }
    mapped = 0x0100007F << 16
    numbers = {packed6(address, port) for address in ADDRESSES[:2] for port in (5000, 7000)}
    assert numbers | {mapped | 5000, mapped | 7000} <= told
