"""The files that code came from, each given one place in an address space of our own.

Every process maps its files elsewhere.  Here a file has one place, the same for all processes: its *slot*.
An address of a process is translated to ``slot + ELF address``, a plain integer, the *spot*.  So a file is
read once, whatever number of processes ran it, and equal spots are equal places in the code.
"""

from __future__ import annotations

import ctypes as C
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from clew.code.elf import EM_X86_64, ElfError, ElfFile
from clew.model.frame import Mapping

FileFinder = Callable[[Mapping], Path | None]
"""Where to read the file of a mapping from here; None if it cannot be had.  (Other mount namespaces.)"""

_SLOT_BITS = 48
# No user address reaches 2**56 (five-level page tables), no kernel address lies below 2**63.
_FIRST_SLOT = 1 << (56 - _SLOT_BITS)
_SLOTS = (1 << (63 - _SLOT_BITS)) - _FIRST_SLOT
_DELETED = b" (deleted)"
VDSO = b"[vdso]"
_ANONYMOUS = (b"//anon", b"")  # perf_event_mmap_event in kernel/events/core.c
_AT_SYSINFO_EHDR = 33


@dataclass(slots=True, eq=False)
class Module:
    """One file with code.  ``elf`` is None if it cannot be used, ``problem`` then says why.

    ``build_id`` is that of the code which ran: from the mapping, or else from the file.
    """

    id: int
    path: bytes
    build_id: bytes
    file: Path | None = None
    elf: ElfFile | None = None
    problem: str = ""
    before: dict[int, bytes] = field(default_factory=dict)

    @property
    def slot(self) -> int:
        """The spot of its ELF address 0."""
        return (self.id + _FIRST_SLOT) << _SLOT_BITS

    def bytes_before(self, address: int) -> bytes:
        """The up to 8 bytes of code before ELF ``address``; b"" where unknown."""
        if address not in self.before:
            try:
                self.before[address] = self.elf.code_at(address - 8, 8) if self.elf else b""
            except ElfError:
                self.before[address] = b""
        return self.before[address]


class Modules:
    """All modules of a session, by the file and build id they were mapped from."""

    def __init__(self, find: FileFinder | None = None) -> None:
        self._find = find or local_file
        self._by_key: dict[tuple[bytes, bytes, Path | None], Module] = {}
        self._all: list[Module] = []

    def __iter__(self) -> Iterator[Module]:
        return iter(self._all)

    def of_spot(self, spot: int) -> Module | None:
        """The module whose slot ``spot`` is in."""
        index = (spot >> _SLOT_BITS) - _FIRST_SLOT
        return self._all[index] if 0 <= index < len(self._all) else None

    def of(self, mapping: Mapping) -> Module | None:
        """The module of a mapping, opened and checked when first seen; None if there are too many.

        Memory that no file is behind, where a JIT puts code, is in no module.
        """
        if mapping.path in _ANONYMOUS:
            return None
        file = self._find(mapping)
        key = (mapping.path, mapping.build_id, file)
        module = self._by_key.get(key)
        if module is None and len(self._all) < _SLOTS:
            path = mapping.path.removesuffix(_DELETED)
            module = self._by_key[key] = Module(len(self._all), path, mapping.build_id, file)
            self._all.append(module)
            _open(module, mapping)
        return module

    def place(self, module: Module, mapping: Mapping) -> int:
        """What to add to an address in ``mapping`` to get its spot.

        Without a usable file the ELF addresses are not known: the file's offsets stand in for them
        (linkers give code the same for both, as a rule).
        """
        bias = module.elf.bias(mapping.start, mapping.file_offset) if module.elf else None
        if bias is None:
            bias = mapping.start - mapping.file_offset
        return module.slot - bias


def elf_address(spot: int) -> int:
    """The ELF address within its module (or the address itself, of anonymous code)."""
    return spot & ((1 << _SLOT_BITS) - 1) if spot >> _SLOT_BITS >= _FIRST_SLOT else spot


def local_file(mapping: Mapping) -> Path | None:
    """The file of that path in our own mount namespace."""
    path = mapping.path.removesuffix(_DELETED)
    return Path(os.fsdecode(path)) if path.startswith(b"/") else None


def _open(module: Module, mapping: Mapping) -> None:
    try:
        elf = own_vdso() if mapping.path == VDSO else _open_file(module.file)
        module.problem = _mismatch(elf, mapping)
    except (OSError, ElfError, ValueError) as error:
        module.problem = str(error)
    else:
        module.elf = None if module.problem else elf
        module.build_id = mapping.build_id or build_id_of(module.elf)


def build_id_of(elf: ElfFile | None) -> bytes:
    """The file's build id; b"" if it has none, or what should hold it is corrupt."""
    try:
        return elf.build_id if elf else b""
    except ElfError:
        return b""


def _open_file(file: Path | None) -> ElfFile:
    if file is None:
        raise FileNotFoundError("no such file")
    return ElfFile.open(file)


def _mismatch(elf: ElfFile, mapping: Mapping) -> str:
    """Why this file cannot be the one that was mapped; "" if it can."""
    if mapping.build_id and elf.build_id != mapping.build_id:
        return "the file was replaced: its build id is another than that of the code which ran"
    if not mapping.build_id and mapping.path.endswith(_DELETED):
        return "the file was deleted, and no build id tells whether the one of its name is the same"
    bias = elf.bias(mapping.start, mapping.file_offset)
    if bias is None:
        return "the file has no code where it was mapped"
    if not 0 <= mapping.start - bias <= mapping.end - bias < 1 << _SLOT_BITS:
        return "the file claims addresses that no process has"
    return "" if elf.machine == EM_X86_64 or elf.bits == 32 else "the file is for another machine"


def own_vdso() -> ElfFile:
    """The vDSO of this kernel, out of our own memory: it is the same in all 64-bit processes (vdso(7)).

    Not by /proc/self/mem: that is closed to a process that changed its user.
    """
    address = _auxiliary(_AT_SYSINFO_EHDR)
    for line in Path("/proc/self/maps").read_bytes().splitlines():
        start, _, end = line.split()[0].partition(b"-")
        if address and int(start, 16) == address:
            return ElfFile.from_bytes(C.string_at(address, int(end, 16) - address), VDSO.decode())
    raise FileNotFoundError("this kernel gives no vDSO")


def _auxiliary(kind: int) -> int:
    getauxval = C.CDLL(None).getauxval
    getauxval.argtypes, getauxval.restype = [C.c_ulong], C.c_ulong
    return int(getauxval(kind))
