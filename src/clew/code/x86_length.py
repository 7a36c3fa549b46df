"""How long an x86-64 instruction is: enough to walk through a function, one instruction after the other.

Lengths are those of the AMD64 manual, volume 3, appendix A.  What is not known (VEX, EVEX, invalid codes) is
reported as such: a probe put into the middle of an instruction would change the program.
"""

from __future__ import annotations

PREFIXES = frozenset(b"\x66\x67\xf0\xf2\xf3\x2e\x36\x3e\x26\x64\x65")
_ONE_PLAIN = frozenset((*range(0x50, 0x60), *range(0x90, 0x9A), *range(0x9B, 0xA0), *range(0xA4, 0xA8),
                        *range(0xAA, 0xB0), 0xC3, 0xC9, 0xCC, 0xEC, 0xED, 0xEE, 0xEF, 0xF4, 0xF5,
                        *range(0xF8, 0xFE)))  # fmt: skip
_ONE_MODRM = frozenset((0x63, *range(0x84, 0x90), *range(0xD0, 0xD4), *range(0xD8, 0xE0), 0xFE, 0xFF))
_ONE_MODRM_8 = frozenset((0x6B, 0x80, 0x83, 0xC0, 0xC1, 0xC6))
_ONE_MODRM_32 = frozenset((0x69, 0x81, 0xC7))
_ONE_8 = frozenset((0x6A, *range(0x70, 0x80), 0xA8, *range(0xB0, 0xB8), 0xCD, *range(0xE0, 0xE8), 0xEB))
_ONE_32 = frozenset((0x68, 0xA9, *range(0xB8, 0xC0), 0xE8, 0xE9))
_TWO_PLAIN = frozenset((0x05, 0x0B, 0x31, 0x77, 0xA0, 0xA1, 0xA2, 0xA8, 0xA9, 0xAA, *range(0xC8, 0xD0)))
_TWO_MODRM_8 = frozenset((*range(0x70, 0x74), 0xA4, 0xAC, 0xBA, 0xC2, 0xC4, 0xC5, 0xC6))
_TWO_MODRM = frozenset((0x0D, *range(0x10, 0x20), *range(0x28, 0x30), *range(0x40, 0x70), *range(0x74, 0x77),
                        *range(0x7C, 0x80), *range(0x90, 0xA0), 0xA3, 0xA5, 0xAB, 0xAD, 0xAE, 0xAF,
                        *range(0xB0, 0xBA), *range(0xBB, 0xC0), 0xC0, 0xC1, 0xC3, 0xC7,
                        *range(0xD0, 0xFF)))  # fmt: skip


def length(code: bytes, at: int) -> int:
    """The length in bytes of the instruction at ``at``; 0 if it is not known or the code ends in it."""
    try:
        end = _end(code, at)
    except IndexError:
        return 0
    return end - at if at < end <= len(code) else 0


def _end(code: bytes, at: int) -> int:
    narrow = False
    while code[at] in PREFIXES:
        narrow |= code[at] == 0x66
        at += 1
    wide = False
    if 0x40 <= code[at] <= 0x4F:
        wide = bool(code[at] & 8)
        at += 1
    opcode = code[at]
    at += 1
    if opcode == 0x0F:
        return _two(code, at)
    return _one(code, at, opcode, 2 if narrow else 4, wide)


def _one(code: bytes, at: int, opcode: int, number: int, wide: bool) -> int:
    if opcode < 0x40:
        kind = opcode & 7
        return _modrm(code, at) if kind < 4 else at + 1 if kind == 4 else at + number if kind == 5 else 0
    if opcode in _ONE_PLAIN:
        return at
    if opcode in _ONE_MODRM:
        return _modrm(code, at)
    if opcode in _ONE_MODRM_8:
        return _modrm(code, at) + 1
    if opcode in _ONE_MODRM_32:
        return _modrm(code, at) + number
    if opcode in _ONE_8:
        return at + 1
    if opcode in _ONE_32:
        if opcode in (0xE8, 0xE9):
            return at + 4
        return at + (8 if wide and opcode >= 0xB8 else number)
    if opcode in (0xF6, 0xF7):
        operand = 0 if code[at] >> 3 & 7 > 1 else 1 if opcode == 0xF6 else number
        return _modrm(code, at) + operand
    return at + 2 if opcode == 0xC2 else 0


def _two(code: bytes, at: int) -> int:
    opcode = code[at]
    at += 1
    if opcode in _TWO_PLAIN:
        return at
    if opcode in _TWO_MODRM:
        return _modrm(code, at)
    if opcode in _TWO_MODRM_8:
        return _modrm(code, at) + 1
    if 0x80 <= opcode <= 0x8F:
        return at + 4
    if opcode == 0x38:
        return _modrm(code, at + 1)
    return _modrm(code, at + 1) + 1 if opcode == 0x3A else 0


def _modrm(code: bytes, at: int) -> int:
    """Where a ModRM byte, with what belongs to it, ends."""
    mode, memory = code[at] >> 6, code[at] & 7
    at += 1
    if mode == 3:
        return at
    if memory == 4:
        base = code[at] & 7
        at += 1
        if mode == 0 and base == 5:
            return at + 4
    elif mode == 0 and memory == 5:
        return at + 4
    return at + (0, 1, 4)[mode]
