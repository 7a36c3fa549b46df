"""The records' bytes: what Python reads is what both engines write, the header as a compiler takes it."""

from __future__ import annotations

import re
import subprocess
from enum import Enum

import numpy as np
import pytest

from clew.engine.bpf.parts import RECORDING
from clew.model.event import ChannelType, EventFlag, EventKind, LifeFlag
from clew.trace.layout import EVENT, FRAMED_EVENT, LENGTH_MASK, LIFE, RING_HEADER, STACK, framed

HEADER = re.sub(r"/\*.*?\*/", "", (RECORDING.ways[0].path.parent / "record.h").read_text(), flags=re.DOTALL)
RECORDS = {"clew_event": EVENT, "clew_life": LIFE, "clew_stack": STACK}
ENUMS: dict[str, type[Enum]] = {
    "KIND": EventKind,
    "CHAN": ChannelType,
    "FLAG": EventFlag,
    "LIFE": LifeFlag,
}
ONE_PAST_THE_KINDS = "KIND_MAX"

PROGRAM = """
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
"""


def _fields() -> dict[str, list[str]]:
    """The fields of each struct in the header, in order."""
    found = {}
    for struct, body in re.findall(r"struct (\w+) \{(.*?)\};", HEADER, re.DOTALL):
        declared = [line.split(None, 1)[1] for line in body.split(";") if line.strip()]
        found[struct] = [
            re.findall(r"\w+", part.partition("[")[0])[-1] for d in declared for part in d.split(",")
        ]
    return found


def _constants() -> list[str]:
    return re.findall(rf"\b((?:{'|'.join(ENUMS)})_\w+) *=", HEADER)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[int]]:
    """What the compiler makes of the header: offset and size of each field, size of structs, constants."""
    lines = [f'printf("{name} %d\\n", {name});' for name in _constants()]
    for struct, fields in _fields().items():
        lines.append(f'printf("{struct} %zu\\n", sizeof(struct {struct}));')
        for field in fields:
            size = f"sizeof(((struct {struct} *)0)->{field})"
            lines.append(
                f'printf("{struct}.{field} %zu %zu\\n", offsetof(struct {struct}, {field}), {size});'
            )
    folder = tmp_path_factory.mktemp("layout")
    source = folder / "layout.c"
    source.write_text(PROGRAM + HEADER + "int main(void) {\n" + "\n".join(lines) + "\n}\n")
    subprocess.run(["cc", "-Wall", "-Werror", source, "-o", folder / "layout"], check=True)
    told = subprocess.run([folder / "layout"], capture_output=True, text=True, check=True).stdout
    return {words[0]: [int(word) for word in words[1:]] for words in map(str.split, told.splitlines())}


@pytest.mark.requires("compiler")
@pytest.mark.parametrize("struct", RECORDS)
def test_fields_lie_where_the_compiler_puts_them(struct: str, compiled: dict[str, list[int]]) -> None:
    dtype = RECORDS[struct]
    assert dtype.fields is not None
    ours = {f"{struct}.{name}": [field[1], field[0].itemsize] for name, field in dtype.fields.items()}
    theirs = {name: where for name, where in compiled.items() if name.startswith(f"{struct}.")}
    assert ours == theirs
    assert [dtype.itemsize] == compiled[struct]


@pytest.mark.requires("compiler")
@pytest.mark.parametrize("prefix", ENUMS)
def test_numbers_are_the_same(prefix: str, compiled: dict[str, list[int]]) -> None:
    ours = {f"{prefix}_{member.name}": [int(member.value)] for member in ENUMS[prefix]}
    theirs = {name: value for name, value in compiled.items() if name.startswith(f"{prefix}_")}
    theirs.pop(ONE_PAST_THE_KINDS, None)
    assert ours == theirs


@pytest.mark.requires("compiler")
def test_kinds_fit_the_table_of_losses(compiled: dict[str, list[int]]) -> None:
    assert max(EventKind) < compiled[ONE_PAST_THE_KINDS][0]


def test_every_struct_of_the_header_is_compared() -> None:
    assert set(_fields()) == set(RECORDS)


def test_an_event_in_the_spool_is_the_event_behind_its_header() -> None:
    record = np.zeros(1, EVENT)
    record["t0"], record["tid"], record["kind"], record["count"] = 1 << 63, 7, EventKind.RECV, 65535
    (read,) = np.frombuffer(framed(record.tobytes()), FRAMED_EVENT)
    assert read["header"] & LENGTH_MASK == EVENT.itemsize
    assert all(read[name] == record[name][0] for name in EVENT.names or ())
    assert FRAMED_EVENT.itemsize == RING_HEADER + EVENT.itemsize


@pytest.mark.parametrize("length", range(1, 18))
def test_records_are_padded_as_the_kernel_pads_them(length: int) -> None:
    # kernel/bpf/ringbuf.c: round_up(len + BPF_RINGBUF_HDR_SZ, 8)
    whole = framed(b"x" * length)
    assert len(whole) == -(-(length + RING_HEADER) // 8) * 8
    assert int.from_bytes(whole[:4], "little") & LENGTH_MASK == length
    assert whole[RING_HEADER : RING_HEADER + length] == b"x" * length
