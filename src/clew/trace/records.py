"""The records of a recording, field by field: the one description that C and numpy are given theirs from.

Both engines write these records, the ``bpf`` one in the kernel, the ``ptrace`` one from its tracer.  Sizes
are such that no compiler pads them; ``clew.engine.described`` has C check it.  The numbers in them are those
of ``clew.model.event``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Field:
    """A number of a fixed size, or ``count`` of them (``char``: bytes of a text)."""

    name: str
    type: str
    count: int = 1


SIZES = {"u8": 1, "u16": 2, "u32": 4, "s32": 4, "u64": 8, "char": 1}
REGISTERS = 21

EVENT = (
    Field("t0", "u64"),  # CLOCK_MONOTONIC ns: entered; 0 if before the recording
    Field("t", "u64"),  # returned, or happened
    Field("tid", "u32"),
    Field("pid", "u32"),
    Field("kind", "u8"),
    Field("channel", "u8"),
    Field("nr", "u16"),  # system call number; signal number for signals; of a WAKE: the woken's call
    Field("ret", "s32"),  # bytes, a count, or -errno; of READY and ARM: the events
    Field("sp", "u64"),  # user stack pointer
    # own endpoint: inode, eventfd context, futex word; of a WAKE or SIGNAL: its target (pid << 32 | tid)
    Field("chan", "u64"),
    Field("peer", "u64"),  # other endpoint, as the flags say; of a WAKE: what the woken waits at
    Field("stack", "u32"),  # the stack's number; 0: none
    Field("flags", "u16"),
    Field("count", "u16"),  # messages (sendmmsg), told READYs, epoll's operation, else the descriptor
)
"""One system call that returned, or one moment."""

LIFE = (
    Field("t", "u64"),
    Field("start", "u64"),  # start_boottime of tid
    Field("sp", "u64"),
    Field("chan", "u64"),  # SOCKET: inode
    Field("peer", "u64"),  # SOCKET: struct sock
    Field("peer2", "u64"),  # SOCKET: inode of the unix peer, or remote address and port; EXECED: when called
    Field("local", "u64"),  # SOCKET: local address and port (told again when they change); alike.h packs them
    Field("kind", "u32"),
    Field("tid", "u32"),
    Field("pid", "u32"),
    Field("other_tid", "u32"),  # FORKED: parent; EXECED: the thread that called exec
    Field("other_pid", "u32"),
    Field("stack", "u32"),
    Field("code", "s32"),  # EXITED: wait status; FORKED: the parent's system call
    Field("uid", "u32"),
    Field("gid", "u32"),
    Field("ns_mnt", "u32"),
    Field("ns_pid", "u32"),
    Field("ns_net", "u32"),  # SOCKET: the socket's own
    Field("flags", "u32"),
    Field("channel", "u16"),
    Field("blob_len", "u16"),
    Field("comm", "char", 16),
)
"""A fact about a task or a socket: this, then ``blob_len`` bytes."""

STACK = (
    Field("t", "u64"),
    Field("id", "u64"),
    Field("sp", "u64"),
    Field("kind", "u32"),
    Field("tid", "u32"),
    Field("pid", "u32"),
    Field("len", "u32"),
    Field("regs", "u64", REGISTERS),
)
"""Registers, then ``len`` bytes of the stack from sp upwards."""


def size(fields: tuple[Field, ...]) -> int:
    """Bytes of a record's fixed part."""
    return sum(SIZES[field.type] * field.count for field in fields)
