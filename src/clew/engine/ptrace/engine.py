"""The ``ptrace`` engine's recorder: start the tracer, copy what its rings hold, hear what it says."""

from __future__ import annotations

import os
import select
import shutil
from collections.abc import Callable
from typing import TypeVar

from clew.engine.engine import RecordOutcome, RecordRequest
from clew.engine.ptrace.link import Message, Said, TracerLink
from clew.engine.ptrace.mapped import MappedFiles
from clew.engine.ptrace.refusal import refused, setid_note, survivors_note
from clew.engine.ptrace.rings import Rings
from clew.errors import CommandNotFound, EngineError, TaskGone
from clew.kernel import procfs
from clew.trace.life import running
from clew.trace.spool import SpoolWriter

_DRAIN_MS = 25
Made = TypeVar("Made")
_NOT_FOUND = "Check its spelling and PATH; clew runs programs, not shell built-ins (try: sh -c '…')."


class PtraceEngine:
    """Records the command's whole tree, and processes of one's own.  Needs no privilege; Linux ≥ 5.6.

    ``filtered``: whether the command runs under a seccomp filter, so that only recorded calls stop it.  It
    cannot be taken back: a process that outlives the recording keeps a tracer (docs/engines.md).
    """

    name = "ptrace"

    def __init__(self, filtered: bool = True) -> None:
        self._filtered = filtered

    def load(self, request: RecordRequest) -> None:
        """See ``Engine.load``: nothing, for the tracer comes with the command."""

    def close(self) -> None:
        """See ``Engine.close``."""

    def record(
        self, request: RecordRequest, spool: SpoolWriter, stopping: Callable[[], bool]
    ) -> RecordOutcome:
        """See ``Engine.record``.  ``request.scope`` is always the tree: nothing else can be seen."""
        if request.command and shutil.which(os.fsdecode(request.command[0])) is None:
            name = os.fsdecode(request.command[0])
            raise CommandNotFound(f"Cannot run {name!r}: there is no such program.", _NOT_FOUND)
        _tell_running(request.pids, spool)
        rings = _started(lambda: Rings(request.buffer_bytes))
        try:
            with _started(lambda: TracerLink(request, rings.fd, self._filtered)) as link:
                return _Session(rings, link, spool).run(stopping)
        finally:
            rings.close()


def _started(make: Callable[[], Made]) -> Made:
    try:
        return make()
    except OSError as error:
        raise EngineError(f"The ptrace engine cannot start: {error.strerror}.", "See `ulimit -a`.") from error


def _tell_running(pids: tuple[int, ...], spool: SpoolWriter) -> None:
    """Describe the processes to attach to: facts, threads, mapped files."""
    for pid in pids:
        facts = procfs.process(pid)
        if facts is None:
            raise TaskGone(pid, f"There is no process {pid}.", "It may have ended; `ps -e` shows what runs.")
        spool.append("lifecycle", running(facts))
        for mapping in procfs.mappings(pid):
            spool.mapping(pid, mapping)


class _Session:
    """One recording, from the tracer's start to the last byte."""

    def __init__(self, rings: Rings, link: TracerLink, spool: SpoolWriter) -> None:
        self._rings = rings
        self._link = link
        self._spool = spool
        self._maps = MappedFiles()
        self._outcome = RecordOutcome()
        self._told_to_stop = False

    def run(self, stopping: Callable[[], bool]) -> RecordOutcome:
        poll = select.poll()
        poll.register(self._link.socket, select.POLLIN)
        ended = False
        while not ended:
            poll.poll(_DRAIN_MS)
            if stopping() and not self._told_to_stop:
                self._told_to_stop = True
                self._link.stop()
            for message in self._link.messages():
                ended = self._hear(message)
            self._drain()
        self._outcome.lost = self._rings.lost()
        return self._outcome

    def _drain(self) -> None:
        append = self._spool.append
        self._rings.drain("lifecycle", lambda data: append("lifecycle", data))
        self._rings.drain("maps", self._take_maps)
        self._rings.drain("stacks", lambda data: append("stacks", data))
        self._rings.drain("events", lambda data: append("events", data))

    def _take_maps(self, data: memoryview) -> None:
        for pid, mapping in self._maps.take(data):
            self._spool.mapping(pid, mapping)

    def _hear(self, message: Message) -> bool:
        """Act on what the tracer says; true if it was its last word."""
        a, b, c = message.values
        match message.said:
            case Said.STARTED:
                self._outcome.root_pid = a
            case Said.FAILED:
                raise CommandNotFound(f"Cannot run the command: {os.strerror(a)}.", _NOT_FOUND)
            case Said.REFUSED:
                raise refused(a, b, c)
            case Said.SETID:
                self._note(setid_note(message.text, owner=b, only_group=bool(c)))
            case Said.PTRACE:
                self._note(f"Process {a} asked to trace another one; it cannot while clew traces that one.")
            case Said.ENDED:
                self._outcome.wait_status = a if a >= 0 else None
                if b:
                    self._note(survivors_note(b))
                return True
            case Said.NOTHING:
                raise EngineError(
                    "clew's tracer was killed, or has ended unexpectedly. The program runs on.",
                    "What was recorded is kept (clew recover). If nobody killed it, report this.",
                )
        return False

    def _note(self, text: str) -> None:
        if text not in self._outcome.notes:
            self._outcome.notes.append(text)
