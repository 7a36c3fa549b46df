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
from clew.hold.guardian import BpfMap, Wards, let_all_go
from clew.kernel import procfs

_BPFFS = Path("/sys/fs/bpf")
_PREFIX = "clew-hold-"
_NOTE_SIZE = 232


def keep_notes(probes: HoldProbes) -> Path | None:
    """Pin the notes of this session; None where there can be no bpffs."""
    mount_bpffs()
    found = procfs.stat(os.getpid())
    path = _BPFFS / f"{_PREFIX}{os.getpid()}-{found.start_ns if found else 0}"
    try:
        probes.pin_notes(path)
    except EngineError:
        return None
    return path


def mount_bpffs() -> None:
    """Have a bpffs where everybody looks for it, as bpftool does; systemd mounts it at boot."""
    if _BPFFS.is_dir() and not _BPFFS.is_mount():
        ctypes.CDLL(None).mount(b"bpf", os.fsencode(_BPFFS), b"bpf", 0, b"mode=0700")


def drop_notes(path: Path | None) -> None:
    """Take ``keep_notes`` back: nobody is held any more."""
    if path is not None:
        with suppress(OSError):
            path.unlink()


def release_leftovers() -> int:
    """Let everybody go whom sessions that are no more have left stopped; how many that were."""
    count = 0
    try:
        pins = [path for path in _BPFFS.iterdir() if path.name.startswith(_PREFIX)]
    except OSError:
        return 0
    for path in pins:
        if not _lives(path.name):
            count += _let_go(path)
            drop_notes(path)
    return count


def _lives(name: str) -> bool:
    pid, _, start = name.removeprefix(_PREFIX).partition("-")
    found = procfs.stat(int(pid)) if pid.isdigit() else None
    return found is not None and str(found.start_ns) == start


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
