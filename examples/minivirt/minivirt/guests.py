"""Which guests there are, and the processes of those that run. Shared by all threads, under one lock.

libvirt: ``virDomainObjList``; the definitions on disk are its ``/etc/libvirt/qemu/*.xml``.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from minivirt.errors import Refused


@dataclass(frozen=True, slots=True)
class Definition:
    name: str
    memory_mib: int


@dataclass(frozen=True, slots=True)
class Process:
    """A guest's process. ``pidfd`` stays open until the event loop has seen the process end."""

    name: str
    pid: int
    pidfd: int


class Guests:
    """A guest is shut off, then *starting* (reserved by one worker), then running."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._starting: set[str] = set()
        self._processes: dict[str, Process] = {}
        self._closed = False
        folder.mkdir(mode=0o700, exist_ok=True)
        self._defined = {file.stem: _load(file) for file in sorted(folder.glob("*.json"))}

    def define(self, definition: Definition) -> None:
        """Keep a definition, on disk too. One of the same name is replaced; it counts from the next start."""
        with self._lock:
            file = self._folder / f"{definition.name}.json"
            draft = file.with_suffix(".new")
            draft.write_text(json.dumps(asdict(definition)))
            draft.replace(file)
            self._defined[definition.name] = definition

    def reserve(self, name: str) -> Definition:
        """Begin to start a guest: the caller alone may now do so, and must say ``start_over`` at the end."""
        with self._lock:
            if name not in self._defined:
                raise Refused(f"there is no guest '{name}': define it first")
            if name in self._starting or name in self._processes:
                raise Refused(f"guest '{name}' is already running")
            self._starting.add(name)
            return self._defined[name]

    def start_over(self, name: str) -> None:
        """The start of a guest has ended, well or not."""
        with self._lock:
            self._starting.discard(name)

    def born(self, process: Process) -> None:
        """A guest's process was forked. Raises ``Refused`` if the daemon is about to end: the caller
        then has to end the process, and say so (``gone``)."""
        with self._lock:
            self._processes[process.name] = process
            if self._closed:
                raise Refused("the daemon is stopping")

    def gone(self, process: Process) -> None:
        """A guest's process has ended: reap it. Says nothing if another thread came first."""
        with self._lock:
            if self._processes.get(process.name) is process:
                del self._processes[process.name]
                os.waitpid(process.pid, 0)

    def destroy(self, name: str) -> tuple[Process, int]:
        """The process of a running guest and a pidfd of it for the caller to close."""
        with self._lock:
            process = self._processes.get(name)
            if process is None:
                known = name in self._defined
                raise Refused(f"guest '{name}' is not running" if known else f"there is no guest '{name}'")
            return process, os.dup(process.pidfd)

    def listed(self, every: bool) -> list[dict[str, object]]:
        """Name, state and pid of the guests that run; with ``every`` the others too, whose pid is None."""
        with self._lock:
            names = set(self._processes) | self._starting | (set(self._defined) if every else set())
            return [self._row(name) for name in sorted(names)]

    def any_up(self) -> bool:
        with self._lock:
            return bool(self._processes or self._starting)

    def close(self) -> list[Process]:
        """Let no further guest be born; the processes that are left to end."""
        with self._lock:
            self._closed = True
            return list(self._processes.values())

    def _row(self, name: str) -> dict[str, object]:
        process = self._processes.get(name)
        state = "starting" if name in self._starting else "running" if process else "shut off"
        return {"name": name, "state": state, "pid": process.pid if process else None}


def _load(file: Path) -> Definition:
    try:
        fields = json.loads(file.read_text())
        return Definition(str(fields["name"]), int(fields["memory_mib"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refused(f"the definition {file} cannot be read ({error}): mend or remove it") from None
