"""Where the tracer's executable is: beside this file when clew was installed, else built from ``tracer/``."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from clew.engine import described
from clew.errors import EngineError

SOURCES = Path(__file__).parent / "tracer"
NAME = "clew-tracer"
# No -Werror: a compiler that is newer than this may warn of more (a test compiles it so).
FLAGS = ("-std=gnu17", "-O2", "-g", "-Wall", "-Wextra")
_PROBES = Path(__file__).parent.parent / "bpf" / "probes"
_ALIKE = (_PROBES / "alike.h", _PROBES / "glob.h")


def executable() -> Path:
    """The tracer's path.  Raises EngineError if it is neither installed nor can be built."""
    if platform.machine() != "x86_64":
        raise EngineError(f"The ptrace engine does not know {platform.machine()} yet.", "Use --engine bpf.")
    installed = Path(__file__).parent / NAME
    if installed.exists():
        return installed
    built = _cache_folder() / f"{NAME}-{_fingerprint()}"
    return built if _own(built) and _own(built.parent) else build(built)


def compiler() -> list[str]:
    """The command of a C compiler: CC, cc, or the clang inside ``ziglang``; empty if there is none."""
    for name in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        if name and shutil.which(name):
            return [name]
    if subprocess.run(
        [sys.executable, "-m", "ziglang", "version"], capture_output=True, check=False
    ).returncode:
        return []
    return [sys.executable, "-m", "ziglang", "cc"]


def build(target: Path) -> Path:
    """Compile the tracer to ``target``.  Raises EngineError with the compiler's words."""
    found = compiler()
    if not found:
        raise EngineError(
            "clew's tracer is not built and there is no C compiler.", "Install gcc, or clew's wheel."
        )
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _own(target.parent):
        raise EngineError(
            f"Others may write to {target.parent}, or to a folder above it, so clew keeps no program there.",
            "Make it yours alone, or set XDG_CACHE_HOME.",
        )
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        fresh = Path(scratch) / NAME
        (Path(scratch) / described.NAME).write_text(described.header())
        command = [*found, *FLAGS, f"-I{scratch}", *sorted(map(str, SOURCES.glob("*.c"))), "-o", str(fresh)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise EngineError("clew's tracer cannot be compiled.", "Report this.", log=done.stderr)
        # A rename, so that nobody runs half a file.
        fresh.replace(target)
    return target


def _own(path: Path) -> bool:
    """Whether nobody else can have written it, or put another one in its place.

    With sudo, HOME may be another user's; and whoever may write to a folder on the way may replace what is in
    it.  (In a sticky one, such as /tmp, only the owner of an entry may: see sticky in inode(7).)
    """
    try:
        found = path.lstat()
        return (
            found.st_uid == os.geteuid()
            and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            and not stat.S_ISLNK(found.st_mode)
            and all(map(_trusted, {*path.absolute().parents, *path.resolve().parents}))
        )
    except OSError:
        return False


def _trusted(folder: Path) -> bool:
    found = folder.stat()
    closed = not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or found.st_mode & stat.S_ISVTX
    return bool(closed and found.st_uid in (0, os.geteuid()))


def _fingerprint() -> str:
    told = hashlib.sha256(repr((FLAGS, described.header())).encode())
    for path in (*_ALIKE, *sorted(SOURCES.glob("*.[ch]"))):
        told.update(path.read_bytes())
    return told.hexdigest()[:16]


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "clew"
