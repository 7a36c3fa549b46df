"""Who receives what is sent: sockets by inode, by address, by name, before they are accepted."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

from clew.flow.addresses import is_loopback, show_inet
from clew.flow.sockets import SocketTable, name_hash, show_name
from clew.model.event import ChannelType, EventFlag
from tests.support.script import End, Script
from tests.unit.test_flow_match import pairs

LOOPBACK = 0x0100007F << 16  # 127.0.0.1, in network order
CLIENT, SERVER = LOOPBACK | 40000, LOOPBACK | 80
ANYWHERE = 80
UNIX, DGRAM, TCP, UDP = ChannelType.UNIX, ChannelType.UNIX_DGRAM, ChannelType.TCP, ChannelType.UDP


@pytest.fixture
def script() -> Script:
    return Script()


def inet(script: Script, channel: ChannelType, local: int, peer: int = 0, to: int = 0) -> End:
    """An internet socket, used for the first time now; what is sent through it goes to ``to``."""
    end = End(channel, script.number(), to or peer, EventFlag.PEER_INET)
    script.socket(channel, end.chan, local=local, peer2=peer)
    return end


def named(script: Script, name: bytes, channel: ChannelType = DGRAM) -> End:
    """A unix socket bound to ``name``, used for the first time now."""
    end = End(channel, script.number(), 0)
    script.socket(channel, end.chan, name)
    return end


def test_a_peer_not_accepted_yet_is_known_when_it_is(script: Script, tmp_path: Path) -> None:
    client, server, (near, far) = script.running("client"), script.running("server"), script.socketpair()
    kernel_socket = 0xFFFF_8880_0000_1000
    early = client.send(near.to(kernel_socket, EventFlag.PEER_SOCK), 10)
    script.socket(UNIX, far.chan, peer=kernel_socket, peer2=near.chan)
    late = client.send(near, 20)
    got = server.recv(far, 30)
    assert pairs(script, tmp_path) == [(early, got, 10), (late, got, 20)]


def test_a_kernel_socket_that_was_freed_is_not_taken_for_the_next(script: Script, tmp_path: Path) -> None:
    client, server = script.running("client"), script.running("server")
    (near, far), (near2, far2) = script.socketpair(), script.socketpair()
    kernel_socket = 0xFFFF_8880_0000_1000
    script.socket(UNIX, far.chan, peer=kernel_socket, peer2=near.chan)
    client.send(near, 10)
    server.recv(far, 10)
    early = client.send(near2.to(kernel_socket, EventFlag.PEER_SOCK), 20)
    script.socket(UNIX, far2.chan, peer=kernel_socket, peer2=near2.chan)
    assert (early, server.recv(far2, 20), 20) in pairs(script, tmp_path)


def test_an_end_whose_peer_is_closed_is_found_by_who_named_it(script: Script, tmp_path: Path) -> None:
    client, server, (near, far) = script.running("client"), script.running("server"), script.socketpair()
    script.socket(UNIX, near.chan, peer2=far.chan)
    sent = server.send(far.to(0, EventFlag(0)), 10)
    got = client.recv(near, 10)
    assert pairs(script, tmp_path) == [(sent, got, 10)]


@pytest.mark.parametrize("channel", [TCP, UDP])
def test_connected_internet_sockets_are_paired_by_both_addresses(
    channel: ChannelType, script: Script, tmp_path: Path
) -> None:
    one, other = script.running("one"), script.running("other")
    near, far = inet(script, channel, CLIENT, SERVER), inet(script, channel, SERVER, CLIENT)
    inet(script, channel, SERVER, CLIENT + 1)
    sent, got = one.send(near, 10), other.recv(far, 10)
    back, answered = other.send(far, 20), one.recv(near, 20)
    assert pairs(script, tmp_path) == [(sent, got, 10), (back, answered, 20)]


def test_two_connections_may_use_one_pair_of_addresses(script: Script, tmp_path: Path) -> None:
    one, other = script.running("one"), script.running("other")
    first = inet(script, TCP, CLIENT, SERVER)
    early = one.send(first, 10)
    script.tick(1000)
    accepted = inet(script, TCP, SERVER, CLIENT)  # a server that was slow to read
    first_got = other.recv(accepted, 10)
    second = inet(script, TCP, CLIENT, SERVER)
    late = one.send(second, 10)
    script.tick(1000)
    again = inet(script, TCP, SERVER, CLIENT)
    second_got = other.recv(again, 10)
    assert pairs(script, tmp_path) == [(early, first_got, 10), (late, second_got, 10)]


def test_a_connection_nobody_read_does_not_shift_the_next(script: Script, tmp_path: Path) -> None:
    one, other = script.running("one"), script.running("other")
    one.send(inet(script, TCP, CLIENT, SERVER), 10)
    sent = one.send(inet(script, TCP, CLIENT, SERVER), 20)
    got = other.recv(inet(script, TCP, SERVER, CLIENT), 20)
    assert pairs(script, tmp_path) == [(sent, got, 20)]


@pytest.mark.parametrize("bound", [SERVER, ANYWHERE])
def test_a_datagram_goes_to_who_is_bound_to_its_address(bound: int, script: Script, tmp_path: Path) -> None:
    one, other = script.running("one"), script.running("other")
    near, far = inet(script, UDP, CLIENT, to=SERVER), inet(script, UDP, bound, to=CLIENT)
    sent, got = one.send(near, 10), other.recv(far, 10)
    back, answered = other.send(far, 20), one.recv(near, 20)
    assert pairs(script, tmp_path) == [(sent, got, 10), (back, answered, 20)]


def test_a_connected_receiver_goes_before_one_that_takes_all(script: Script, tmp_path: Path) -> None:
    one, other = script.running("one"), script.running("other")
    general = inet(script, UDP, SERVER)
    own, stranger = inet(script, UDP, SERVER, CLIENT), inet(script, UDP, SERVER, CLIENT + 7)
    near, third = inet(script, UDP, CLIENT, to=SERVER), inet(script, UDP, CLIENT + 1, to=SERVER)
    to_own, to_general = one.send(near, 10), one.send(third, 10)
    other.recv(stranger, 10)
    assert pairs(script, tmp_path) == []
    got, got_generally = other.recv(own, 10), other.recv(general, 10)
    assert set(pairs(script, tmp_path)) == {(to_own, got, 10), (to_general, got_generally, 10)}


@pytest.mark.parametrize("name", [b"/run/daemon.sock", b"\0abstract"])
def test_a_datagram_goes_to_the_name_it_was_sent_to(name: bytes, script: Script, tmp_path: Path) -> None:
    one, other = script.running("one"), script.running("other")
    far, elsewhere = named(script, name), named(script, name + b"2")
    # A stream socket accepted on a name has that name too, but gets no datagrams.
    named(script, name, UNIX)
    near = End(DGRAM, script.number(), name_hash(name), EventFlag.PEER_NAME)
    sent, _, got = one.send(near, 10), other.recv(elsewhere, 10), other.recv(far, 10)
    assert pairs(script, tmp_path) == [(sent, got, 10)]


def test_a_name_may_belong_to_one_socket_after_another(script: Script, tmp_path: Path) -> None:
    one, old, new = script.running("one"), script.running("old"), script.running("new")
    near = End(DGRAM, script.number(), name_hash(b"/run/log"), EventFlag.PEER_NAME)
    first = named(script, b"/run/log")
    early, early_got = one.send(near, 10), old.recv(first, 10)
    late = one.send(near, 20)  # to the new one, which has not been seen reading yet
    second = named(script, b"/run/log")
    late_got = new.recv(second, 20)
    assert pairs(script, tmp_path) == [(early, early_got, 10), (late, late_got, 20)]


def test_of_two_sockets_that_share_an_address_none_is_picked(script: Script, tmp_path: Path) -> None:
    one, other = script.running("one"), script.running("other")
    near = inet(script, UDP, CLIENT, to=SERVER)
    first, second = inet(script, UDP, SERVER), inet(script, UDP, SERVER)  # SO_REUSEPORT
    one.send(near, 10)
    other.recv(second, 10)
    one.send(near, 10)
    other.recv(first, 10)
    assert pairs(script, tmp_path) == []


def test_numbers_of_different_kinds_do_not_meet(script: Script, tmp_path: Path) -> None:
    one, other = script.running("one"), script.running("other")
    one.send(End(ChannelType.PIPE, 77, 77), 10)
    other.recv(End(ChannelType.FIFO, 77, 77), 10)
    other.recv(End(UNIX, 77, 78), 10)
    assert pairs(script, tmp_path) == []


def test_names_are_hashed_as_the_kernel_does() -> None:
    # FNV-1a of "a" and of nothing, as its authors give them.
    assert name_hash(b"a\0rest of the buffer") == 0xAF63DC4C8601EC8C
    assert name_hash(b"") == 0xCBF29CE484222325
    assert name_hash(b"\0a\0b") != name_hash(b"\0a")


def test_names_are_shown_as_people_write_them(script: Script, tmp_path: Path) -> None:
    near, far = inet(script, TCP, CLIENT, SERVER), named(script, b"\0name")
    table = SocketTable(script.trace(tmp_path).lives)
    assert table.name(near.chan) == "127.0.0.1:40000 → 127.0.0.1:80"
    assert table.name(0, far.chan) == "@name"
    assert show_name(b"/run/x\0\0") == "/run/x"
    assert table.name(12345) == ""


def _connection(script: Script, address: int, nets: tuple[int, int]) -> tuple[End, End]:
    """The two ends of a connection between ``address``:40000 and ``address``:80, in these namespaces."""
    one, other = address | 40000, address | 80
    ends = []
    for local, peer, net in ((one, other, nets[0]), (other, one, nets[1])):
        end = End(TCP, script.number(), peer, EventFlag.PEER_INET)
        script.socket(TCP, end.chan, local=local, peer2=peer, ns_net=net)
        ends.append(end)
    return ends[0], ends[1]


def test_equal_addresses_in_two_namespaces_are_two_connections(script: Script, tmp_path: Path) -> None:
    client, server = script.running("client"), script.running("server")
    other = script.running("other")
    (near, far), (near2, far2) = (_connection(script, LOOPBACK, (net, net)) for net in (7, 8))
    first, second = client.send(near, 10), other.send(near2, 20)
    assert pairs(script, tmp_path) == []
    got2, got = server.recv(far2, 20), server.recv(far, 10)
    assert sorted(pairs(script, tmp_path)) == [(first, got, 10), (second, got2, 20)]


def test_a_loopback_s_end_has_no_other_end_in_another_namespace(script: Script, tmp_path: Path) -> None:
    client, server = script.running("client"), script.running("server")
    near, far = _connection(script, LOOPBACK, (7, 8))
    client.send(near, 10)
    server.recv(far, 10)
    assert pairs(script, tmp_path) == []


def test_a_connection_may_go_from_one_namespace_to_another(script: Script, tmp_path: Path) -> None:
    client, server = script.running("client"), script.running("server")
    near, far = _connection(script, 0x0200_000A << 16, (7, 8))
    sent, got = client.send(near, 10), server.recv(far, 10)
    assert pairs(script, tmp_path) == [(sent, got, 10)]


def packed6(text: str, port: int) -> int:
    """An IPv6 address and port as alike.h packs them (tests/integration/test_record_inet6.py)."""
    w0, w1, w2, w3 = (int(word) for word in struct.unpack("<4I", socket.inet_pton(socket.AF_INET6, text)))
    golden, most = 0x9E3779B97F4A7C15, (1 << 64) - 1
    mixed = (((w0 << 32 | w1) * golden & most) ^ (w2 << 32 | w3)) * golden & most
    return 1 << 63 | mixed >> 17 << 16 | port


def test_addresses_are_shown_as_what_they_are() -> None:
    whole = socket.inet_pton(socket.AF_INET6, "fd00::1")
    assert show_inet(packed6("fd00::1", 8080), whole) == "[fd00::1]:8080"
    assert show_inet(packed6("fd00::1", 8080)) == "[IPv6]:8080"
    assert show_inet(0x0100007F << 16 | 80) == "127.0.0.1:80"
    assert is_loopback(packed6("::1", 80))
    assert not is_loopback(packed6("fd00::1", 80))


def ends6(*texts: str) -> bytes:
    """What the record of an IPv6 socket says besides: both addresses whole."""
    return b"".join(socket.inet_pton(socket.AF_INET6, text) for text in texts)


def test_two_addresses_that_are_one_number_are_two(script: Script, tmp_path: Path) -> None:
    client, other, server = (script.running(name) for name in ("client", "other", "server"))
    here, there = packed6("fd00::1", 40000), packed6("fd00::1", 80)
    made = []
    for _ in range(2):  # as if both made the same number
        near, far = (End(TCP, script.number(), peer, EventFlag.PEER_INET) for peer in (there, here))
        made.append((near, far))
    for index, ends in ((0, (here, there)), (1, (there, here))):
        for address, pair in zip(("fd00::1", "fd00::2"), made, strict=True):
            script.socket(
                TCP, pair[index].chan, ends6(address, address), local=ends[0], peer2=ends[1], ns_net=7
            )
    first, second = client.send(made[0][0], 10), other.send(made[1][0], 20)
    got2, got = server.recv(made[1][1], 20), server.recv(made[0][1], 10)
    assert sorted(pairs(script, tmp_path)) == [(first, got, 10), (second, got2, 20)]


def test_a_datagram_to_a_number_that_two_addresses_make_goes_to_nobody(
    script: Script, tmp_path: Path
) -> None:
    client, server = script.running("client"), script.running("server")
    to = packed6("fd00::1", 80)
    bound = [End(UDP, script.number(), 0, EventFlag.PEER_INET) for _ in range(2)]
    for address, end in zip(("fd00::1", "fd00::2"), bound, strict=True):
        script.socket(UDP, end.chan, ends6(address, "::"), local=to)
    client.send(inet(script, UDP, packed6("fd00::3", 4000), to=to), 10)
    server.recv(bound[0], 10)
    assert pairs(script, tmp_path) == []


def test_an_ipv6_socket_bound_to_any_address_gets_ipv4_too(script: Script, tmp_path: Path) -> None:
    client, server = script.running("client"), script.running("server")
    bound = inet(script, UDP, 1 << 63 | 80)
    expected = []
    for to in (SERVER, packed6("::1", 80)):
        sent = client.send(inet(script, UDP, CLIENT, to=to), 10)
        expected.append((sent, server.recv(bound, 10), 10))
    assert pairs(script, tmp_path) == expected


def test_ipv6_does_not_reach_a_socket_bound_to_any_address_of_ipv4(script: Script, tmp_path: Path) -> None:
    client, server = script.running("client"), script.running("server")
    bound = inet(script, UDP, ANYWHERE)
    client.send(inet(script, UDP, packed6("::1", 4000), to=packed6("::1", 80)), 10)
    server.recv(bound, 10)
    assert pairs(script, tmp_path) == []
