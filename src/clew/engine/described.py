"""``record.h``: what the probes and the tracer, which are C, share with Python, made from what Python has.

Built with the probes (``hatch_build.py``) and with the tracer (``ptrace/binary.py``).  Nothing but the
standard library is imported: it runs where clew is not installed yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum, IntFlag

from clew.engine.calls import SHAPE_FIELDS, TABLE_SIZE, SyscallClass
from clew.model.event import NO_CALL, ChannelType, EventFlag, EventKind, LifeFlag
from clew.trace import records

NAME = "record.h"
_ENUMS: tuple[tuple[str, str, type[IntEnum] | type[IntFlag]], ...] = (
    ("clew_kind", "KIND", EventKind),
    ("clew_channel", "CHAN", ChannelType),
    ("clew_flag", "FLAG", EventFlag),
    ("clew_life_flag", "LIFE", LifeFlag),
    ("clew_class", "CLASS", SyscallClass),
)
_RECORDS = (("clew_event", records.EVENT), ("clew_life", records.LIFE), ("clew_stack", records.STACK))


def header() -> str:
    """The text of ``record.h``."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */"
    yield "/* Made by clew.engine.described from clew/model/event.py, clew/trace/records.py and"
    yield " * clew/engine/calls.py, which say what everything means. */"
    yield "#ifndef CLEW_RECORD_H\n#define CLEW_RECORD_H"
    for name, prefix, members in _ENUMS:
        yield f"enum {name} {{"
        yield from (f"\t{prefix}_{member.name} = {int(member)}," for member in members)
        yield "};"
    yield "enum { KIND_MAX = 64 };"
    yield f"#define SYSCALLS {TABLE_SIZE}"
    yield f"#define NO_CALL {NO_CALL:#x}"
    for name, fields in _RECORDS:
        yield f"struct {name} {{"
        yield from (f"\t{field.type} {field.name}{_array(field)};" for field in fields)
        yield "};"
        yield f'_Static_assert(sizeof(struct {name}) == {records.size(fields)}, "padded");'
    yield "/* How a call is read: numbers of arguments, from 1 on; 0: there is none. */"
    yield "struct clew_shape {"
    yield from (f"\tu8 {'class' if field == 'syscall_class' else field};" for field in SHAPE_FIELDS)
    yield "};"
    yield "#endif"


def _array(field: records.Field) -> str:
    return f"[{field.count}]" if field.count > 1 else ""
