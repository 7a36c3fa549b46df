"""The parts of the ``bpf`` engine: what the kernel takes or refuses as a whole, and what goes without it.

A part may come in several objects, one for each way that kernels have to do the same thing; for which of them
this kernel has the functions, its BTF says.  A part is loaded when it is needed and not before: one that is
refused costs what it does, and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clew.engine.bpf.libbpf import Object
from clew.errors import EngineError, PartRefused
from clew.kernel.features import has_name, tracefs

_PROBES = Path(__file__).parent / "probes"
PREEMPTED = "srcu_gp"
"""The kernel's BTF has this name, of a field in struct tp_transition_snapshot, if raw tracepoints can be
preempted there: probes/events.bpf.h says what that does."""


@dataclass(frozen=True, slots=True)
class Way:
    """An object, and the names in the kernel's BTF that its programs cannot do with or without."""

    object: str
    needs: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()

    def fits(self, has: Callable[[str], bool]) -> bool:
        """Whether it is for a kernel that has these names and no others."""
        return all(map(has, self.needs)) and not any(map(has, self.unless))

    @property
    def by_perf(self) -> bool:
        """Whether its programs are attached as perf events, whose numbers tracefs knows."""
        return PREEMPTED in self.needs

    @property
    def path(self) -> Path:
        """The object file."""
        return _PROBES / f"{self.object}.bpf.o"


@dataclass(frozen=True, slots=True)
class Part:
    """``name`` as doctor lists it; ``instead``: what is had without it.  The first way is the best."""

    name: str
    ways: tuple[Way, ...]
    instead: str

    def way(self, has: Callable[[str], bool] = has_name) -> Way | None:
        """The way for this kernel; None if there is no such way."""
        return next((way for way in self.ways if way.fits(has)), None)

    def lacks(self, has: Callable[[str], bool] = has_name) -> tuple[str, ...]:
        """The names that the kernel would need to have; none if there is a way."""
        if self.way(has) is not None:
            return ()
        ways = [way for way in self.ways if not any(map(has, way.unless)) and way.by_perf <= has(PREEMPTED)]
        return tuple(sorted({name for way in ways for name in way.needs if not has(name)}))

    def open(self) -> Object:
        """The object for this kernel.  PartRefused if there is none, EngineError if it is not built."""
        way = self.way()
        if way is None:
            lacks = " or ".join(self.lacks())
            cause = f"Linux {os.uname().release} has no {lacks}, which {self.name} need."
            raise PartRefused(cause, self.instead)
        if way.by_perf and not (found := tracefs()).ok:
            cause = f"No {self.name} on Linux {os.uname().release} without tracefs, which is {found.detail}."
            raise PartRefused(cause, f"{found.remedy}. {self.instead}")
        return Object(way.path)

    def load(self, probe: Object) -> None:
        """Give ``probe``, which is ``open``'s, to the kernel.  Raises PermissionMissing and PartRefused."""
        try:
            probe.load()
        except EngineError as error:
            raise self._refused(error) from error

    def _refused(self, error: EngineError) -> PartRefused:
        """The same as a sentence about this part and this kernel."""
        cause = f"Linux {os.uname().release} refuses the bpf engine's {self.name}. {error.cause}"
        words = "`-v` shows the kernel's own words; please report them, with the output of `clew doctor`."
        return PartRefused(cause, f"{self.instead} {words}", error.log)


_BY_PERF = (PREEMPTED, "bpf_task_from_pid")
_RAW = (PREEMPTED,)

RECORDING = Part(
    "recording",
    (
        Way("record_perf", (*_BY_PERF, "bpf_rdonly_cast")),
        Way("record", ("bpf_rdonly_cast",), _RAW),
        Way("record_plain", (), _RAW),
    ),
    "Use --engine ptrace, which records a command's own tree.",
)
HOLDS = Part(
    "holds",
    (
        Way("hold_perf", (*_BY_PERF, "bpf_send_signal_task")),
        Way("hold", ("bpf_send_signal_task",), _RAW),
        Way("hold_plain", (), _RAW),
    ),
    "Use --engine ptrace, which holds in a command's own tree.",
)
CRASH_HOLDS = Part(
    "crash holds",
    (
        Way("hold_fatal_implicit", ("bpf_task_work_schedule_signal",)),
        Way("hold_fatal", ("bpf_task_work_schedule_signal_impl",)),
    ),
    "Of signals, only handlers are held; `--engine ptrace -- CMD` holds a crash too.",
)
LONE_HOLDS = Part(
    "lone holds",
    (
        Way("hold_alone_perf", (*_BY_PERF, "bpf_task_work_schedule_signal")),
        Way("hold_alone_implicit", ("bpf_task_work_schedule_signal",), _RAW),
        Way("hold_alone", ("bpf_task_work_schedule_signal_impl",), _RAW),
    ),
    "A thread is held alone after its process stood still for a moment.",
)
PARTS = (RECORDING, HOLDS, CRASH_HOLDS, LONE_HOLDS)


def unbuilt() -> bool:
    """Whether objects are missing, as in a checkout that nobody has built."""
    return not all(way.path.exists() for part in PARTS for way in part.ways)
