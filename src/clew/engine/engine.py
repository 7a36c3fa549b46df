"""What an engine is: where events come from.  Callers choose one by name and see no difference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from clew.trace.spool import SpoolWriter


@dataclass(frozen=True, slots=True)
class JobPoint:
    """Byte ``offset`` of ``file``: a function that puts a job into a queue in memory, or ``takes`` it out.

    The job is argument number ``argument`` (from 1 on); 0: what the function returns.
    """

    file: bytes
    offset: int
    takes: bool
    argument: int


@dataclass(frozen=True, slots=True)
class RecordRequest:
    """What to record.

    ``command`` is run and recorded from its exec on, until it ends; without one, recording lasts until
    ``pids`` have ended or the caller stops it.  ``scope`` is "system" (every task of the machine) or "tree"
    (the command, ``pids`` and all they start).  ``exclude`` are globs of programs left out.
    ``stack_limit`` is how many bytes of a user stack are copied at most.  ``queue``: where jobs change hands
    in memory; only the bpf engine can tell of that.
    """

    command: tuple[bytes, ...] = ()
    pids: tuple[int, ...] = ()
    scope: str = "system"
    exclude: tuple[bytes, ...] = ()
    stacks: bool = True
    stack_limit: int = 16384
    buffer_bytes: int = 1 << 26
    queue: tuple[JobPoint, ...] = ()


@dataclass(slots=True)
class RecordOutcome:
    """How a recording ended.  ``wait_status`` is the command's, as waitpid(2) gives it; None without one.

    ``lost`` counts lost records per event kind name (lower case).
    """

    root_pid: int = 0
    wait_status: int | None = None
    lost: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Engine(Protocol):
    """A source of events.

    ``load`` does all that a kernel may refuse; ``close`` takes it back, which the end of ``record`` does too.
    ``record`` blocks until the command ends or ``stopping()`` turns true, writing to ``spool`` all the
    while.  Raises CommandNotFound, PermissionMissing, TaskGone, EngineError, TraceError; in every case the
    command runs on unharmed and nothing stays attached.
    """

    name: str

    def load(self, request: RecordRequest) -> None: ...
    def record(
        self, request: RecordRequest, spool: SpoolWriter, stopping: Callable[[], bool]
    ) -> RecordOutcome: ...
    def close(self) -> None: ...
