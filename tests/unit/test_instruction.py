"""What one instruction is to somebody who has it run at another address."""

from __future__ import annotations

import pytest

from clew.code.instruction import FIXED, Instruction, Kind, decode


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("f30f1efa 55", Instruction(Kind.NOP, 4, b"\xf3\x0f\x1e\xfa")),
        ("0f1f4400 00", Instruction(Kind.NOP, 5, b"\x0f\x1f\x44\x00\x00")),
        ("4154", Instruction(Kind.PUSH, 2, b"\x41\x54", register="r12")),
        ("e8f0ffffff", Instruction(Kind.CALL, 5, b"\xe8\xf0\xff\xff\xff", relative=-11, calls=True)),
        ("eb05", Instruction(Kind.JUMP, 2, b"\xeb\x05", relative=7)),
        ("0f85aa000000", Instruction(Kind.BRANCH, 6, b"\x0f\x85\xaa\0\0\0", relative=0xB0, condition=5)),
        ("7205", Instruction(Kind.BRANCH, 2, b"\x72\x05", relative=7, condition=2)),
        ("e2fc", Instruction(Kind.BRANCH, 2, b"\xe2\xfc", relative=-2, condition=0xE2)),
        ("4883ec08", Instruction(Kind.PLAIN, 4, b"\x48\x83\xec\x08")),
        ("c3", Instruction(Kind.GOES, 1, b"\xc3")),
        ("488b0511223344", Instruction(Kind.PLAIN, 7, b"\x48\x8b\x86\x11\x22\x33\x44", register="rsi")),
        # What already mentions rsi gets another register; a REX.B that meant nothing would mean r15.
        ("49393511223344", Instruction(Kind.PLAIN, 7, b"\x48\x39\xb7\x11\x22\x33\x44", register="rdi")),
        ("ff1511223344", Instruction(Kind.GOES, 6, b"\xff\x96\x11\x22\x33\x44", register="rsi", calls=True)),
        ("c5fa6f0511223344", Instruction(Kind.PLAIN, 8, b"\xc5\xfa\x6f\x86\x11\x22\x33\x44", register="rsi")),
    ],
)
def test_what_can_be_had_elsewhere(code: str, found: Instruction) -> None:
    assert decode(bytes.fromhex(code)) == found


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("0f05", "a system call"),
        ("cd80", "an interrupt"),
        ("cc", "a breakpoint of its own"),
        ("c7f800000000", "xbegin"),
        ("ff18", "a far call"),
        ("cb", "a far return"),
        ("67488b0511223344", "eip-relative"),
        ("06", "no instruction"),
        ("48", "half an instruction"),
        ("", "nothing"),
    ],
)
def test_what_cannot(code: str, what: str) -> None:
    assert decode(bytes.fromhex(code)) == FIXED, what
