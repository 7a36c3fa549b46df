"""What a trace is made of: the kinds of events, and the channels they name.

An event is one fact the kernel reported; it never interprets.  The numbers are those of
``engine/bpf/probes/record.h`` and part of the trace format: add, never renumber.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag


class EventKind(IntEnum):
    """What happened.  Below 32: rows of the events table; from 32 on: facts about tasks and sockets."""

    NONE = 0
    SEND = 1
    RECV = 2
    WAIT = 3
    FUTEX_WAIT = 4
    FUTEX_WAKE = 5
    WAKE = 6
    WAIT_CHILD = 7
    CRED = 8
    SIGNAL = 9
    SIGNALLED = 10
    EXEC_CALL = 11
    CLONE = 12
    GAP = 13
    CONNECT = 14
    ACCEPT = 15
    READY = 16
    ARM = 17
    SHUT = 18
    FORKED = 32
    EXECED = 33
    EXITED = 34
    RENAMED = 35
    SOCKET = 36
    CREDS_NOW = 37
    ARGV = 38
    EXE_PATH = 39
    CWD_PATH = 40
    STACK = 48


class ChannelType(IntEnum):
    """What a file descriptor (or a futex word) stood for."""

    NONE = 0
    PIPE = 1
    FIFO = 2
    UNIX = 3
    UNIX_DGRAM = 4
    UNIX_SEQPACKET = 5
    TCP = 6
    UDP = 7
    EVENTFD = 8
    TIMERFD = 9
    SIGNALFD = 10
    PTY = 11
    FUTEX = 12
    EPOLL = 13

    @property
    def label(self) -> str:
        """The name shown to people and in JSON: ``unix-dgram``."""
        return self.name.lower().replace("_", "-")

    @property
    def is_stream(self) -> bool:
        """Bytes without message bounds, matched by their offset."""
        return self in (ChannelType.PIPE, ChannelType.FIFO, ChannelType.UNIX, ChannelType.TCP)

    @property
    def is_datagram(self) -> bool:
        """Whole messages, matched by their order."""
        return self in (ChannelType.UNIX_DGRAM, ChannelType.UNIX_SEQPACKET, ChannelType.UDP)


class EventFlag(IntFlag):
    """Bits of an event's ``flags``."""

    PEEK = 1
    FDS = 2
    PEER_SOCK = 4
    PEER_NAME = 8
    PEER_INET = 16
    PENDING = 32
    SAME_FUTEX = 64
    NONBLOCK = 128
    BLOCKED = 256


class LifeFlag(IntFlag):
    """Bits of a lifecycle record's ``flags``."""

    THREAD = 1
    GROUP_DEAD = 2
    CUT = 4
    ROOT = 8
