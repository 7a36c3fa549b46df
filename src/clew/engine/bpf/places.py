"""Where uprobes of rules are, and whose of them are out of programs' memory for the moment.

A uprobe belongs to a file, and its ``int3`` is in every process that maps it: the kernel knows no exception
for one process, and takes whatever ``int3`` it meets at that address for its own (find_active_uprobe(),
kernel/events/uprobes.c).  So while a debugger works on a file's code, the file has none of ours.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass

from clew.engine.bpf.libbpf import Link
from clew.engine.stops import FileId

Attach = Callable[[bytes, int, int], Link]


@dataclass(slots=True)
class _Site:
    """One uprobe; ``link`` is None while its file is set aside."""

    rule: int
    file: FileId
    offset: int
    cookie: int
    link: Link | None = None


class Places:
    """All uprobes of a session.  ``attach(path, offset, cookie)`` makes one.

    A file is held open as long as it has places: they stay those of the file that was read, whatever
    its name leads to later.
    """

    def __init__(self, attach: Attach) -> None:
        self._attach = attach
        self._sites: list[_Site] = []
        self._open: dict[FileId, int] = {}
        self._aside: frozenset[FileId] = frozenset()

    def add(self, rule: int, path: bytes, offset: int, cookie: int) -> None:
        """Attach at a byte of the file at ``path``, unless the file is set aside.  Raises EngineError."""
        site = _Site(rule, self._held_open(path), offset, cookie)
        if site.file not in self._aside:
            self._join(site)
        self._sites.append(site)

    def drop(self, rule: int, file: FileId | None = None) -> None:
        """Take out what belongs to a rule, or what of it is in ``file``."""
        gone = [site for site in self._sites if site.rule == rule and file in (None, site.file)]
        self._sites = [site for site in self._sites if site not in gone]
        for site in gone:
            _part(site)
        for unused in self._open.keys() - {site.file for site in self._sites}:
            os.close(self._open.pop(unused))

    def set_aside(self, files: Collection[FileId]) -> set[int]:
        """Take out what is in these files, and put back what is in any other; the rules that lack places."""
        self._aside = frozenset(files)
        for site in self._sites:
            if site.file in self._aside:
                _part(site)
            elif site.link is None:
                self._join(site)
        return {site.rule for site in self._sites if site.link is None}

    def rules(self) -> set[int]:
        """Rules that have places."""
        return {site.rule for site in self._sites}

    def close(self) -> None:
        """Take out everything."""
        for rule in self.rules():
            self.drop(rule)

    def _held_open(self, path: bytes) -> FileId:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        status = os.fstat(fd)
        identity = (status.st_dev, status.st_ino)
        if self._open.setdefault(identity, fd) != fd:
            os.close(fd)
        return identity

    def _join(self, site: _Site) -> None:
        site.link = self._attach(b"/proc/self/fd/%d" % self._open[site.file], site.offset, site.cookie)


def _part(site: _Site) -> None:
    if site.link is not None:
        site.link.close()
        site.link = None
