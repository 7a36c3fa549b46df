"""The ``bpf`` engine's recorder: attach, run the command, copy what the rings hold to the spool."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable

from clew.engine.bpf.epolls import note_watched
from clew.engine.bpf.libbpf import Object
from clew.engine.bpf.parts import RECORDING
from clew.engine.bpf.pids import note_numbers
from clew.engine.bpf.ring import Ring
from clew.engine.bpf.selection import select
from clew.engine.calls import kernel_table
from clew.engine.engine import RecordOutcome, RecordRequest
from clew.errors import TraceError
from clew.kernel import procfs
from clew.kernel.launch import GatedCommand
from clew.kernel.perf_mmap import MappingWatch
from clew.kernel.pidfd import PidFd
from clew.model.event import EventKind
from clew.trace.layout import FRAMED_EVENT
from clew.trace.life import running
from clew.trace.spool import SpoolWriter

_AT_THE_END = "record_waiting"
_OF_QUEUES = ("queue_entry", "queue_return")
_JOB_TAKEN = 0x100  # JOB_TAKEN of queue.bpf.h
_DRAIN_S = 0.004
_META_S = 1.0
_PATIENCE_S = 0.1


class BpfEngine:
    """Records the whole machine.  Needs root, or CAP_BPF and CAP_PERFMON; Linux ≥ 5.15 with BTF."""

    name = "bpf"

    def __init__(self) -> None:
        self._probe: Object | None = None

    def load(self, request: RecordRequest) -> None:
        """See ``Engine.load``: what takes time, and what a kernel may refuse."""
        probe = RECORDING.open()
        try:
            _configure(probe, request)
            for program in () if request.queue else _OF_QUEUES:
                probe.skip(program)
            RECORDING.load(probe)
        except BaseException:
            probe.close()
            raise
        self._probe = probe

    def record(
        self, request: RecordRequest, spool: SpoolWriter, stopping: Callable[[], bool]
    ) -> RecordOutcome:
        """See ``Engine.record``."""
        if self._probe is None:
            self.load(request)
        assert self._probe is not None
        try:
            return _Session(self._probe, request, spool).run(stopping)
        finally:
            self.close()

    def close(self) -> None:
        """See ``Engine.close``."""
        if self._probe is not None:
            self._probe.close()
            self._probe = None


def _configure(probe: Object, request: RecordRequest) -> None:
    """Set the probe's constants: ``settings`` of state.bpf.h, alone in its section."""
    data = probe.map(".rodata.config").initial()
    table = kernel_table()
    data[: len(table)] = list(table)
    chosen = (request.stacks, request.scope == "tree", request.stack_limit, len(request.exclude))
    struct.pack_into("<??xxII", data, len(table), *chosen)
    probe.map("events").resize(request.buffer_bytes)


class _Session:
    """One recording, from attaching to the last byte."""

    def __init__(self, probe: Object, request: RecordRequest, spool: SpoolWriter) -> None:
        self._probe = probe
        self._request = request
        self._spool = spool
        self._events = Ring(probe.map("events"), stride=FRAMED_EVENT.itemsize)
        self._lifecycle = Ring(probe.map("lifecycle"))
        self._stacks = Ring(probe.map("stacks"))
        self._command: GatedCommand | None = None
        self._watch: MappingWatch | None = None
        self._named: list[PidFd] = []
        self._outcome = RecordOutcome()

    def run(self, stopping: Callable[[], bool]) -> RecordOutcome:
        try:
            self._named.extend(map(PidFd, self._request.pids))
            select(self._probe, self._request)
            self._watch = MappingWatch()
            if self._request.command:
                self._command = GatedCommand(self._request.command)
                self._outcome.root_pid = self._command.pid
                self._probe.map(".data.root").update(b"\0\0\0\0", struct.pack("<I", self._command.pid))
            for program in self._programs():
                if program != _AT_THE_END and program not in _OF_QUEUES:
                    self._probe.attach(program)
            self._attach_to_queues()
            self._tell_running()
            if self._command:
                self._command.open()
            self._loop(stopping)
            return self._outcome
        except TraceError as error:
            raise self._given_up(error, stopping) from error.__cause__
        finally:
            self._close()

    def _programs(self) -> list[str]:
        """Those that are loaded."""
        names = self._probe.programs()
        return names if self._request.queue else [name for name in names if name not in _OF_QUEUES]

    def _attach_to_queues(self) -> None:
        for point in self._request.queue:
            cookie = point.argument | (_JOB_TAKEN if point.takes else 0)
            program = _OF_QUEUES[not point.argument]
            self._probe.attach_uprobe(program, point.file, point.offset, cookie, not point.argument)

    def _tell_running(self) -> None:
        """Describe the processes that were there before us: facts, threads, mapped files."""
        own = {os.getpid()} | ({self._command.pid} if self._command else set())
        others = [pid for pid in procfs.pids() if pid not in own]
        note_watched(self._probe.map("armed_before"), others)
        note_numbers(self._probe.map("machine_pids"), others)
        for pid in others:
            facts = procfs.process(pid)
            if facts is None:
                continue
            self._spool.append("lifecycle", running(facts))
            for mapping in procfs.mappings(pid):
                self._spool.mapping(pid, mapping)
            self._drain()  # the probes are on already

    def _loop(self, stopping: Callable[[], bool]) -> None:
        told = time.monotonic()
        while not stopping():
            if self._command:
                if self._command.ended(_DRAIN_S):
                    self._outcome.wait_status = self._command.wait_status
                    break
            else:
                if self._named and all(process.ended() for process in self._named):
                    break
                time.sleep(_DRAIN_S)
            self._drain()
            if time.monotonic() - told > _META_S:
                told = time.monotonic()
                self._spool.write_meta(lost=self._lost())
        self._detach()

    def _drain(self) -> None:
        append = self._spool.append
        self._lifecycle.drain(lambda data: append("lifecycle", data))
        self._stacks.drain(lambda data: append("stacks", data))
        self._events.drain(lambda data: append("events", data))
        if self._watch:
            for pid, mapping in self._watch.drain():
                self._spool.mapping(pid, mapping)

    def _detach(self) -> None:
        self._probe.iterate(_AT_THE_END)
        self._probe.detach()
        self._drain()
        self._outcome.lost = self._lost()

    def _given_up(self, error: TraceError, stopping: Callable[[], bool]) -> TraceError:
        """What to raise when the trace cannot be written, once the command, left alone, has ended."""
        self._probe.detach()
        if self._command is None or not self._command.started:
            return error
        while not stopping() and not self._command.ended(_PATIENCE_S):
            pass
        said = "runs on"
        if self._command.wait_status is not None:
            status = os.waitstatus_to_exitcode(self._command.wait_status)
            said = f"exited with status {status}" if status >= 0 else f"was killed by signal {-status}"
        return TraceError(f"{error.cause} The command was left alone and {said}.", error.remedy)

    def _lost(self) -> dict[str, int]:
        """Lost records per kind, all CPUs together."""
        table = self._probe.map("lost")
        lost = {}
        for kind in EventKind:
            values = table.lookup_per_cpu(struct.pack("<I", kind))
            count = sum(int.from_bytes(value, "little") for value in values)
            if count:
                name = "unclassified" if kind is EventKind.NONE else kind.name.lower()
                lost[name] = count
        skipped = sum(map(self._probe.skipped, self._programs()))
        if skipped:
            lost["skipped"] = skipped
        if self._watch and self._watch.lost:
            lost["mapping"] = self._watch.lost
        return lost

    def _close(self) -> None:
        parts = (self._events, self._lifecycle, self._stacks, self._watch, self._command, *self._named)
        for part in parts:
            if part is not None:
                part.close()
