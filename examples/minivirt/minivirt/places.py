"""Where a daemon lives: its socket, its locks, its guests' definitions and logs.

libvirt: ``remoteGetUNIXSocket``. The system daemon (``qemu:///system``) has one place for the machine,
a session daemon (``qemu:///session``) one place per user.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from minivirt.errors import Refused

SYSTEM, SESSION = "system", "session"
# sun_path of unix(7) has 108 bytes, the closing NUL included.
_MAX_SOCKET_PATH = 107


@dataclass(frozen=True, slots=True)
class Places:
    """The paths of one daemon. ``kind`` is SYSTEM or SESSION."""

    kind: str
    folder: Path

    @property
    def socket(self) -> Path:
        return self.folder / "minivirt-sock"

    @property
    def pid_file(self) -> Path:
        """Locked by the daemon for as long as it lives, so that there is one."""
        return self.folder / "minivirtd.pid"

    @property
    def connect_lock(self) -> Path:
        """Held while a shell connects (and perhaps starts the daemon), and while an idle daemon leaves."""
        return self.folder / "connect.lock"

    @property
    def log(self) -> Path:
        return self.folder / "minivirtd.log"

    @property
    def definitions(self) -> Path:
        return self.folder / "guests"

    @property
    def guest_logs(self) -> Path:
        return self.folder / "log"


def places(kind: str) -> Places:
    """The places of the daemon of this ``kind`` for the calling user; makes nothing."""
    chosen = os.environ.get("MINIVIRT_RUNTIME_DIR")
    if chosen:
        folder = Path(chosen).absolute() / kind
    elif kind == SYSTEM:
        folder = Path("/run/minivirt")
    elif runtime := os.environ.get("XDG_RUNTIME_DIR"):
        folder = Path(runtime).absolute() / "minivirt"
    else:
        folder = Path(f"/tmp/minivirt-{os.getuid()}")
    found = Places(kind, folder)
    if len(os.fsencode(found.socket)) > _MAX_SOCKET_PATH:
        raise Refused(f"the socket's path is too long for a unix socket: {found.socket}")
    return found


def make(found: Places) -> None:
    """Make the folder if it is not there, and refuse one that somebody else could have prepared."""
    mode = 0o755 if found.kind == SYSTEM else 0o700
    found.folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    found.folder.mkdir(mode=mode, exist_ok=True)
    facts = found.folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
        raise Refused(f"{found.folder} is not a folder of yours: remove it, or set MINIVIRT_RUNTIME_DIR")
    if stat.S_IMODE(facts.st_mode) & ~mode:
        raise Refused(f"others can get at {found.folder}: chmod {mode:o} it")
