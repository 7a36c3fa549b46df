"""What a session leaves if it is killed together with its guardian: its notes, kept by the kernel.

The map of notes is pinned in bpffs under the session's process id; whoever finds it after that process has
ended can let everybody in it go.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path

from clew.engine.bpf.hold_probes import HoldProbes
from clew.engine.bpf.libbpf import library
from clew.errors import EngineError
from clew.hold.guardian import PINS, BpfMap, Wards, let_all_go, pin_of
from clew.kernel.bpffs import mount

_NOTE_SIZE = 232


def keep_notes(probes: HoldProbes) -> Path | None:
    """Pin the notes of this session; None where there is no bpffs and none can be mounted."""
    if not mount():
        return None
    path = Path(pin_of(os.getpid()))
    try:
        probes.pin_notes(path)
    except EngineError:
        return None
    return path


def drop_notes(path: Path | None) -> None:
    """Take ``keep_notes`` back: nobody is held any more."""
    if path is not None:
        with suppress(OSError):
            path.unlink()


def release_leftovers() -> int:
    """Let everybody go whom sessions that are no more have left stopped; how many that were."""
    count = 0
    try:
        pins = [path for path in Path(PINS).parent.iterdir() if str(path).startswith(PINS)]
    except OSError:
        return 0
    for path in pins:
        if not _lives(path):
            count += _let_go(path)
            drop_notes(path)
    return count


def _lives(pin: Path) -> bool:
    pid = pin.name.rpartition("-")[0].rpartition("-")[2]
    return pid.isdigit() and pin == Path(pin_of(int(pid)))


def _let_go(path: Path) -> int:
    get = library().bpf_obj_get
    get.restype, get.argtypes = ctypes.c_int, [ctypes.c_char_p]
    fd = int(get(os.fsencode(path)))
    if fd < 0:
        return 0
    try:
        return let_all_go(Wards(BpfMap(fd, 4, _NOTE_SIZE)))
    finally:
        os.close(fd)
