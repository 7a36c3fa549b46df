"""Which send each receive answers to, on recordings written by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from clew.flow.match import match
from clew.flow.sockets import SocketTable
from clew.model.event import ChannelType, EventFlag
from tests.support.script import EAGAIN, End, Script

Pair = tuple[int, int, int]


def pairs(script: Script, folder: Path) -> list[Pair]:
    """(send, receive, bytes) in the order of the receives; sends and receives by their id in the script."""
    trace, ids = script.trace(folder), script.ids()
    found = match(trace.events, SocketTable(trace.lives))
    columns = (found.send.tolist(), found.recv.tolist(), found.size.tolist())
    return [(ids[send], ids[recv], size) for send, recv, size in zip(*columns, strict=True)]


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.mark.parametrize("channel", [ChannelType.PIPE, ChannelType.FIFO])
def test_bytes_of_a_pipe_are_matched_by_offset(channel: ChannelType, script: Script, tmp_path: Path) -> None:
    writer, reader, pipe = script.running("writer"), script.running("reader"), script.pipe(channel)
    ten, twenty = writer.send(pipe, 10), writer.send(pipe, 20)
    five, rest = reader.recv(pipe, 5), reader.recv(pipe, 25)
    assert pairs(script, tmp_path) == [(ten, five, 5), (ten, rest, 5), (twenty, rest, 20)]


@pytest.mark.parametrize("channel", [ChannelType.UNIX, ChannelType.TCP])
def test_both_directions_of_a_socket_are_apart(channel: ChannelType, script: Script, tmp_path: Path) -> None:
    one, other, (near, far) = script.running("one"), script.running("other"), script.socketpair(channel)
    there, back = one.send(near, 10), other.send(far, 10)
    got, answered = other.recv(far, 10), one.recv(near, 10)
    assert pairs(script, tmp_path) == [(there, got, 10), (back, answered, 10)]


def test_a_peek_takes_nothing(script: Script, tmp_path: Path) -> None:
    one, other, (near, far) = script.running("one"), script.running("other"), script.socketpair()
    sent = one.send(near, 10)
    other.recv(far, 10, call="recvfrom", flags=EventFlag.PEEK)
    taken = other.recv(far, 10)
    assert pairs(script, tmp_path) == [(sent, taken, 10)]


def test_what_failed_moved_nothing(script: Script, tmp_path: Path) -> None:
    writer, reader, pipe = script.running("writer"), script.running("reader"), script.pipe()
    writer.send(pipe, EAGAIN)
    reader.recv(pipe, EAGAIN)
    sent, got = writer.send(pipe, 10), reader.recv(pipe, 10)
    reader.recv(pipe, 0)
    assert pairs(script, tmp_path) == [(sent, got, 10)]


def test_several_senders_and_receivers_share_a_pipe(script: Script, tmp_path: Path) -> None:
    tasks = [script.running(f"t{i}") for i in range(4)]
    pipe = script.pipe()
    sent = [tasks[i % 2].send(pipe, 10 + i) for i in range(4)]
    got = [tasks[2 + i % 2].recv(pipe, 10 + i) for i in range(4)]
    assert pairs(script, tmp_path) == [(sent[i], got[i], 10 + i) for i in range(4)]


def test_bytes_may_be_read_before_the_send_returns(script: Script, tmp_path: Path) -> None:
    writer, reader, pipe = script.running("writer"), script.running("reader"), script.pipe()
    began = script.now
    got = [reader.recv(pipe, 60_000), reader.recv(pipe, 40_000)]
    sent = writer.send(pipe, 100_000, began=began)
    assert pairs(script, tmp_path) == [(sent, got[0], 60_000), (sent, got[1], 40_000)]


def test_a_send_from_before_the_recording_counts_from_its_return(script: Script, tmp_path: Path) -> None:
    writer, reader, pipe = script.running("writer"), script.running("reader"), script.pipe()
    sent = writer.send(pipe, 10, began=0)
    got = reader.recv(pipe, 10)
    assert pairs(script, tmp_path) == [(sent, got, 10)]


def test_bytes_from_before_the_recording_have_no_sender(script: Script, tmp_path: Path) -> None:
    writer, reader, pipe = script.running("writer"), script.running("reader"), script.pipe()
    reader.recv(pipe, 7)
    sent, got = writer.send(pipe, 10), reader.recv(pipe, 10)
    assert pairs(script, tmp_path) == [(sent, got, 10)]


def test_a_receive_takes_old_bytes_first(script: Script, tmp_path: Path) -> None:
    writer, reader, pipe = script.running("writer"), script.running("reader"), script.pipe()
    sent, both = writer.send(pipe, 10), reader.recv(pipe, 15)
    again, got = writer.send(pipe, 20), reader.recv(pipe, 20)
    assert pairs(script, tmp_path) == [(sent, both, 10), (again, got, 20)]


def test_other_channels_do_not_suffer_from_a_doubtful_one(script: Script, tmp_path: Path) -> None:
    writer, reader, odd, plain = script.running("w"), script.running("r"), script.pipe(), script.pipe()
    reader.recv(odd, 7)
    mixed = [(writer.send(odd, 5), writer.send(plain, 6)) for _ in range(2)]
    got = [(reader.recv(odd, 5), reader.recv(plain, 6)) for _ in range(2)]
    expected = [pair for (a, b), (c, d) in zip(mixed, got, strict=True) for pair in ((a, c, 5), (b, d, 6))]
    assert pairs(script, tmp_path) == expected


def test_a_lost_send_costs_only_its_own_receive(script: Script, tmp_path: Path) -> None:
    writer, reader, pipe = script.running("writer"), script.running("reader"), script.pipe()
    calls = [(writer.send(pipe, 10), reader.recv(pipe, 10)) for _ in range(5)]
    script.forget(calls[2][0])
    script.gap()
    assert pairs(script, tmp_path) == [(*call, 10) for i, call in enumerate(calls) if i != 2]


@pytest.mark.parametrize("channel", [ChannelType.UNIX_DGRAM, ChannelType.UNIX_SEQPACKET, ChannelType.UDP])
def test_datagrams_are_matched_by_order(channel: ChannelType, script: Script, tmp_path: Path) -> None:
    one, other, (near, far) = script.running("one"), script.running("other"), script.socketpair(channel)
    sent = [one.send(near, size) for size in (100, 0, 30)]
    got = [other.recv(far, size) for size in (100, 0, 10)]  # the last one is cut short
    assert pairs(script, tmp_path) == [
        (a, b, size) for a, b, size in zip(sent, got, (100, 0, 10), strict=True)
    ]


def test_the_end_of_a_seqpacket_socket_is_no_message(script: Script, tmp_path: Path) -> None:
    channel = ChannelType.UNIX_SEQPACKET
    one, other, (near, far) = script.running("one"), script.running("other"), script.socketpair(channel)
    sent, got = one.send(near, 10), other.recv(far, 10)
    other.recv(far, 0)
    assert pairs(script, tmp_path) == [(sent, got, 10)]


def test_many_messages_in_one_call(script: Script, tmp_path: Path) -> None:
    channel = ChannelType.UNIX_DGRAM
    one, other, (near, far) = script.running("one"), script.running("other"), script.socketpair(channel)
    three = one.send(near, 30, call="sendmmsg", count=3)
    single = one.send(near, 7)
    first = other.recv(far, 10)
    rest = other.recv(far, 27, call="recvmmsg", count=3)
    # Of part of a call's messages only their number is known.
    assert pairs(script, tmp_path) == [(three, first, 10), (three, rest, 0), (single, rest, 7)]


@pytest.mark.parametrize("channel", [ChannelType.PTY])
def test_a_terminal_read_takes_what_was_written_before_it(
    channel: ChannelType, script: Script, tmp_path: Path
) -> None:
    shell, user, (slave, master) = script.running("shell"), script.running("user"), script.socketpair(channel)
    first, second = shell.send(slave, 5), shell.send(slave, 6)
    got = user.recv(master, 13)  # newlines became two bytes each
    typed, line = user.send(master, 3), shell.recv(slave, 3)
    assert pairs(script, tmp_path) == [(first, got, 5), (second, got, 6), (typed, line, 3)]


def eventfd(script: Script) -> End:
    return script.pipe(ChannelType.EVENTFD)


def test_a_counter_is_emptied_by_each_read(script: Script, tmp_path: Path) -> None:
    one, other, counter = script.running("one"), script.running("other"), eventfd(script)
    sent = [one.send(counter, 8), one.send(counter, 8)]
    both = other.recv(counter, 8)
    last = one.send(counter, 8)
    got = other.recv(counter, 8)
    assert pairs(script, tmp_path) == [(sent[0], both, 8), (sent[1], both, 8), (last, got, 8)]


def test_a_semaphore_gives_each_reader_a_write(script: Script, tmp_path: Path) -> None:
    one, readers, counter = (
        script.running("one"),
        [script.running(f"r{i}") for i in range(3)],
        eventfd(script),
    )
    sent = [one.send(counter, 8) for _ in range(3)]
    got = [reader.recv(counter, 8) for reader in readers]
    assert pairs(script, tmp_path) == [(a, b, 8) for a, b in zip(sent, got, strict=True)]


def test_a_counter_that_the_kernel_adds_to_is_no_semaphore(script: Script, tmp_path: Path) -> None:
    one, reader, counter = script.running("one"), script.running("reader"), eventfd(script)
    sent = [one.send(counter, 8), one.send(counter, 8)]
    got = [reader.recv(counter, 8) for _ in range(3)]
    assert pairs(script, tmp_path) == [(sent[0], got[0], 8), (sent[1], got[0], 8)]


def test_tokens_left_in_a_semaphore_go_in_order(script: Script, tmp_path: Path) -> None:
    one, reader, counter = script.running("one"), script.running("reader"), eventfd(script)
    sent = [one.send(counter, 8) for _ in range(3)]
    got = [reader.recv(counter, 8), reader.recv(counter, 8)]
    assert pairs(script, tmp_path) == [(sent[0], got[0], 8), (sent[1], got[1], 8)]


def test_a_job_is_what_was_last_put_in_under_its_number(script: Script, tmp_path: Path) -> None:
    putter, taker = script.running("putter"), script.running("taker")
    job, other = (End(ChannelType.QUEUE, number, number) for number in (0x5000, 0x6000))
    putter.send(job, 0)  # what took it out was not seen
    second = putter.send(job, 0)
    others = putter.send(other, 0)
    took = taker.recv(job, 0)
    taker.recv(job, 0)  # nothing is left of that number
    took_other = taker.recv(other, 0)
    third = putter.send(job, 0)
    took_again = taker.recv(job, 0)
    assert pairs(script, tmp_path) == [(second, took, 0), (others, took_other, 0), (third, took_again, 0)]
