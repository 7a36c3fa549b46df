"""The guardian: a process in a session of its own that lets all go when the holder dies.

It is run as a program (``python guardian.py PID FD FD FD``), imports nothing of clew and little of Python.
It knows who is held from two sides: the kernel's own notes (a BPF map it was given), which are there before
a task stops, and what the holding process tells it.  It learns of a death, by whatever cause, from a pidfd.
"""

import contextlib
import ctypes
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator

_BPF_LOOKUP, _BPF_UPDATE, _BPF_NEXT_KEY = 1, 2, 4
_SYS_BPF = {"x86_64": 321, "aarch64": 280}
_NOTE_SIZE, _SETTINGS_SIZE = 232, 48
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_QUIET_ROUNDS = 3
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.01, 0.25
_TOLD = struct.Struct("=cIIQ")
PINS = "/sys/fs/bpf/clew-hold-"
"""How the name begins under which the kernel keeps a session's notes, should the guardian be killed too."""
SWITCHES = "/sys/fs/bpf/clew-armed-"
"""The same for its switch: its probes may hold somebody as long as the kernel has not taken them all away."""
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGTSTP)


class BpfMap:
    """A BPF map by its descriptor, through bpf(2) itself: no library, nothing to load."""

    def __init__(self, fd: int, key_size: int, value_size: int) -> None:
        self._fd = fd
        self._key = ctypes.create_string_buffer(key_size)
        self._next = ctypes.create_string_buffer(key_size)
        self._value = ctypes.create_string_buffer(value_size)
        self._syscall = ctypes.CDLL(None, use_errno=True).syscall
        self._number = _SYS_BPF[os.uname().machine]

    def _call(self, command: int, key: int, value: int, flags: int = 0) -> bool:
        attributes = struct.pack("=IIQQQ", self._fd, 0, key, value, flags)
        return bool(self._syscall(self._number, command, attributes, len(attributes)) == 0)

    def get(self, key: bytes) -> bytes | None:
        """The value under ``key``."""
        self._key.raw = key
        found = self._call(_BPF_LOOKUP, ctypes.addressof(self._key), ctypes.addressof(self._value))
        return self._value.raw if found else None

    def set(self, key: bytes, value: bytes) -> None:
        """Write one entry."""
        self._key.raw, self._value.raw = key, value
        self._call(_BPF_UPDATE, ctypes.addressof(self._key), ctypes.addressof(self._value))

    def keys(self) -> Iterator[bytes]:
        """All keys."""
        at = 0
        while self._call(_BPF_NEXT_KEY, at, ctypes.addressof(self._next)):
            yield self._next.raw
            self._key.raw = self._next.raw
            at = ctypes.addressof(self._key)


class Wards:
    """Who is held: (process id, thread id, start of the thread in ns) by thread id."""

    def __init__(self, notes: BpfMap | None) -> None:
        self._notes = notes
        self._told: dict[int, tuple[int, int, int]] = {}

    def hear(self, message: bytes) -> None:
        """Take in what the holding process says: ``+`` a hold, ``-`` its end."""
        sign, pid, tid, start = _TOLD.unpack(message)
        if sign == b"+":
            self.add((pid, tid, start))
        else:
            self._told.pop(tid, None)

    def add(self, ward: tuple[int, int, int]) -> None:
        """Somebody more."""
        self._told[ward[1]] = ward

    def all(self) -> list[tuple[int, int, int]]:
        """Everybody known from either side."""
        found = dict(self._told)
        for key in list(self._notes.keys()) if self._notes else []:
            note = self._notes.get(key) if self._notes else None
            if note:
                start, _group, _t, pid, tid = struct.unpack_from("=QQQII", note)
                found[tid] = (pid, tid, start)
        return list(found.values())


def read_stat(pid: int, tid: int) -> tuple[str, int] | None:
    """State letter and start in ns of a task; None if it is gone."""
    try:
        with open(f"/proc/{pid}/task/{tid}/stat", "rb") as file:  # noqa: PTH123 (pathlib takes 20 ms to import)
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return fields[0].decode(), int(fields[19]) * _TICK_NS


def read_signals(pid: int, tid: int) -> tuple[int, bool]:
    """Who traces a task (a process id, 0: nobody), and whether a SIGSTOP is still to reach it."""
    try:
        with open(f"/proc/{pid}/task/{tid}/status", "rb") as file:  # noqa: PTH123
            fields = dict(line.split(b":", 1) for line in file.read().splitlines() if b":" in line)
    except OSError:
        return 0, False
    pending = int(fields.get(b"SigPnd", b"0"), 16) | int(fields.get(b"ShdPnd", b"0"), 16)
    return int(fields.get(b"TracerPid", b"0")), bool(pending >> (signal.SIGSTOP - 1) & 1)


def pin_of(pid: int) -> str:
    """Where the notes of the session that process ``pid`` runs are pinned."""
    found = read_stat(pid, pid)
    return f"{PINS}{pid}-{found[1] if found else 0}"


def switch_of(pin: str) -> str:
    """Where the switch of the session is pinned whose notes are at ``pin``."""
    return SWITCHES + pin.removeprefix(PINS)


class Parting:
    """A task that was let go, until it is sure to run: SIGCONT again and again, in whatever state it is.

    A SIGCONT before the SIGSTOP does nothing, and a task in an uninterruptible wait stops when that is over.
    A debugger's task is waited for: when the debugger leaves, it falls back into its stop (ptrace(2)).
    Raises OSError if its process is gone.
    """

    def __init__(self, ward: tuple[int, int, int]) -> None:
        self.ward = ward
        self.traced = False
        self._quiet = 0
        self._pidfd = os.pidfd_open(ward[0])

    def stands(self) -> bool:
        """Whether this very task stands still, or is about to."""
        return self._look() in ("T", "t", "pending")

    def step(self) -> bool:
        """Do what is to be done now; True once the task runs, or is gone."""
        found = self._look()
        self.traced = found == "t"
        if found in ("T", "D", "pending"):
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGCONT)
        # In an uninterruptible wait a SIGCONT undoes a stop that is under way as well (prepare_signal(),
        # kernel/signal.c).  The kernel may have been stopping somebody just now: look more than once.
        self._quiet = 0 if found in ("T", "t", "pending") else self._quiet + 1
        return not found or self._quiet >= _QUIET_ROUNDS

    def _look(self) -> str:
        pid, tid, start = self.ward
        found = read_stat(pid, tid)
        if found is None or found[0] in "ZX" or abs(found[1] - start) > _TICK_NS:
            return ""
        tracer, pending = read_signals(pid, tid)
        if tracer:
            return "t"
        return "pending" if pending and found[0] not in "TD" else found[0]

    def close(self) -> None:
        """Have done with it."""
        os.close(self._pidfd)


def part_with(wards: Wards, seconds: float = float("inf")) -> tuple[int, int]:
    """Let everybody go, until all run or ``seconds`` are over; how many stood at first, and do at the end."""
    until = time.monotonic() + seconds
    partings: dict[tuple[int, int, int], Parting] = {}
    over: set[tuple[int, int, int]] = set()
    first, pause = 0, _FIRST_PAUSE_S
    while True:
        for ward in wards.all():
            if ward not in partings and ward not in over:
                try:
                    partings[ward] = Parting(ward)
                    first += partings[ward].stands()
                except OSError:
                    over.add(ward)
        for ward in [ward for ward, parting in partings.items() if parting.step()]:
            partings.pop(ward).close()
            over.add(ward)
        if not partings or time.monotonic() >= until:
            left = sum(parting.stands() for parting in partings.values())
            for parting in partings.values():
                parting.close()
            return first, left
        time.sleep(pause)
        pause = min(pause * 1.2, _LONGEST_PAUSE_S)


def disarm(settings: BpfMap) -> None:
    """Make the probes hold nobody, even while they are still attached."""
    settings.set(bytes(4), bytes(_SETTINGS_SIZE))


def watch(keeper: int, told: socket.socket, wards: Wards) -> bool:
    """Listen until the ``keeper`` (a pidfd) has ended, or leaves the rest to us.

    True if it said good-bye: nothing is held then.
    """
    poll = select.poll()
    poll.register(keeper, select.POLLIN)
    poll.register(told, select.POLLIN)
    while True:
        ready = [fd for fd, _events in poll.poll()]
        message = told.recv(64) if told.fileno() in ready else None
        if message == b"bye":
            return True
        if message == b"rest":
            return False
        if message and len(message) == _TOLD.size:
            wards.hear(message)
        elif keeper in ready:
            return False
        elif message == b"":
            poll.unregister(told)  # A keeper that closes it without good-bye is about to end.


def main(arguments: list[str]) -> int:
    """Watch over PID: FD is the socket it talks through, then the maps of notes and of the switch, or -1."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    keeper, socket_fd, notes_fd, settings_fd = map(int, arguments)
    pidfd = os.pidfd_open(keeper)
    if os.getppid() != keeper:
        return 1  # It ended before it held anybody: it waits for our "ready" first.
    pin = pin_of(keeper)
    told = socket.socket(fileno=socket_fd)
    wards = Wards(BpfMap(notes_fd, 4, _NOTE_SIZE) if notes_fd >= 0 else None)
    told.send(b"ready")
    if not watch(pidfd, told, wards):
        if settings_fd >= 0:
            disarm(BpfMap(settings_fd, 4, _SETTINGS_SIZE))
        part_with(wards)
        for name in (switch_of(pin), pin):
            with contextlib.suppress(OSError):
                os.unlink(name)  # noqa: PTH108 (pathlib takes 20 ms to import)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
