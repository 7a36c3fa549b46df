"""An address space of traced tasks, and the breakpoints in it.

Tasks share one as the kernel's mm: the threads of a process, a vfork(2) child and its parent.  A fork copies
it, breakpoints included: the copy must know of them before the child runs.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from pathlib import Path

from clew.code import reader
from clew.code.instruction import LONGEST, Instruction, Kind, decode
from clew.engine.ptrace.heir_log import COMPARED, HeirLog
from clew.errors import ClewError
from clew.kernel import procfs

INT3 = b"\xcc"
LOADER = -1
"""The rule number of the breakpoint at which the dynamic loader says that it has mapped libraries."""

_AT_BASE, _AT_ENTRY, _AT_EXECFN = 7, 9, 31
_NARROW, _HIGHEST = 1 << 32, 1 << 56  # (The page of vsyscalls, at the very top, is in all of them.)
_NEAR = 2 * (LONGEST + 1)


@dataclass(frozen=True, slots=True)
class Site:
    """Where a rule (or LOADER) stops: byte ``offset`` of ``file``; ``exact`` as ``Held`` has it.

    ``code`` is what the file had there when the rule was armed.
    """

    rule: int
    file: bytes
    offset: int
    exact: str
    code: bytes = field(repr=False)


@dataclass(slots=True)
class Breakpoint:
    """``original`` is the byte under the INT3, ``instruction`` what begins with it; ``sites`` are why."""

    original: bytes
    instruction: Instruction
    sites: list[Site] = field(default_factory=list)


class Space:
    """One address space; ``tids`` are the traced tasks in it.

    ``former`` are addresses at which a breakpoint was, and the byte there: a task may have run into one just
    before, a fork may have copied it.
    """

    def __init__(self, log: HeirLog) -> None:
        self.log = log
        self.tids: set[int] = set()
        self.breakpoints: dict[int, Breakpoint] = {}
        self.former: dict[int, bytes] = {}
        self.stepper = 0
        self.waiting: list[int] = []
        self.refused: set[Site] = set()
        self._scratch: tuple[int, bytes] = (0, b"")
        self._auxv: dict[int, int] | None = None

    def auxiliary(self, tid: int) -> dict[int, int]:
        """The auxiliary vector the program was started with (getauxval(3)); empty for a 32-bit program."""
        if self._auxv is None:
            data = procfs.read(f"/proc/{tid}/auxv") or b""
            pairs = struct.iter_unpack("<QQ", data[: len(data) // 16 * 16])
            self._auxv = {key: value for key, value in pairs if key < 1 << 16}
        return self._auxv

    def entry(self, tid: int) -> int:
        """Where the program itself begins; 0 if that is not known."""
        return self.auxiliary(tid).get(_AT_ENTRY, 0)

    def exec_name(self, tid: int) -> bytes:
        """The path that was given to exec."""
        address = self.auxiliary(tid).get(_AT_EXECFN, 0)
        return self.read(address, 4096).partition(b"\0")[0] if address else b""

    def read(self, address: int, size: int) -> bytes:
        """Up to ``size`` bytes of it; fewer where the mapping ends, none if nobody in it is left."""
        for tid in self.tids:
            try:
                with open(f"/proc/{tid}/mem", "rb", buffering=0) as memory:  # noqa: PTH123
                    return os.pread(memory.fileno(), size, address)
            except OSError:
                continue
        return b""

    def write(self, address: int, data: bytes) -> bool:
        """Write into it, read-only code too (proc(5): as ptrace(2) does); whether that was done."""
        for tid in self.tids:
            try:
                with open(f"/proc/{tid}/mem", "r+b", buffering=0) as memory:  # noqa: PTH123
                    return os.pwrite(memory.fileno(), data, address) == len(data)
            except OSError:
                continue
        return False

    def add(self, address: int, site: Site) -> None:
        """Stop there for ``site``, if the code there is that of its file, and can be stepped over."""
        found = self.breakpoints.get(address)
        if found is not None:
            if site not in found.sites:
                found.sites.append(site)
            return
        instruction = decode(site.code)
        if not self._is_there(address, site) or instruction.kind is Kind.FIXED:
            self.refused.add(site)
            return
        self.log.place(site.file, site.offset, site.code)
        if self.write(address, INT3):
            self.breakpoints[address] = Breakpoint(site.code[:1], instruction, [site])

    def remove(self, address: int) -> None:
        """Stop there no more."""
        found = self.breakpoints.pop(address, None)
        if found is not None:
            self.former[address] = found.original
            # A library may have been unmapped, or its page written anew, meanwhile.
            if self.read(address, 1) == INT3:
                self.write(address, found.original)

    def remove_rule(self, rule: int) -> None:
        """Stop for ``rule`` no more."""
        for address, found in list(self.breakpoints.items()):
            found.sites = [site for site in found.sites if site.rule != rule]
            if not found.sites:
                self.remove(address)

    def clear(self) -> None:
        """Leave the code as it was."""
        for address in list(self.breakpoints):
            self.remove(address)

    def copied_to(self, tid: int) -> Space:
        """The space of a forked child that has not run: what was copied is known or mended."""
        child = Space(self.log)
        child.tids.add(tid)
        child._auxv = self._auxv
        for address, found in self.breakpoints.items():
            # Between the copy and this moment other threads of the parent may have had theirs changed.
            if child.read(address, 1) == INT3 or child.write(address, INT3):
                child.breakpoints[address] = Breakpoint(found.original, found.instruction, list(found.sites))
        for address, original in self.former.items():
            if address not in self.breakpoints and child.read(address, 1) == INT3 != original:
                child.write(address, original)
        scratch, before = self._scratch
        if before:
            child.write(scratch, before)
        return child

    def scratch(self, tid: int, size: int, but: int) -> tuple[int, bytes]:
        """The scratch place's address and the ``size`` bytes there; 0 without one, or too near to ``but``."""
        scratch = self.entry(tid)
        before = self.read(scratch, size) if scratch and abs(scratch - but) > _NEAR else b""
        if len(before) != size:
            return 0, b""
        self._scratch = (scratch, before)
        return self._scratch

    def unload(self) -> None:
        """Give the scratch place its own bytes back."""
        self.write(*self._scratch)
        self.log.step_ends(self.stepper)
        self.stepper = 0

    def look_for(self, sites: list[Site]) -> None:
        """Put breakpoints where the files of ``sites`` are mapped now."""
        tid = next(iter(self.tids), 0)
        by_name: dict[bytes, list[Site]] = {}
        for site in sites:
            by_name.setdefault(site.file, []).append(site)
        for line in (procfs.read(f"/proc/{tid}/maps") or b"").splitlines() if sites else ():
            fields = line.split(None, 5)
            if len(fields) < 6 or b"x" not in fields[1]:
                continue
            start, _, end = fields[0].partition(b"-")
            low, high, offset = int(start, 16), int(end, 16), int(fields[2], 16)
            for site in by_name.get(fields[5], ()):
                address = low + site.offset - offset
                if low <= address < high:
                    self.add(address, site)

    def _is_there(self, address: int, site: Site) -> bool:
        """Whether the code at ``address`` is the site's.

        Another file may go by that name there: in another mount namespace, or since an upgrade.  A breakpoint
        that is there already came with a fork that nobody told of, or is somebody else's (a uprobe).
        """
        there = self.code(address, len(site.code))
        same = len(there) == len(site.code) > 0
        alike = same and all(a in (b, INT3[0]) for a, b in zip(there, site.code, strict=True))
        return alike and (there[:1] != INT3 or self.log.knows(site.file, site.offset))

    def narrow(self, tid: int) -> bool:
        """Whether the program is a 32-bit one, which gets no breakpoints.  (Its file may hang: no look.)"""
        lines = (procfs.read(f"/proc/{tid}/maps") or b"").splitlines()
        return not any(_NARROW < int(line.partition(b"-")[0], 16) < _HIGHEST for line in lines)

    def code(self, address: int, size: int) -> bytes:
        """Up to ``size`` bytes of code as the program has them, without our breakpoints."""
        clean = bytearray(self.read(address, size))
        for at in range(len(clean)):
            found = self.breakpoints.get(address + at)
            if found is not None:
                clean[at] = found.original[0]
        return bytes(clean)

    def watch_loader(self, tid: int) -> None:
        """Stop where the dynamic loader says that libraries came (``r_debug``, <link.h>): glibc, musl."""
        base = self.auxiliary(tid).get(_AT_BASE, 0)
        if base and not any(s.rule == LOADER for b in self.breakpoints.values() for s in b.sites):
            path = b"/proc/%d/root%s" % (tid, _path_at(tid, base))
            address, offset, code = _loader_hook(path)
            if address:
                self.add(base + address, Site(LOADER, path, offset, "", code))


def _path_at(tid: int, address: int) -> bytes:
    for line in (procfs.read(f"/proc/{tid}/maps") or b"").splitlines():
        fields = line.split(None, 5)
        if len(fields) == 6 and int(fields[0].partition(b"-")[0], 16) == address:
            return fields[5]
    return b""


_HOOKS: dict[tuple[int, int, int], tuple[int, int, bytes]] = {}


def _loader_hook(path: bytes) -> tuple[int, int, bytes]:
    """The hook's address in the loader's own ELF file, its offset there and its code; zeros without one."""
    place = Path(os.fsdecode(path))
    try:
        status = place.stat()
        identity = (status.st_dev, status.st_ino, status.st_mtime_ns)
        if identity not in _HOOKS:
            (answer,) = reader.ask(f"{reader.PLACES}:loader_hook", [reader.Question((place,))])
            address, offset = answer.value or (0, 0)
            code = code_at(os.fsencode(place), int(offset)) if address else b""
            _HOOKS[identity] = (int(address), int(offset), code)
        return _HOOKS[identity]
    except (OSError, ClewError):
        return 0, 0, b""


def code_at(file: bytes, offset: int) -> bytes:
    """The code of a site, as its file has it; b"" if the file cannot be read."""
    try:
        with open(file, "rb", buffering=0) as opened:  # noqa: PTH123 (bytes)
            return os.pread(opened.fileno(), COMPARED, offset)
    except OSError:
        return b""
