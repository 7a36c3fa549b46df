"""The words every view uses for tasks, channels, times and outcomes.

All of it is ``visible`` (printable, nothing hidden); a view adds the escaping of its own syntax.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from clew.model.flow import ChannelRef, Flow, Hop, HopKind, Tier
from clew.model.frame import Frame
from clew.model.rules import signal_name, text_for_hop
from clew.model.task import Party, TaskId
from clew.view.escape import command, shell, visible

_COMM = 15  # TASK_COMM_LEN less its NUL: what the kernel keeps of a name (proc_pid_comm(5))

_CHANNELS = {
    "unix": "unix socket",
    "unix-dgram": "unix datagram socket",
    "unix-seqpacket": "unix seqpacket socket",
    "fifo": "FIFO",
    "tcp": "TCP",
    "udp": "UDP",
}


def program(exe: bytes) -> str:
    """The last part of a program's path."""
    return visible(exe.rsplit(b"/", 1)[-1])


def who(party: Party) -> str:
    """Process and thread by name: ``virsh``, ``libvirtd/rpc-worker``."""
    exe, comm = party.exe.rsplit(b"/", 1)[-1], party.comm
    if not exe or exe[:_COMM] == comm:
        return visible(exe or comm) or "?"
    return visible(exe) + "/" + visible(comm) if comm else visible(exe)


def ids(party: Party) -> str:
    """``812`` for a process's first thread, ``812/815`` (process/thread) for another."""
    return str(party.pid) if party.pid == party.tid else f"{party.pid}/{party.tid}"


def channel(ref: ChannelRef) -> str:
    """``unix socket``, ``pipe``, ``TCP``, …"""
    return _CHANNELS.get(ref.type) or visible(ref.type)


def how(hop: Hop) -> str:
    """By what the hop was made, without the channel's name: ``unix socket``, ``futex wake``, ``fork``."""
    if hop.kind is HopKind.MESSAGE:
        return channel(hop.channel) if hop.channel else "message"
    if hop.kind is HopKind.CONNECT:
        return f"{channel(hop.channel)} connection" if hop.channel else "connection"
    if hop.kind is HopKind.WAKE:
        slept = f" from {visible(hop.syscall_to)}" if hop.syscall_to else ""
        return f"{channel(hop.channel)} wake" if hop.channel else f"wake-up{slept}"
    if hop.kind is HopKind.SPAWN:
        if hop.source.pid == hop.target.pid:
            return "new thread"
        return "vfork" if hop.syscall_from == "vfork" else "fork"
    if hop.kind is HopKind.SIGNAL and hop.signal:
        return signal_name(hop.signal)
    if hop.exit_status is not None:
        return end(hop.exit_status)
    return hop.kind.value


def end(status: int) -> str:
    """How a task ended: ``exit status 3``; negative: killed by that signal (as subprocess has it)."""
    return f"exit status {status}" if status >= 0 else f"killed by {signal_name(-status)}"


def amount(hop: Hop) -> str:
    """What it carried: ``56 bytes, 2 file descriptors``; "" if nothing is known."""
    carried = hop.bytes is not None and hop.kind is not HopKind.CONNECT
    parts = [count(hop.bytes or 0, "byte")] if carried else []
    return ", ".join(parts + ([count(hop.passed_fds, "file descriptor")] if hop.passed_fds else []))


def by_what(hop: Hop) -> str:
    """``unix socket /run/libvirt/libvirt-sock, 56 bytes``: all but an exec's arguments."""
    named = how(hop)
    if hop.channel and hop.channel.name:
        named += " " + visible(hop.channel.name)
    return ", ".join(filter(None, (named, amount(hop))))


def caveats(hop: Hop) -> list[str]:
    """What a reader must know before believing the hop."""
    said = []
    if hop.tier is not Tier.OBSERVED:
        others = f" (or that of hop {', '.join(map(str, hop.alternatives))})" if hop.alternatives else ""
        said.append(f"{hop.tier}: {visible(hop.reason) or 'no reason given'}{others}")
    elif hop.reason:
        said.append(visible(hop.reason))
    return said + (["events were lost near here"] if hop.near_gap else [])


def arguments(hop_argv: tuple[bytes, ...], truncated: bool) -> str:
    """An exec's arguments after the program's name, to paste; "…" where the recording cut them."""
    return command(hop_argv[1:]) + (" …" if truncated else "")


def milliseconds(ns: int) -> str:
    """``20.512``, exact to the microsecond."""
    return f"{ns / 1e6:.3f}"


def place(frame: Frame) -> str:
    """A frame in as few words as name it: ``virFork``, ``libvirt.so.0+0xb1c2d``."""
    if frame.function:
        return visible(frame.function)
    return f"{program(frame.module) or '[anonymous]'}+{frame.offset:#x}"


def source_line(frame: Frame) -> str:
    """``vircommand.c:252``, or "" without debug information."""
    return f"{visible(frame.file.rsplit('/', 1)[-1])}:{frame.line}" if frame.file else ""


def full(frame: Frame) -> str:
    """A frame with all that is known: ``virFork at src/util/vircommand.c:252 (libvirt.so.0+0xb1c2d)``."""
    module = f"{visible(frame.module) or '[anonymous]'}+{frame.offset:#x}"
    at = f" at {visible(frame.file)}:{frame.line}" if frame.file else ""
    inlined = " [inlined]" if frame.inlined else ""
    return f"{visible(frame.function)}{inlined}{at} ({module})" if frame.function else module + at


def count(number: int, noun: str) -> str:
    """``1 byte``, ``2,016 bytes``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def listing(counts: Mapping[str, int]) -> str:
    """``read 12, futex 3``, most first."""
    return ", ".join(f"{visible(k)} {n:,}" for k, n in sorted(counts.items(), key=lambda kv: (-kv[1], kv[0])))


def losses(flow: Flow) -> str:
    """How many events there were and which were lost; never empty."""
    recorded, lost = sum(flow.recorded.values()), {k: n for k, n in flow.lost.items() if n}
    said = f"{count(recorded, 'event')} recorded, "
    return said + (f"{sum(lost.values()):,} LOST: {listing(lost)}" if lost else "none lost")


def any_lost(flow: Flow) -> bool:
    """Whether the recording has a hole."""
    return any(flow.lost.values())


def title(flow: Flow) -> str:
    """The command that was followed, to paste."""
    return command(flow.root_argv) or who(flow.root)


def outcome(flow: Flow) -> str:
    """One sentence: whether the target was reached, or how far the flow went; from where, if chosen."""
    return (f"from {visible(flow.origin)}: " if flow.origin else "") + _outcome(flow)


def _outcome(flow: Flow) -> str:
    if flow.path:
        last = max(h.arrived_ns for h in hops_of(flow, flow.path))
        when = flow.reached[-1].t_ns if flow.reached else last
        target = visible(flow.until) or "the target"
        return f"{target} reached in {count(len(flow.path), 'hop')}, {milliseconds(when)} ms"
    if flow.until and flow.reached:
        return f"{visible(flow.until)} reached by {who(flow.root)} itself"
    if flow.until:
        return f"{visible(flow.until)} was NOT reached; the flow is what there was"
    return f"{count(len(flow.hops), 'hop')} between {count(len(tasks(flow.hops)), 'task')}"


def ended(flow: Flow) -> str:
    """How the root ended; a negative status is the signal that killed it (as subprocess has it).

    "" for a connection, which is no process.
    """
    status = flow.exit_status
    if flow.origin.startswith(("connect:", "request:")):
        return ""
    if status is None:
        return "not seen to end"
    if status >= 0:
        return f"{who(flow.root)} exited with status {status}"
    return f"{who(flow.root)} was {end(status)}"


def hops_of(flow: Flow, numbers: Iterable[int]) -> list[Hop]:
    """The hops with these numbers, in that order; numbers that are not in the flow are passed over."""
    by_number = {hop.n: hop for hop in flow.hops}
    return [by_number[n] for n in numbers if n in by_number]


def tasks(hops: Iterable[Hop]) -> set[TaskId]:
    """The identities that take part."""
    return {party.id for hop in hops for party in (hop.source, hop.target)}


def hold_command(trace: str, hop: Hop, origin: str = "") -> str:
    """What stops there on the next run.  ``hop:`` counts along the flow of the recording's own root."""
    return f"clew hold {shell(text_for_hop(hop) if origin else f'hop:{trace}#{hop.n}')}"


def show_command(trace: str, *options: str) -> str:
    """``clew show TRACE …``; a name that begins with a dash cannot be taken for an option."""
    return command(["clew", "show", "./" + trace if trace.startswith("-") else trace, *options])


def rights(hop: Hop) -> str:
    """Whose rights a program began with, if its task changed them first: ``(as uid 107, after capset)``."""
    got = hop.credentials
    if got is None or not got.calls:
        return ""
    return f"(as uid {got.uid}, gid {got.gid}, after {', '.join(map(visible, got.calls))})"
