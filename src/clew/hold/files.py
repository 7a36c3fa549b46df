"""The files a call or at rule may mean: mapped ones, those a command will map, and installed ones."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clew.code import reader
from clew.kernel import procfs
from clew.model.rules.glob import Glob

_LIBRARY_CACHE = Path("/etc/ld.so.cache")
_CACHE_MAGIC = b"glibc-ld.so.cache1.1"
_CACHE_HEADER, _CACHE_ENTRY = 48, struct.Struct("<iIIIQ")


@dataclass(frozen=True, slots=True)
class CodeFile:
    """A file with code: ``name`` is the path it goes by, ``path`` one by which we reach it.

    They differ for files of other mount namespaces, and for ones that were deleted while they are mapped.
    """

    name: bytes
    path: Path


def mapped_files() -> list[CodeFile]:
    """Every file mapped executable into a process, each once."""
    found: dict[tuple[bytes, bytes], CodeFile] = {}
    for pid in procfs.pids():
        for line in procfs.shared(pid, "maps").splitlines():
            fields = line.split(None, 5)
            if len(fields) < 6 or b"x" not in fields[1] or not fields[5].startswith(b"/"):
                continue
            identity = (fields[3], fields[4])
            if identity not in found:
                low, _, high = fields[0].decode().partition("-")
                found[identity] = _mapped(pid, low, high, fields[5])
    return list(found.values())


def _mapped(pid: int, low: str, high: str, name: bytes) -> CodeFile:
    exact = Path(f"/proc/{procfs.alive(pid)}/map_files/{int(low, 16):x}-{int(high, 16):x}")
    plain = Path(os.fsdecode(name))
    try:
        if exact.stat().st_ino == plain.stat().st_ino and exact.stat().st_dev == plain.stat().st_dev:
            return CodeFile(name, plain)
    except PermissionError:
        return CodeFile(name, plain)  # map_files is for CAP_CHECKPOINT_RESTORE alone.
    except OSError:
        pass
    return CodeFile(name.removesuffix(b" (deleted)"), exact)


def program_files(command: bytes) -> list[CodeFile]:
    """The program that a command runs, and the libraries that the loader will give it."""
    path = shutil.which(os.fsdecode(command))
    if path is None:
        return []
    found: dict[Path, CodeFile] = {}
    waiting = {Path(path).absolute()}
    libraries = installed_libraries()
    while waiting:
        new = [file for file in waiting if file not in found and file.is_file()]
        found |= {file: CodeFile(os.fsencode(file), file) for file in new}
        answers = reader.ask(f"{reader.PLACES}:needed", [reader.Question((file,)) for file in new])
        names = {os.fsencode(str(name)) for answer in answers for name in answer.value or ()}
        waiting = {libraries[name].absolute() for name in names if name in libraries}
    return list(found.values())


def named_files(pattern: Glob) -> list[CodeFile]:
    """Files on disk that ``pattern`` may name: that very path, a program in PATH, an installed library."""
    exact = pattern.exact
    found: list[CodeFile] = []
    if exact is not None and pattern.whole_path:
        path = Path(os.fsdecode(exact)).absolute()
        found += [CodeFile(os.fsencode(path), path)] if path.is_file() else []
    elif exact is not None and (program := shutil.which(os.fsdecode(exact))):
        found.append(CodeFile(os.fsencode(program), Path(program)))
    for library in dict.fromkeys(installed_libraries().values()):
        if pattern.matches_path(os.fsencode(library)):
            found.append(CodeFile(os.fsencode(library), library))
    return found


def installed_libraries() -> dict[bytes, Path]:
    """Name → path of the libraries the loader knows (ld.so(8)); the first of several for one name."""
    try:
        data = _LIBRARY_CACHE.read_bytes()
    except OSError:
        return {}
    found: dict[bytes, Path] = {}
    for name, path in _cache_entries(data):
        found.setdefault(name, Path(os.fsdecode(path)))
    return found


def _cache_entries(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Entries of an ld.so.cache in the format of glibc 2.2 and later (sysdeps/generic/dl-cache.h)."""
    start = data.find(_CACHE_MAGIC)
    if start < 0 or len(data) < start + _CACHE_HEADER:
        return
    (count,) = struct.unpack_from("<I", data, start + len(_CACHE_MAGIC))
    for at in range(count):
        where = start + _CACHE_HEADER + at * _CACHE_ENTRY.size
        if where + _CACHE_ENTRY.size > len(data):
            return
        _flags, name_at, path_at, _os, _hwcap = _CACHE_ENTRY.unpack_from(data, where)
        yield _text(data, start + name_at), _text(data, start + path_at)


def _text(data: bytes, at: int) -> bytes:
    return data[at : data.find(b"\0", at)]
