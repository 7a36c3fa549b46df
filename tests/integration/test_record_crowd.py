"""More tasks than processors, none of which waits for long: every call of each is told, with its own stack.

A kernel that lets tasks be preempted amid our programs (probes/events.bpf.h) passed calls over.
"""

from __future__ import annotations

import os
import subprocess

import numpy as np
import pytest

from clew.engine.bpf.recorder import BpfEngine
from clew.engine.engine import RecordRequest
from clew.trace.reader import Trace
from clew.trace.spool import SpoolWriter

pytestmark = pytest.mark.requires("root", "bpf", "compiler")

TASKS, ROUNDS, BIRTHS = 8, 1000, 20
MARK = 0x4C1E
PROGRAM = r"""
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
/* Words that say whose stack this is, and that change, so that it is copied again. */
static void talk(int round, int births, char **argv) {
    volatile uint64_t mark[64];
    int ends[2];
    char byte = 0;
    if (pipe(ends)) _exit(3);
    for (int i = 0; i < round; i++) {
        for (int at = 0; at < 64; at++) mark[at] = MARK << 32 | (uint64_t)getpid() << 8 | (i / 8 & 255);
        if (write(ends[1], &byte, 1) != 1 || read(ends[0], &byte, 1) != 1) _exit(4);
        if (i % (round / births)) continue;
        pid_t child = fork();
        if (!child) { execl(argv[0], argv[0], NULL); _exit(5); }
        if (waitpid(child, NULL, 0) != child) _exit(6);
    }
}
int main(int argc, char **argv) {
    if (argc < 2) return 0;
    int tasks = atoi(argv[1]), status, wrong = 0;
    for (int i = 0; i < tasks; i++)
        if (!fork()) { talk(atoi(argv[2]), atoi(argv[3]), argv); _exit(0); }
    while (wait(&status) > 0) wrong |= status;
    return wrong != 0;
}
"""


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    folder = tmp_path_factory.mktemp("crowd")
    (folder / "crowd.c").write_text(PROGRAM)
    program = folder / "crowd"
    compiler = ["cc", "-O1", f"-DMARK={MARK:#x}ull", str(folder / "crowd.c"), "-o", str(program)]
    subprocess.run(compiler, check=True)
    spool = SpoolWriter(folder / "T")
    spool.write_meta(pids=[])
    words = (program, TASKS, ROUNDS, BIRTHS)
    request = RecordRequest(
        command=tuple(os.fsencode(str(word)) for word in words), scope="tree", buffer_bytes=1 << 26
    )
    outcome = BpfEngine().record(request, spool, lambda: False)
    assert outcome.wait_status == 0
    spool.write_meta(finished=True, lost=outcome.lost)
    spool.close()
    return Trace(folder / "T")


def test_every_call_birth_and_death_is_recorded(trace: Trace) -> None:
    # A slow machine may not keep up with copies of stacks; it says how many.
    assert {kind: count for kind, count in trace.lost.items() if kind != "stack"} == {}
    births = TASKS * BIRTHS
    expected = {
        "send": TASKS * ROUNDS,
        "recv": TASKS * ROUNDS,
        "forked": TASKS + births,
        "execed": 1 + births,
        "exited": 1 + TASKS + births,
    }
    assert {kind: trace.recorded.get(kind, 0) for kind in expected} == expected


def test_each_stack_is_its_own_tasks(trace: Trace) -> None:
    marked = 0
    for number in np.unique(trace.events["stack"]):
        sample = trace.stack(int(number))
        if sample is None:
            continue
        words = np.frombuffer(sample.data, "<u8")
        owners = np.unique(words[words >> 32 == MARK] >> 8 & 0xFFFFFF)
        owners = owners[owners > 0]  # the mark alone may lie there too
        assert set(owners.tolist()) <= {sample.pid}, f"stack {number}"
        marked += bool(len(owners))
    assert marked >= TASKS
