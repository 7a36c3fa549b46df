"""What a worker does with a request: parse it into a command, carry that out, word the reply.

libvirt: ``virNetServerProgramDispatchCall``, and the driver behind it: ``qemuDomainDefineXML``,
``qemuDomainCreate`` (start), ``qemuDomainDestroy``, ``qemuConnectListAllDomains``.
"""

from __future__ import annotations

import json
import os
import signal
import traceback

from minivirt import journal, kernel
from minivirt.command import Command, Define, Destroy, List, Start, parse
from minivirt.errors import Refused
from minivirt.guests import Definition, Guests, Process
from minivirt.launcher import Launcher

Reply = dict[str, object]


class Dispatcher:
    """``grace_s``: how long a guest may take to end when asked, before it is killed."""

    def __init__(self, guests: Guests, launcher: Launcher, grace_s: float) -> None:
        self._guests = guests
        self._launcher = launcher
        self._grace_s = grace_s

    def handle(self, request: bytes) -> bytes:
        """The reply to a request, whatever that is: ``{"error": …}`` if it cannot be done."""
        try:
            command = parse(request)
            journal.note("parse", command=type(command).__name__.lower())
            reply = self._do(command)
        except Refused as error:
            reply = {"error": str(error)}
        except Exception as error:
            traceback.print_exc()  # into the daemon's log; the other requests go on
            reply = {"error": f"the daemon failed at this request: {error}"}
        return json.dumps(reply).encode()

    def _do(self, command: Command) -> Reply:
        match command:
            case Define(name, memory_mib):
                self._guests.define(Definition(name, memory_mib))
                return {}
            case Start(name):
                return self._start(name)
            case Destroy(name):
                return self._destroy(name)
            case List(every):
                return {"guests": self._guests.listed(every)}

    def _start(self, name: str) -> Reply:
        definition = self._guests.reserve(name)
        try:
            return self._launcher.hand_on(definition)
        finally:
            self._guests.start_over(name)

    def _destroy(self, name: str) -> Reply:
        process, pidfd = self._guests.destroy(name)
        try:
            end(process, pidfd, self._grace_s)
        finally:
            os.close(pidfd)
        self._guests.gone(process)
        return {"pid": process.pid}


def end(process: Process, pidfd: int, grace_s: float) -> None:
    """Ask a guest to end; kill it if it does not. libvirt: ``virProcessKillPainfully``."""
    for number, patience in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 60.0)):
        try:
            signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            return
        if kernel.ended_within(pidfd, patience):
            return
    raise Refused(f"guest '{process.name}' (pid {process.pid}) cannot be killed: the kernel holds on to it")
