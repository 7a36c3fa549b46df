"""Lifecycle records made from Python: by the ptrace engine, and for what ran before a recording began."""

from __future__ import annotations

from typing import Any

import numpy as np

from clew.kernel.procfs import ProcessFacts
from clew.model.event import EventKind, LifeFlag
from clew.trace.layout import LIFE, framed

BLOB_MAX = 16384


def pack(kind: EventKind, blob: bytes = b"", **fields: int | bytes) -> bytes:
    """One framed LIFE record with the given fields (others zero) and ``blob`` after it."""
    record = np.zeros(1, LIFE)
    record["kind"] = kind
    if len(blob) > BLOB_MAX:
        blob = blob[:BLOB_MAX]
        fields["flags"] = int(fields.get("flags", 0)) | LifeFlag.CUT
    record["blob_len"] = len(blob)
    for name, value in fields.items():
        record[name] = value
    return framed(record.tobytes() + blob)


def path_blob(path: bytes) -> bytes:
    """A path as EXE_PATH and CWD_PATH carry it: names, innermost first, a NUL after each."""
    return b"".join(name + b"\0" for name in reversed(path.split(b"/")) if name)


def running(facts: ProcessFacts) -> bytes:
    """The records that tell of a process which ran before the recording: all at time 0."""
    pid = facts.stat.tid
    who: dict[str, Any] = {"pid": pid, "start": facts.stat.start_ns, "comm": facts.stat.comm}
    records = [
        pack(EventKind.FORKED, tid=pid, other_tid=facts.stat.parent, other_pid=facts.stat.parent, **who),
        pack(
            EventKind.EXECED,
            facts.exe,
            tid=pid,
            other_tid=pid,
            uid=facts.uid,
            gid=facts.gid,
            ns_mnt=facts.namespaces.mnt,
            ns_pid=facts.namespaces.pid,
            ns_net=facts.namespaces.net,
            **who,
        ),
        pack(EventKind.ARGV, b"".join(arg + b"\0" for arg in facts.argv), tid=pid, **who),
        pack(EventKind.EXE_PATH, path_blob(facts.exe), tid=pid, **who),
        pack(EventKind.CWD_PATH, path_blob(facts.cwd), tid=pid, **who),
    ]
    for thread in facts.threads:
        if thread.tid != pid:
            born: dict[str, Any] = {
                "pid": pid,
                "tid": thread.tid,
                "start": thread.start_ns,
                "comm": thread.comm,
            }
            records.append(
                pack(EventKind.FORKED, other_tid=pid, other_pid=pid, flags=LifeFlag.THREAD, **born)
            )
    return b"".join(records)
