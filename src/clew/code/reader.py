"""Asking about the code of programs: a process without rights reads the files, this one never does.

Every file of a traced program is hostile.  It is opened here, where that is permitted, and read there, by a
child of the reader process (``reader_process``) with limits on time and memory.  What one user's file does to
its reader touches the answers about that user's files alone: files of different owners are never read by the
same child.
"""

from __future__ import annotations

import json
import os
import pickle
import select
import signal
import socket
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from clew.code.opening import open_code
from clew.kernel import helper

PLACES, NAMES = "clew.code.places", "clew.code.naming"
"""Modules whose functions answer; one that will be asked for is named when the reader is started."""

SECONDS = 20
"""Processor time for one question, if nothing else is said; the wall clock gives it three times as much."""

_TOGETHER = 64
_LONGEST_ANSWER = 256 << 20


@dataclass(frozen=True, slots=True)
class Question:
    """``arguments`` about ``files``, of which the first is meant; each is opened when it is asked."""

    files: tuple[Path, ...]
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found; or why nothing was, in ``refused``.

    ``gave_up``: not because of what the file is, but because reading it went beyond a limit, or crashed.
    """

    value: Any = None
    refused: str = ""
    gave_up: bool = False


class Reader:
    """A reader process, started now, and again should it end.  ``modules`` will be asked."""

    def __init__(self, modules: Sequence[str]) -> None:
        self.modules = modules
        self.owner = os.getpid()
        self._lock = threading.Lock()
        self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            words = (theirs.fileno(), ",".join(self.modules))
            self.pid = helper.start("clew.code.reader_process", [theirs.fileno()], words)
        self._life = os.pidfd_open(self.pid)
        self._socket = ours

    def _has_ended(self) -> bool:
        poll = select.poll()
        poll.register(self._socket, 0)  # it says nothing by it, so that only its end is news
        return bool(poll.poll(0))

    def ask(self, what: str, questions: Sequence[Question], seconds: int = 0) -> list[Answer]:
        """The answer of ``what`` ("module:function") to each question, in order."""
        answers: dict[int, Answer] = {}
        seconds = seconds or SECONDS
        for numbers in _by_owner(questions, answers):
            while numbers:
                done = self._ask_some((what, seconds), [questions[n] for n in numbers])
                answers |= dict(zip(numbers, done, strict=False))
                numbers = numbers[len(done) :]
        return [answers[n] for n in range(len(questions))]

    def _ask_some(self, what: tuple[str, int], questions: Sequence[Question]) -> list[Answer]:
        """Answers to the first of them: up to one that could not be opened, or that its reader fell over."""
        opened: list[list[int]] = []
        refused: Answer | None = None
        try:
            for question in questions:
                try:
                    opened.append(_open_all(question.files))
                except OSError as error:
                    refused = Answer(refused=error.strerror or str(error))
                    break
            told = self._told(what, questions[: len(opened)], opened)
        finally:
            for fd in (fd for fds in opened for fd in fds):
                os.close(fd)
        if len(told) < len(opened):
            return [*told, Answer(None, _ended(what[1]), True)]
        return [*told, refused] if refused else told

    def _told(
        self, what: tuple[str, int], questions: Sequence[Question], opened: list[list[int]]
    ) -> list[Answer]:
        if not questions:
            return []
        pairs = zip(questions, opened, strict=True)
        asked = [(q.arguments, len(fds), os.fspath(q.files[0])) for q, fds in pairs]
        # Files were opened before, by whoever asks: one on a file system that hangs keeps no other waiting.
        with self._lock:
            return self._exchange(pickle.dumps((*what, asked)), opened, 3.0 * what[1])

    def _exchange(self, request: bytes, opened: list[list[int]], patience_s: float) -> list[Answer]:
        if self._has_ended():
            self.close()
            self._start()
        reading, writing = os.pipe2(os.O_CLOEXEC)
        with os.fdopen(reading, "rb", buffering=0) as answers:
            try:
                fds = [writing, *(fd for some in opened for fd in some)]
                socket.send_fds(self._socket, [len(request).to_bytes(4, "little")], fds)
                self._socket.sendall(request)
            except OSError:
                return []
            finally:
                os.close(writing)
            told = list(islice(_answers(_lines(answers.fileno(), patience_s)), len(opened)))
            if len(told) < len(opened) and not select.select([answers], [], [], 0)[0]:
                # It says nothing, nor has it ended: what it waits for may never come.
                self.close()
                self._start()
            return told

    def close(self) -> None:
        """End it."""
        self._socket.close()
        if self.owner == os.getpid():
            with suppress(OSError):
                signal.pidfd_send_signal(self._life, signal.SIGKILL)
                os.waitid(os.P_PIDFD, self._life, os.WEXITED)
        os.close(self._life)

    def forget(self) -> None:
        """In a fork of its owner: leave its descriptors alone, whose numbers may be others' by now."""
        self._socket.detach()


def _ended(seconds: int) -> str:
    return f"reading its code takes more than {seconds} s or too much memory, or makes the reader crash"


def _answers(lines: Iterator[bytes]) -> Iterator[Answer]:
    for line in lines:
        try:
            value, refused, gave_up = json.loads(line)
        except (ValueError, TypeError):
            return
        yield Answer(value, str(refused), bool(gave_up))


def _lines(fd: int, patience_s: float) -> Iterator[bytes]:
    """Whole lines, until the other end closes or says nothing for too long."""
    rest, size = bytearray(), 0
    while select.select([fd], [], [], patience_s)[0] and (data := os.read(fd, 1 << 20)):
        size += len(data)
        if size > _LONGEST_ANSWER:
            return
        rest += data
        if b"\n" in data:
            *lines, last = bytes(rest).split(b"\n")
            rest = bytearray(last)
            yield from lines


def _open_all(files: Sequence[Path]) -> list[int]:
    opened: list[int] = []
    try:
        opened += (open_code(file) for file in files)
    except OSError:
        for fd in opened:
            os.close(fd)
        raise
    return opened


def _by_owner(questions: Sequence[Question], answers: dict[int, Answer]) -> Iterator[list[int]]:
    """Numbers of the questions that one child may answer; what cannot even be looked at is answered here."""
    groups: dict[tuple[int, int], list[int]] = {}
    for number, question in enumerate(questions):
        try:
            found = question.files[0].stat()
        except OSError as error:
            if not isinstance(error, PermissionError):
                answers[number] = Answer(refused=error.strerror or str(error))
                continue
            found = None
        trusted = found is not None and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        key = (found.st_uid, 0) if found is not None and trusted else (-1, number)
        groups.setdefault(key, []).append(number)
    for numbers in groups.values():
        for at in range(0, len(numbers), _TOGETHER):
            yield numbers[at : at + _TOGETHER]


_shared: Reader | None = None
_lock = threading.Lock()


def start(modules: Sequence[str] = (PLACES, NAMES)) -> Reader:
    """This process's reader, which can be asked about ``modules``; where there is none, it is started."""
    global _shared
    with _lock:
        if _shared is not None and _shared.owner != os.getpid():
            _shared.forget()
            _shared = None
        if _shared is not None and not set(modules) <= set(_shared.modules):
            # Without rights it may be unable to import another one.
            modules = (*_shared.modules, *modules)
            _shared.close()
            _shared = None
        if _shared is None:
            _shared = Reader(modules)
        return _shared


def stop() -> None:
    """End this process's reader; whoever asks next starts another one."""
    global _shared
    with _lock:
        if _shared is not None and _shared.owner == os.getpid():
            _shared.close()
        elif _shared is not None:
            _shared.forget()
        _shared = None


def ask(what: str, questions: Sequence[Question], seconds: int = 0) -> list[Answer]:
    """Ask this process's reader; see ``Reader.ask``.  Of several threads one asks at a time."""
    return start((what.partition(":")[0],)).ask(what, questions, seconds) if questions else []
