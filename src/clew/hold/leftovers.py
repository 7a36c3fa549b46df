"""What a session leaves if it is killed together with its guardian: its notes, kept by the kernel.

The map of notes is pinned in bpffs under the session's process id; whoever finds it after that process has
ended can let everybody in it go.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from clew.engine.bpf.hold_probes import HoldProbes
from clew.engine.bpf.libbpf import library
from clew.errors import EngineError
from clew.hold.guardian import PINS, BpfMap, Parting, Wards, disarm, part_with, pin_of, switch_of
from clew.kernel import procfs, signals
from clew.kernel.bpffs import mount
from clew.model.task import TaskId

_NOTE_SIZE, _SETTINGS_SIZE = 232, 48
_WITHIN_S = 5.0
_FLAGS_AT, _PF_EXITING = 6, 4
"""proc(5): flags, counted after the name; include/linux/sched.h."""


def keep_notes(probes: HoldProbes) -> Path | None:
    """Pin the notes of this session; None where there is no bpffs and none can be mounted."""
    if not mount():
        return None
    path = Path(pin_of(os.getpid()))
    try:
        probes.pin_notes(path, Path(switch_of(str(path))))
    except EngineError:
        return None
    return path


def drop_notes(path: Path | None) -> None:
    """Take ``keep_notes`` back: nobody is held any more."""
    if path is not None:
        for name in (Path(switch_of(str(path))), path):
            with suppress(OSError):
                name.unlink()


@dataclass(frozen=True, slots=True)
class Leftover:
    """A task that a dead session has left standing, in a ``debugger`` (a process id) or (0) not."""

    task: TaskId
    comm: bytes
    debugger: int


def leftovers() -> list[Leftover]:
    """Whom sessions that are no more have left stopped."""
    return [found for path in _dead_pins() for ward in _wards(path) if (found := _standing(ward))]


def release_leftovers() -> tuple[int, int]:
    """Let them go: how many stood still, and how many still do (a debugger has them).

    The notes are kept for as long as somebody does.
    """
    stood = left = 0
    for path in _dead_pins():
        with _map(Path(switch_of(str(path))), _SETTINGS_SIZE) as switch:
            if switch is not None:
                disarm(switch)
        with _map(path, _NOTE_SIZE) as notes:
            first, remain = part_with(Wards(notes), _WITHIN_S)
        stood, left = stood + first, left + remain
        if not remain:
            drop_notes(path)
    return stood, left


def _dead_pins() -> list[Path]:
    try:
        found = [path for path in Path(PINS).parent.iterdir() if str(path).startswith(PINS)]
    except OSError:
        return []
    return [path for path in found if not _lives(path)]


def _lives(pin: Path) -> bool:
    pid = pin.name.rpartition("-")[0].rpartition("-")[2]
    if not pid.isdigit() or pin != Path(pin_of(int(pid))):
        return False
    return not _is_ending(int(pid))


def _is_ending(pid: int) -> bool:
    """Whether a process was killed: it is there until it has closed what it had and was waited for."""
    data = procfs.read(f"/proc/{pid}/stat") or b""
    fields = data.rpartition(b")")[2].split()
    if len(fields) < _FLAGS_AT + 1 or fields[0] in (b"Z", b"X"):
        return True
    pending = int(procfs.status(pid).get(b"SigPnd", b"0"), 16)
    return bool(int(fields[_FLAGS_AT]) & _PF_EXITING or pending >> (signal.SIGKILL - 1) & 1)


@contextmanager
def _map(path: Path, size: int) -> Iterator[BpfMap | None]:
    get = library().bpf_obj_get
    get.restype, get.argtypes = ctypes.c_int, [ctypes.c_char_p]
    fd = int(get(os.fsencode(path)))
    try:
        yield BpfMap(fd, 4, size) if fd >= 0 else None
    finally:
        if fd >= 0:
            os.close(fd)


def _wards(path: Path) -> list[tuple[int, int, int]]:
    with _map(path, _NOTE_SIZE) as notes:
        return Wards(notes).all()


def _standing(ward: tuple[int, int, int]) -> Leftover | None:
    try:
        parting = Parting(ward)
    except OSError:
        return None
    try:
        if not parting.stands():
            return None
    finally:
        parting.close()
    found = procfs.stat(ward[0], ward[1])
    return Leftover(TaskId(*ward), found.comm if found else b"", signals.tracer(ward[1]))
