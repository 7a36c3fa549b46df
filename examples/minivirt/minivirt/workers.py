"""The pool: 16 threads that take requests from one queue.

libvirt: ``virThreadPool`` (``virThreadPoolSendJob`` puts a job, ``virThreadPoolWorker`` takes it), with
the worker threads that ``ps -L`` shows as rpc-libvirtd.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from minivirt import journal, kernel

WORKERS = 16


@dataclass(frozen=True, slots=True)
class Job:
    """A request, still unread bytes, and what to do with the reply (called in the worker's thread)."""

    request: bytes
    reply: Callable[[bytes], None]


class JobQueue:
    """First in, first out, on a condition variable: an idle worker sleeps on it, ``put`` wakes one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._jobs: deque[Job] = deque()
        self._closed = False

    def put(self, job: Job) -> None:
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()

    def take(self) -> Job | None:
        """The next job, waiting for one; None once the queue is closed."""
        with self._changed:
            while not self._jobs and not self._closed:
                self._changed.wait()
            return None if self._closed else self._jobs.popleft()

    def close(self) -> None:
        """Forget the jobs that nobody has taken, and let every worker go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class WorkerPool:
    """Threads that answer each job with ``handle(request)``."""

    def __init__(self, queue: JobQueue, handle: Callable[[bytes], bytes]) -> None:
        self._queue = queue
        self._handle = handle
        self._threads = [
            threading.Thread(target=self._work, args=(f"rpc-worker-{n}",), daemon=True)
            for n in range(WORKERS)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Close the queue and wait until every worker has finished what it was doing."""
        self._queue.close()
        for thread in self._threads:
            thread.join()

    def _work(self, name: str) -> None:
        kernel.name_thread(name)
        while (job := self._queue.take()) is not None:
            journal.note("take job", thread=name)
            job.reply(self._handle(job.request))
