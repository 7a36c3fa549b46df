"""Where programs that tests build are kept between runs: a folder that nobody else can write to."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path


def folder() -> Path:
    """The folder; its name can be guessed, so whose it is, is looked at.  Raises PermissionError."""
    path = Path(tempfile.gettempdir()) / f"clew-programs-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    own = found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISDIR(found.st_mode) or not own:
        raise PermissionError(f"{path} is somebody else's: set TMPDIR to a folder of your own")
    return path
