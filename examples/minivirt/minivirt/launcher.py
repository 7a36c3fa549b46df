"""The thread that forks: commands to start a guest come to it through a pipe, one after the other.

libvirt: ``qemuProcessStart`` → ``qemuProcessLaunch`` → ``virCommandRunAsync`` → ``virExec`` → ``virFork``.
libvirt forks in the worker itself. Here the worker hands the parsed command on through a pipe, and
one thread does every fork, so that no two children inherit each other's handshake pipes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import traceback
import warnings
from dataclasses import asdict
from pathlib import Path

from minivirt import journal, kernel, wire
from minivirt.child import Plan, become_guest
from minivirt.emulator import Emulator, Ids
from minivirt.errors import Refused
from minivirt.event_loop import READ, EventLoop
from minivirt.guests import Definition, Guests, Process
from minivirt.handshake import Handshake

# Python ≥ 3.12 warns of a fork in a threaded process. child.py is written for just that.
warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)


class Launcher:
    def __init__(self, loop: EventLoop, guests: Guests, emulator: Emulator, ids: Ids, logs: Path) -> None:
        self._loop = loop
        self._guests = guests
        self._emulator = emulator
        self._ids = ids
        self._logs = logs
        self._null_fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self._command_reader, self._command_writer = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """No worker may call ``hand_on`` any more."""
        os.close(self._command_writer)
        self._thread.join()

    def hand_on(self, definition: Definition) -> dict[str, object]:
        """In a worker: pass the command on, wait for what became of it. Raises ``Refused``."""
        answer_reader, answer_writer = os.pipe()
        try:
            command = wire.pack(json.dumps(asdict(definition) | {"answer_fd": answer_writer}).encode())
            journal.note("hand on", bytes=len(command))
            # Below PIPE_BUF, so that it is one piece even if several workers write (pipe(7)).
            os.write(self._command_writer, command)
            answer = json.loads(wire.receive(answer_reader) or b"{}")  # the launcher closes the other end
        finally:
            os.close(answer_reader)
        if "error" in answer:
            raise Refused(answer["error"])
        return dict(answer)

    def _run(self) -> None:
        kernel.name_thread("launcher")
        while (command := wire.receive(self._command_reader)) is not None:
            journal.note("take command")
            fields = json.loads(command)
            answer = self._answer(Definition(fields["name"], fields["memory_mib"]))
            os.write(fields["answer_fd"], wire.pack(json.dumps(answer).encode()))
            os.close(fields["answer_fd"])

    def _answer(self, definition: Definition) -> dict[str, object]:
        try:
            return {"pid": self._launch(definition)}
        except Refused as error:
            return {"error": str(error)}
        except Exception as error:
            traceback.print_exc()  # into the daemon's log; nothing may end this thread
            return {"error": f"cannot start guest '{definition.name}': {error}"}

    def _launch(self, definition: Definition) -> int:
        """Fork, shake hands, see the child through its exec. The new guest's pid."""
        with contextlib.ExitStack() as cleanup:
            handshake = Handshake()
            cleanup.callback(handshake.close)
            pid = self._fork(self._plan(definition, cleanup), handshake)
            process, pidfd = self._process(definition.name, pid, handshake)
            cleanup.callback(os.close, pidfd)
            try:
                self._loop.call_soon(lambda: self._watch(process))
                self._guests.born(process)
                self._see_through(pid, pidfd, handshake)
            except (Refused, OSError):
                self._end(process, pidfd)
                raise
        return pid

    def _plan(self, definition: Definition, cleanup: contextlib.ExitStack) -> Plan:
        log = self._logs / f"{definition.name}.log"
        log_fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        cleanup.callback(os.close, log_fd)
        return Plan(
            program=str(self._emulator.program),
            arguments=self._emulator.arguments(definition),
            environment={"LC_ALL": "C", "PATH": os.defpath},
            ids=self._ids,
            null_fd=self._null_fd,
            log_fd=log_fd,
        )

    def _fork(self, plan: Plan, handshake: Handshake) -> int:
        """libvirt: ``virFork``, which blocks signals around the fork for the same reason: between it and
        the child's own settings, no handler of the daemon's may run in the child."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                become_guest(plan, handshake)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        handshake.i_am_parent()
        return pid

    def _process(self, name: str, pid: int, handshake: Handshake) -> tuple[Process, int]:
        """The child as a guest's process, and a pidfd that the event loop does not close meanwhile."""
        try:
            process = Process(name, pid, os.pidfd_open(pid))
            return process, os.dup(process.pidfd)
        except OSError:
            handshake.close()  # the child reads the end of file and goes
            os.waitpid(pid, 0)
            raise

    def _see_through(self, pid: int, pidfd: int, handshake: Handshake) -> None:
        journal.note("fork", child=pid)
        handshake.wait()
        journal.note("child is ready", child=pid)
        # Here qemuProcessLaunch sets up cgroups, security labels and CPU affinity of the waiting child.
        journal.note("notify child", child=pid)
        handshake.notify()
        handshake.wait_exec()
        if kernel.ended_within(pidfd, 0):
            raise Refused(f"the guest ended at once; its log is in {self._logs}")
        journal.note("child has execed", child=pid)

    def _watch(self, process: Process) -> None:
        """In the loop's thread: notice the end of the guest, whoever brings it about."""

        def ended() -> None:
            self._guests.gone(process)
            self._loop.unwatch(process.pidfd)
            os.close(process.pidfd)

        self._loop.watch(process.pidfd, READ, ended)

    def _end(self, process: Process, pidfd: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended, and the event loop has reaped it
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        kernel.ended_within(pidfd, 60)
        self._guests.gone(process)
