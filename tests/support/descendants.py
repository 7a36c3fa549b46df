"""The processes below one, and their end: what the suite started, whatever session or group it is in."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """Every process below ``pid`` that has not ended, parents first; those below a zombie too."""
    children: dict[int, list[int]] = {}
    ended: set[int] = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            # A process may go while it is looked at: ESRCH from read(2), ENOENT from open(2).
            with suppress(OSError):
                # stat(5): state and parent follow the name, which may hold anything.
                state, parent = (folder / "stat").read_bytes().rpartition(b") ")[2].split()[:2]
                children.setdefault(int(parent), []).append(int(folder.name))
                if state in b"ZX":
                    ended.add(int(folder.name))
    below = list(children.get(pid, ()))
    for one in below:  # which grows on the way
        below.extend(children.get(one, ()))
    return [one for one in below if one not in ended]


def kill(pids: list[int]) -> None:
    """SIGKILL to each that is still there and may be killed."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def told(pid: int) -> str:
    """A process in a few words."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return f"{pid} ({ascii(b' '.join(words).strip().decode(errors='replace'))[1:-1][:100]})"
    except OSError:
        return str(pid)
