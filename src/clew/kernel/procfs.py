"""/proc as proc(5) describes it: what a process is, for those that were there before us.

Every reader copes with the process ending at any moment: it returns None or nothing.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clew.model.frame import Mapping
from clew.model.task import Namespaces

PROC = Path("/proc")
_AT_EXECFN = 31
_DELETED = b" (deleted)"
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Stat:
    """What /proc/PID/stat says.  ``start_ns`` is on CLOCK_BOOTTIME, exact to a clock tick (10 ms)."""

    tid: int
    comm: bytes
    state: str
    parent: int
    start_ns: int


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """A process as it is now, with its threads: (tid, comm) each."""

    stat: Stat
    exe: bytes
    argv: tuple[bytes, ...]
    cwd: bytes
    uid: int
    gid: int
    namespaces: Namespaces
    threads: tuple[Stat, ...]


def pids() -> list[int]:
    """Ids of all processes."""
    return [int(name) for name in os.listdir(PROC) if name.isdigit()]  # noqa: PTH208 (twice as fast)


def read(path: str | Path) -> bytes | None:
    """A file's bytes, None if it (or its process) is not there or not ours to read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
        return b"".join(parts)
    except OSError:
        return None
    finally:
        os.close(fd)


def link(path: str | Path) -> bytes:
    """Where a symbolic link points, b"" if it cannot be read."""
    try:
        return os.fsencode(os.readlink(path))  # noqa: PTH115 (bytes, not a Path)
    except OSError:
        return b""


def stat(pid: int, tid: int | None = None) -> Stat | None:
    """One task's stat line."""
    data = read(f"/proc/{pid}/task/{tid}/stat" if tid else f"/proc/{pid}/stat")
    if not data:
        return None
    # comm may hold spaces and parentheses: it ends at the last one.
    left, right = data.index(b"("), data.rindex(b")")
    fields = data[right + 2 :].split()
    start_ns = int(fields[19]) * TICK_NS
    return Stat(int(data[:left]), data[left + 1 : right], fields[0].decode(), int(fields[1]), start_ns)


def exit_code(pid: int, tid: int) -> int:
    """What a task's tracer is to be told and has not asked for yet: a signal, say; 0: nothing.

    Field 52 of proc(5)'s stat, for those who may trace the task; else 0 too.
    """
    data = read(f"/proc/{pid}/task/{tid}/stat") or b""
    fields = data[data.rfind(b")") + 2 :].split()
    return int(fields[49]) if len(fields) > 49 else 0


def process_of(tid: int) -> int:
    """The process of task ``tid``; 0 if there is no such task."""
    return int(status(tid).get(b"Tgid", 0))


def status(tid: int | Literal["self"]) -> dict[bytes, bytes]:
    """The fields of /proc/TID/status (proc(5)) by name; none if the task is gone.

    "self" is this process, also where /proc counts as another pid namespace does.
    """
    return fields(f"/proc/{tid}/status")


def fields(path: str) -> dict[bytes, bytes]:
    """The lines ``name: value`` of a file, by name (status, fdinfo); none if it cannot be read."""
    lines = (read(path) or b"").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(b":") for line in lines)}


def threads(pid: int) -> list[int]:
    """Thread ids of a process."""
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]  # noqa: PTH208
    except OSError:
        return []


def alive(pid: int) -> int:
    """Whom to ask for what the threads of a process share: itself, or a live thread if its first has ended.

    A main thread that leaves by pthread_exit(3) is a zombie until the last thread ends: it has no memory, no
    program and no files any more.
    """
    found = stat(pid)
    if found is None or found.state not in "ZX":
        return pid
    tasks = (stat(pid, tid) for tid in threads(pid))
    return next((task.tid for task in tasks if task is not None and task.state not in "ZX"), pid)


def shared(pid: int, name: str) -> bytes:
    """The file ``name`` (maps, cmdline…) of process ``pid``, b"" without one; see ``alive``."""
    return read(f"/proc/{pid}/{name}") or read(f"/proc/{alive(pid)}/{name}") or b""


def exe(pid: int) -> bytes:
    """The program that process ``pid`` runs, b"" if that cannot be seen; see ``alive``.

    Without the " (deleted)" that the kernel adds to the name of a file that was removed, or has no place (a
    memfd's).
    """
    return _program(pid) or _program(alive(pid))


def _program(pid: int) -> bytes:
    at = f"/proc/{pid}/exe"
    name = link(at)
    with suppress(OSError):
        if name.endswith(_DELETED) and not os.stat(at).st_nlink:  # noqa: PTH116
            return name.removesuffix(_DELETED)
    return name


def program_names(pid: int) -> set[bytes]:
    """What the program of process ``pid`` goes by: the file that runs, the path given to exec, argv[0].

    Paths, as far as they can be seen; a script is found by the second.  The last two lie in the process's own
    memory, so it may have changed them.
    """
    found = {exe(pid), _exec_path(pid), *argv(pid)[:1]}
    return found - {b""}


def _exec_path(pid: int) -> bytes:
    """The path that was given to exec (AT_EXECFN of getauxval(3)), b"" if it cannot be read."""
    data = shared(pid, "auxv")
    for key, at in struct.iter_unpack("=QQ", data[: len(data) // 16 * 16]):
        if key == _AT_EXECFN:
            with suppress(OSError), open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:  # noqa: PTH123
                return os.pread(memory.fileno(), 4096, at).partition(b"\0")[0]
    return b""


def _namespace(pid: int, kind: str) -> int:
    text = link(f"/proc/{pid}/ns/{kind}")
    return int(text[text.index(b"[") + 1 : -1]) if b"[" in text else 0


def _ids(pid: int) -> tuple[int, int]:
    """The effective user and group; 0 if the process is gone."""
    fields = status(pid)
    uid, gid = (int(fields[name].split()[1]) if name in fields else 0 for name in (b"Uid", b"Gid"))
    return uid, gid


def process(pid: int) -> ProcessFacts | None:
    """What process ``pid`` is; None if it is gone, or a kernel thread (nothing of it is recorded)."""
    own = stat(pid)
    if own is None:
        return None
    at = alive(pid)
    program = exe(at)
    if not program and not read(f"/proc/{at}/cmdline"):
        return None
    uid, gid = _ids(pid)
    spaces = Namespaces(*(_namespace(at, kind) for kind in ("mnt", "pid", "net", "user")))
    tasks = tuple(found for tid in threads(pid) if (found := stat(pid, tid)) is not None)
    return ProcessFacts(own, program, argv(at), link(f"/proc/{at}/cwd"), uid, gid, spaces, tasks)


def argv(pid: int) -> tuple[bytes, ...]:
    """The arguments of a process."""
    data = shared(pid, "cmdline")
    return tuple(data.removesuffix(b"\0").split(b"\0")) if data else ()


def mappings(pid: int) -> Iterator[Mapping]:
    """Files (and the vDSO) mapped executable into ``pid``, as /proc/PID/maps has them: without build ids."""
    for line in shared(pid, "maps").splitlines():
        fields = line.split(None, 5)
        if len(fields) < 6 or b"x" not in fields[1]:
            continue
        path = fields[5]
        if not path.startswith((b"/", b"[vdso]")):
            continue
        start, _, end = fields[0].partition(b"-")
        yield Mapping(int(start, 16), int(end, 16), int(fields[2], 16), path)


def boot_id() -> str:
    """This boot's random id: with a pid and a start time it names a task for good."""
    return (read("/proc/sys/kernel/random/boot_id") or b"").decode().strip()
