"""The folder for sockets and notes of what runs now: of this user alone, gone after a reboot."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from clew.errors import PermissionMissing


def runtime_dir() -> Path:
    """The folder, made with mode 0700 if need be.

    ``CLEW_RUNTIME_DIR`` names another one; else ``clew`` in XDG_RUNTIME_DIR, /run (root) or /tmp.  Raises
    PermissionMissing if it cannot be made, or is open to others: whoever may write there could have tasks
    let go, or have us talk to a socket of theirs.
    """
    folder = _place()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise PermissionMissing(
            f"The runtime folder {str(folder)!r} cannot be made: {error.strerror}.",
            "Name another one in CLEW_RUNTIME_DIR.",
        ) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionMissing(
            f"The runtime folder {str(folder)!r} is not this user's alone.",
            f"Make it so (chmod 700 {folder}), or name another one in CLEW_RUNTIME_DIR.",
        )
    return folder


def _place() -> Path:
    chosen = os.environ.get("CLEW_RUNTIME_DIR")
    if chosen:
        return Path(chosen)
    of_user = os.environ.get("XDG_RUNTIME_DIR")
    if os.geteuid() == 0:
        return Path("/run/clew")
    return Path(of_user, "clew") if of_user else Path(f"/tmp/clew-{os.geteuid()}")
