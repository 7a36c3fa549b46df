"""The symbol table of one ELF file: by name, by address.  Columns are numpy arrays, names stay packed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

STT_NOTYPE, STT_FUNC, STT_GNU_IFUNC = 0, 2, 10
STB_GLOBAL, STB_WEAK = 1, 2

# struct Elf64_Sym and struct Elf32_Sym: the same fields in another order.
_FIELDS = {"name": "<u4", "info": "u1", "other": "u1", "shndx": "<u2", "value": "<u8", "size": "<u8"}
_SYM = {
    64: np.dtype(list(_FIELDS.items())),
    32: np.dtype(
        [(f, _FIELDS[f].replace("8", "4")) for f in ("name", "value", "size", "info", "other", "shndx")]
    ),
}
_SHN_UNDEF, _SHN_LORESERVE, _SHN_XINDEX = 0, 0xFF00, 0xFFFF
# C++ names of some thousand bytes are real.  Many that share one long tail would take long to copy.
_LONGEST_NAME = 1 << 15
_BIND_RANK = {STB_GLOBAL: 0, STB_WEAK: 0}


@dataclass(frozen=True, slots=True)
class Symbol:
    """One defined symbol.  ``value`` is its ELF address, ``size`` its length in bytes (0: unknown).

    ``type`` is one of STT_*, ``bind`` one of STB_* (elf(5)).  A GNU_IFUNC's value is that of its resolver.
    """

    name: bytes
    value: int
    size: int
    type: int
    bind: int


class SymbolTable:
    """Defined symbols of one table.

    ``code`` is (section index, start, end) of each executable section: symbols of other sections never
    name code.
    """

    def __init__(
        self, data: bytes, strings: bytes, bits: int, code: tuple[tuple[int, int, int], ...]
    ) -> None:
        dtype = _SYM[bits]
        rows = np.frombuffer(data[: len(data) // dtype.itemsize * dtype.itemsize], dtype=dtype)
        defined = (rows["shndx"] != _SHN_UNDEF) & (rows["name"] < len(strings))
        self._rows = rows[defined]
        self._strings = strings
        self._code = code

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Symbol]:
        return (self._symbol(row) for row in self._rows)

    def named(self, name: bytes) -> tuple[Symbol, ...]:
        """Every symbol of exactly that name (several static functions may share one).

        A version (``memcpy@@GLIBC_2.14``, in full tables of libraries) is not part of the name.
        """
        found = np.isin(self._rows["name"], self._offsets_of(name))
        return tuple(self._symbol(row) for row in self._rows[found])

    def _offsets_of(self, name: bytes) -> list[int]:
        # Linkers merge tails: "write" may be the end of the entry "__write", so no split at NUL.
        offsets = []
        at = self._strings.find(name) if name else -1
        while at >= 0:
            if self._strings[at + len(name) : at + len(name) + 1] in (b"\0", b"@"):
                offsets.append(at)
            at = self._strings.find(name, at + 1)
        return offsets

    def functions(self) -> Iterator[Symbol]:
        """The symbols that stand for code."""
        rows = self._rows
        kind = rows["info"] & 15
        return (self._symbol(row) for row in rows[(kind == STT_FUNC) | (kind == STT_GNU_IFUNC)])

    def at(self, address: int) -> Symbol | None:
        """The function that covers ELF ``address``; of several, the one that begins nearest before it.

        A symbol without a size reaches to the next one, in tables where all functions are (not dynsym).
        Of names for one function the exported, then the one with the fewest leading underscores.
        """
        index = self._code_index
        last = int(np.searchsorted(index.starts, address, side="right"))
        if not last or index.reach[last - 1] <= address:
            return None
        covering = np.flatnonzero(index.ends[:last] > address)
        sized = covering[index.sized[covering]]
        best = sized if len(sized) else covering
        aliases = best[index.starts[best] == index.starts[best[-1]]]
        return min((self._symbol(index.rows[i]) for i in aliases), key=_preference)

    @cached_property
    def _code_index(self) -> _CodeIndex:
        return _CodeIndex(self._rows, self._code)

    def _symbol(self, row: np.void) -> Symbol:
        start = int(row["name"])
        end = self._strings.find(b"\0", start, start + _LONGEST_NAME)
        name = self._strings[start : end if end >= 0 else start + _LONGEST_NAME].partition(b"@")[0]
        info = int(row["info"])
        return Symbol(name, int(row["value"]), int(row["size"]), info & 15, info >> 4)


class _CodeIndex:
    """The symbols that can name code, sorted by address: [starts, ends), and how far any so far reaches."""

    def __init__(self, rows: npt.NDArray[Any], code: tuple[tuple[int, int, int], ...]) -> None:
        kind = rows["info"] & 15
        is_code = (kind == STT_FUNC) | (kind == STT_GNU_IFUNC) | (kind == STT_NOTYPE)
        limits = _section_ends(rows, code)
        keep = is_code & (limits > rows["value"])
        rows, limits = rows[keep], limits[keep]
        order = np.argsort(rows["value"], kind="stable")
        self.rows, limits = rows[order], limits[order]
        self.starts = self.rows["value"].astype(np.uint64)
        self.sized = self.rows["size"] > 0
        sizes = np.minimum(self.rows["size"], limits - self.starts)
        self.ends = np.where(self.sized, self.starts + sizes, _next_start(self.starts, limits))
        self.reach = np.maximum.accumulate(self.ends) if len(self.ends) else self.ends


def _section_ends(rows: npt.NDArray[Any], code: tuple[tuple[int, int, int], ...]) -> npt.NDArray[np.uint64]:
    """For each symbol the end of the executable section it is in; 0 if it is in none."""
    ends = np.zeros(len(rows), dtype=np.uint64)
    value = rows["value"]
    for index, start, end in code:
        # Past 0xff00 sections the index is in a table of its own: then only the address tells.
        mine = (rows["shndx"] == index) | (rows["shndx"] == _SHN_XINDEX)
        ends[mine & (value >= start) & (value < min(end, 2**64 - 1))] = min(end, 2**64 - 1)
    return ends


def _next_start(starts: npt.NDArray[np.uint64], limits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Where the next symbol with a greater address begins, at most at the section's end."""
    after = np.searchsorted(starts, starts, side="right")
    following = np.append(starts, np.uint64(2**64 - 1))[after]
    return np.minimum(following, limits)


def _preference(symbol: Symbol) -> tuple[int, int, int, bytes]:
    name = symbol.name
    underscores = len(name) - len(name.lstrip(b"_"))
    return _BIND_RANK.get(symbol.bind, 1), underscores, len(name), name
