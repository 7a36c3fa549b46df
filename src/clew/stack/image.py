"""One process image's view of the code: which mapping an address is in, and its spot."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from clew.model.frame import Mapping
from clew.stack.modules import Modules

_MOST_KNOWN = 1 << 17


class ImageMap:
    """Executable mappings of one image, for translating its addresses to spots (see ``modules``)."""

    def __init__(self, mappings: Sequence[Mapping], modules: Modules) -> None:
        self._modules = modules
        self._mappings = _newest(mappings)
        self._starts = [m.start for m in self._mappings]
        self._ends = [m.end for m in self._mappings]
        self._shifts: list[int | None] = [None] * len(self._mappings)
        self.known: dict[bytes, bytes] = {}
        """Words of stacks seen so far, translated (see ``translate``)."""

    def spot(self, address: int) -> int:
        """The spot of ``address``; the address itself if no file is mapped there."""
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._ends[index]:
            return address
        return address + self._shift(index)

    def return_spot(self, address: int) -> int:
        """As ``spot``, of a return address: it belongs to the call before it, which may end a mapping."""
        return self.spot(address - 1) + 1

    def translate(self, word: bytes) -> bytes:
        """A word of a stack, as the return address that it may be: ``return_spot`` of it, as a word."""
        if len(self.known) >= _MOST_KNOWN:
            self.known.clear()
        spot = self.return_spot(int.from_bytes(word, "little"))
        translated = self.known[word] = spot.to_bytes(8, "little")
        return translated

    def _shift(self, index: int) -> int:
        shift = self._shifts[index]
        if shift is None:
            mapping = self._mappings[index]
            module = self._modules.of(mapping)
            shift = self._modules.place(module, mapping) if module else 0
            self._shifts[index] = shift
        return shift


def _newest(mappings: Sequence[Mapping]) -> list[Mapping]:
    """By address.  Where two claim the same, the later replaced that part of the earlier (mmap(2))."""
    by_start = sorted(mappings, key=lambda m: m.start)
    if all(a.end <= b.start for a, b in pairwise(by_start)):
        return by_start
    kept: list[Mapping] = []
    for new in sorted(mappings, key=lambda m: m.since_ns):
        kept = [piece for old in kept for piece in _outside(old, new)] + [new]
    return sorted(kept, key=lambda m: m.start)


def _outside(old: Mapping, new: Mapping) -> list[Mapping]:
    """What is left of ``old`` where ``new`` is not."""
    if old.end <= new.start or new.end <= old.start:
        return [old]
    pieces = [replace(old, end=new.start)] if old.start < new.start else []
    if new.end < old.end:
        pieces.append(replace(old, start=new.end, file_offset=old.file_offset + new.end - old.start))
    return pieces
