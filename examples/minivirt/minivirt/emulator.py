"""Which program a guest is, with which arguments, and as whom it runs.

libvirt: ``virQEMUCapsCacheLookup`` finds the emulator, ``qemuBuildCommandLine`` writes its arguments,
``user`` and ``group`` in ``qemu.conf`` say whose process it becomes.
"""

from __future__ import annotations

import os
import pwd
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from minivirt.guests import Definition
from minivirt.places import SYSTEM

NAME = "qemu-system-x86_64"
_STAND_IN = Path(__file__).resolve().parent.parent / NAME
_NOBODY = 65534


@dataclass(frozen=True, slots=True)
class Ids:
    """Who a guest runs as. ``other``: not who the daemon is. ``by_root``: the daemon is root."""

    uid: int
    gid: int
    other: bool
    by_root: bool


@dataclass(frozen=True, slots=True)
class Emulator:
    """``made_folder``: a folder that was made for a copy of the stand-in, to be removed at the end."""

    program: Path
    made_folder: Path | None = None

    def arguments(self, definition: Definition) -> list[str]:
        """A machine without a board or devices, its processor stopped: QEMU at its smallest."""
        return [
            *(str(self.program), "-name", f"guest={definition.name},debug-threads=on", "-S"),
            *("-no-user-config", "-nodefaults", "-display", "none"),
            *("-machine", "none", "-m", str(definition.memory_mib)),
        ]

    def remove(self) -> None:
        if self.made_folder:
            shutil.rmtree(self.made_folder, ignore_errors=True)


def ids(kind: str) -> Ids:
    """A guest of the system daemon is nobody's, a guest of a session daemon is its user's."""
    by_root = os.geteuid() == 0
    if kind != SYSTEM:
        return Ids(os.getuid(), os.getgid(), False, by_root)
    try:
        entry = pwd.getpwnam("nobody")
        return Ids(entry.pw_uid, entry.pw_gid, True, by_root)
    except KeyError:
        return Ids(_NOBODY, _NOBODY, True, by_root)


def find() -> Emulator:
    """$MINIVIRT_EMULATOR, or QEMU, or else the stand-in (a copy of it, if guests cannot run it in place)."""
    if chosen := os.environ.get("MINIVIRT_EMULATOR"):
        return Emulator(Path(chosen).absolute())
    if installed := shutil.which(NAME):
        return Emulator(Path(installed).absolute())
    interpreter = Path(_STAND_IN.read_text().split()[0].removeprefix("#!"))
    if _open_to_all(_STAND_IN) and _open_to_all(interpreter):
        return Emulator(_STAND_IN)
    return _copied_stand_in()


def _copied_stand_in() -> Emulator:
    """The stand-in where everybody may run it, with an interpreter that is there."""
    known = (Path("/usr/bin/python3"), Path("/usr/local/bin/python3"), Path(sys.executable).resolve())
    interpreter = next((path for path in known if _open_to_all(path)), known[-1])
    folder = Path(tempfile.mkdtemp(prefix="minivirt-"))
    folder.chmod(0o755)
    copy = folder / NAME
    _, code = _STAND_IN.read_text().split("\n", 1)
    copy.write_text(f"#!{interpreter} -IS\n{code}")
    copy.chmod(0o755)
    return Emulator(copy, made_folder=folder)


def _open_to_all(program: Path) -> bool:
    """Whether any user may run ``program``, judged by the mode bits of it and of the folders above it."""
    try:
        real = program.resolve(strict=True)
        return (
            all(path.stat().st_mode & 0o1 for path in (real, *real.parents)) and real.stat().st_mode & 0o4 > 0
        )
    except OSError:
        return False
