"""The stack that a BPF object's programs take, as the strictest kernels count it: no verifier is asked.

Frames are rounded up to 32 bytes each, and all of a chain of calls share 512 (``check_max_stack_depth()`` in
kernel/bpf/verifier.c).  Newer kernels round to 16, so that an object that loads here may be refused there.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

MOST_BYTES, MOST_FRAMES, ROUND = 512, 8, 32
# linux/bpf.h: classes BPF_LDX, BPF_ST and BPF_STX; whole instructions call, r = r and r += number.
_LOAD, _STORES = 1, (2, 3)
_FRAME_POINTER, _CALL, _PSEUDO_CALL, _MOVE, _ADD = 10, 0x85, 1, 0xBF, 0x07
_SHT_SYMTAB, _SHT_REL, _STT_FUNC = 2, 9, 2
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")


@dataclass(frozen=True, slots=True)
class Function:
    """A program or one it calls: bytes of its frame, and whom it calls."""

    name: str
    frame: int
    calls: frozenset[str]


class _Symbol(NamedTuple):
    name: str
    is_function: bool
    section: int
    value: int
    size: int


def functions(path: Path) -> dict[str, Function]:
    """Those of the object, by name."""
    data = path.read_bytes()
    start, size, count = *struct.unpack_from("<Q", data, 40), *struct.unpack_from("<HH", data, 58)
    sections = [_SECTION.unpack_from(data, start + at * size) for at in range(count)]
    symbols = _symbols(data, sections)
    places = {(symbol.section, symbol.value): symbol.name for symbol in symbols if symbol.is_function}
    found = {}
    for symbol in symbols:
        if symbol.is_function:
            begin = sections[symbol.section][4] + symbol.value
            code = data[begin : begin + symbol.size]
            relocations = _relocations(data, sections, symbol.section)
            callees = _callees(code, symbol, relocations, symbols, places)
            found[symbol.name] = Function(symbol.name, _frame(code), frozenset(callees))
    return found


def worst(known: dict[str, Function], name: str) -> tuple[int, list[str]]:
    """The most bytes that ``name`` and those it calls take at once, and by which chain."""
    below = max((worst(known, callee) for callee in known[name].calls), default=(0, []))
    own = max(ROUND, -(-known[name].frame // ROUND) * ROUND)
    return below[0] + own, [f"{name} ({own})", *below[1]]


def _symbols(data: bytes, sections: list[tuple[int, ...]]) -> list[_Symbol]:
    table = next(section for section in sections if section[1] == _SHT_SYMTAB)
    names = sections[table[6]][4]
    found = []
    for name, info, _other, index, value, length in _SYMBOL.iter_unpack(data[table[4] : table[4] + table[5]]):
        start = names + name
        text = data[start : data.index(b"\0", start)].decode()
        found.append(_Symbol(text, info & 15 == _STT_FUNC, index, value, length))
    return found


def _relocations(data: bytes, sections: list[tuple[int, ...]], index: int) -> dict[int, int]:
    """Those of a section: offset of the instruction to number of the symbol."""
    found = {}
    for section in sections:
        if section[1] == _SHT_REL and section[7] == index:
            rows = struct.iter_unpack("<QQ", data[section[4] : section[4] + section[5]])
            found.update({offset: info >> 32 for offset, info in rows})
    return found


def _frame(code: bytes) -> int:
    """The bytes below the frame pointer that are written, read or pointed at."""
    deepest = 0
    pointers = set()
    for opcode, registers, offset, number in struct.iter_unpack("<BBhi", code):
        to, source = registers & 15, registers >> 4
        base = source if opcode & 7 == _LOAD else to if opcode & 7 in _STORES else -1
        if base == _FRAME_POINTER:
            deepest = min(deepest, offset)
        if opcode == _ADD and to in pointers:
            deepest = min(deepest, number)
        pointers.discard(to)
        if opcode == _MOVE and source == _FRAME_POINTER:
            pointers.add(to)
    return -deepest


def _callees(
    code: bytes,
    at: _Symbol,
    relocations: dict[int, int],
    symbols: list[_Symbol],
    places: dict[tuple[int, int], str],
) -> set[str]:
    found = set()
    for offset, (opcode, registers, _, number) in enumerate(struct.iter_unpack("<BBhi", code)):
        if opcode != _CALL or registers >> 4 != _PSEUDO_CALL:
            continue
        here = at.value + offset * 8
        section, start = at.section, here
        if here in relocations:
            meant = symbols[relocations[here]]
            section, start = meant.section, meant.value
        # The number counts instructions from the next one on; beside a function's own symbol it is -1.
        callee = places.get((section, start + (number + 1) * 8))
        if callee:
            found.add(callee)  # (None: a function of the kernel)
    return found
