"""The rule that stops, on the next run, where a recorded hop left."""

from __future__ import annotations

from dataclasses import replace

from clew.model.flow import Hop, HopKind
from clew.model.frame import Frame
from clew.model.rules.glob import Glob
from clew.model.rules.parse import parse_target
from clew.model.rules.rule import Rule

# What stands innermost in nearly every backtrace and says nothing about it.
_PLUMBING = (
    b"libc.so",
    b"libc-",
    b"libpthread",
    b"ld-linux",
    b"ld-musl",
    b"[vdso]",
    b"libgcc_s",
    b"libstdc++",
)


def text_for_hop(hop: Hop) -> str:
    """A rule for the point where ``hop`` left its source.

    An exec: the program that was run.  A spawn: the child of that program.  An exit: the program.
    Anything else: the innermost function that is not the C library's, or the system call where no frame
    has a name.
    """
    program = Glob.literal(hop.source.exe).source
    match hop.kind:
        case HopKind.EXEC:
            return f"exec:{Glob.literal(hop.exe or hop.target.exe).source}"
        case HopKind.SPAWN:
            return f"fork:{program}"
        case HopKind.EXIT:
            return f"exit:{program}"
    frame = telling_frame(hop)
    if frame is None:
        return f"syscall:{hop.syscall_from or '*'},exe={program}"
    name = Glob.literal(frame.function.encode("utf-8", "surrogateescape")).source
    return f"call:{Glob.literal(frame.module).source}!{name},exe={program}"


def telling_frame(hop: Hop) -> Frame | None:
    """The innermost named frame at the hop's source that is not the C library's, None without one."""
    return next((frame for frame in hop.stack_from if frame.function and not is_plumbing(frame)), None)


def is_plumbing(frame: Frame) -> bool:
    """Whether the frame is the C library's or the loader's, or of no file at all."""
    file = frame.module.rpartition(b"/")[2]
    return not file or file.startswith(_PLUMBING)


def rule_for_hop(rule: Rule, hop: Hop) -> Rule:
    """What the hop rule ``rule`` means, given the ``hop`` it names: its own conditions and counts stay.

    Raises RuleError if the hop's function has a name no rule can spell.
    """
    point = parse_target(text_for_hop(hop))
    return replace(point, conditions=point.conditions + rule.conditions, first=rule.first, limit=rule.limit)
