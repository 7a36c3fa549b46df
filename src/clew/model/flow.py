"""What following yields: a flow of hops and activations from one root.  The views show nothing else."""

from __future__ import annotations

import builtins
from dataclasses import dataclass, field
from enum import StrEnum

from clew.model.frame import Backtrace
from clew.model.task import Party


class HopKind(StrEnum):
    """What carried the cause from one task to the next."""

    CONNECT = "connect"
    MESSAGE = "message"
    SPAWN = "spawn"
    EXEC = "exec"
    WAKE = "wake"
    SIGNAL = "signal"
    EXIT = "exit"


class Tier(StrEnum):
    """What says that a hop was made for the work it is said to have been made for.

    OBSERVED: what its task took in last, and did since.  CONTINUED: whose descriptor, child or answer it was,
    or what came of it.  AMBIGUOUS: it may as well have been made for other work.  That the hop was made at
    all the kernel reported in any case.  ``Hop.reason`` says more of the latter two.
    """

    OBSERVED = "observed"
    CONTINUED = "continued"
    AMBIGUOUS = "ambiguous"


@dataclass(frozen=True, slots=True)
class ChannelRef:
    """What bytes or wake-ups travelled by.

    ``type`` is one of unix, unix-dgram, unix-seqpacket, pipe, fifo, tcp, udp, eventfd, signalfd, timerfd,
    pty, futex, queue (in memory); ``id`` is stable within the trace (an inode number, an address); ``name``
    is what a person knows it by (a socket's path, ``127.0.0.1:80``), "" if it has none.  ``name`` may hold
    hostile bytes: escape it.
    """

    type: str
    id: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Whose rights a program began with, and the calls (setresuid, capset, …) by which its task got there
    since it was born or last exec'd, in order."""

    uid: int
    gid: int
    calls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Hop:
    """An edge that leaves a task.

    ``n`` counts from 1 along the whole flow, in time, and is the same number in every view.
    Times are nanoseconds since the root began: ``t_ns`` when it left (what views print), ``arrived_ns``
    when the other end had it.  ``source_activation`` and ``target_activation`` are ``Activation.id``.
    ``argv``, ``exe`` and ``credentials`` are set on exec hops.  ``alternatives`` are the numbers of hops that
    began other work for which an ambiguous hop may have been made, as far as they are in the flow.
    ``signal`` is a signal hop's number, else 0; ``exit_status`` is what an exit hop's task left, negative for
    death by that signal, None on other hops.
    """

    n: int
    kind: HopKind
    tier: Tier
    source: Party
    target: Party
    source_activation: int
    target_activation: int
    t_ns: int
    arrived_ns: int
    channel: ChannelRef | None = None
    bytes: int | None = None
    syscall_from: str = ""
    syscall_to: str = ""
    stack_from: Backtrace = ()
    stack_to: Backtrace = ()
    exe: builtins.bytes = b""  # the field ``bytes`` hides the type here
    argv: tuple[builtins.bytes, ...] = ()
    argv_truncated: bool = False
    credentials: Credentials | None = None
    on_path: bool = False
    reply: bool = False
    passed_fds: int = 0
    near_gap: bool = False
    reason: str = ""
    alternatives: tuple[int, ...] = ()
    signal: int = 0
    exit_status: int | None = None


@dataclass(frozen=True, slots=True)
class Activation:
    """A stretch of one task's work between two waits for new work.

    ``start_ns``/``end_ns`` are nanoseconds since the root began.  ``label`` names what it ran (a
    function that says something, or the program).  ``triggers`` are the numbers of the hops that began
    it: more than one when several causes were taken in at once, none for the root.
    """

    id: int
    task: Party
    start_ns: int
    end_ns: int
    label: str
    triggers: tuple[int, ...] = ()
    on_path: bool = False


@dataclass(frozen=True, slots=True)
class Reached:
    """A target that the flow came to: an event that ``--until`` named, or an exec without it.

    ``event`` is exec, fork, exit, signal or syscall, ``what`` the signal's or call's name, else "".  ``hop``
    is the hop that it is, 0 if it is none (a system call, an end): the path leads to where it happened.
    """

    event: str
    task: Party
    exe: bytes
    argv: tuple[bytes, ...]
    argv_truncated: bool
    hop: int
    t_ns: int
    what: str = ""


@dataclass(frozen=True, slots=True)
class Extent:
    """How large a flow is, where not all of it is listed."""

    hops: int
    tasks: int
    replies: int


@dataclass(frozen=True, slots=True)
class Flow:
    """Everything reachable from the root, and the path in it that leads to the target.

    ``path`` holds hop numbers in order; empty if no ``--until`` was given or it was not reached (then
    ``until`` and ``reached`` tell which).  ``recorded`` and ``lost`` count events per kind; ``lost``
    has an entry for each kind of which any was lost.  ``notes`` are sentences every view must show
    (a gap near the path, a backtrace that could not be taken).  ``exit_status`` is the root's, negative
    for death by that signal.  ``total`` counts the whole flow where ``hops`` are the path's alone.
    ``origin`` is what ``--from`` named, "" if the root is the recording's own.
    """

    root: Party
    root_argv: tuple[bytes, ...]
    hops: tuple[Hop, ...]
    activations: tuple[Activation, ...]
    path: tuple[int, ...] = ()
    reached: tuple[Reached, ...] = ()
    until: str = ""
    recorded: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    duration_ns: int = 0
    exit_status: int | None = None
    notes: tuple[str, ...] = ()
    total: Extent | None = None
    origin: str = ""
