"""The bytes that clew and clew-tracer exchange: what C says of them, and what Python reads."""

from __future__ import annotations

import os
import re
import struct
import subprocess
from pathlib import Path

import pytest

from clew.engine import described
from clew.engine.calls import NOTHING, TABLE_SIZE, SyscallClass, recorded, tracer_table
from clew.engine.engine import RecordRequest
from clew.engine.ptrace import binary
from clew.engine.ptrace.link import Said
from clew.engine.ptrace.mapped import MappedFiles
from clew.engine.ptrace.rings import Rings
from clew.engine.ptrace.settings import settings_file
from clew.errors import EngineError
from clew.kernel.syscalls import number_of
from clew.model.rules.glob import Glob
from clew.model.rules.kernel import pack_glob
from clew.trace.layout import EVENT, LIFE, STACK, framed

HEADER = (binary.SOURCES / "tracer.h").read_text()


def test_every_call_is_read_as_its_line_says() -> None:
    table = tracer_table()
    size = len(NOTHING.packed())
    assert len(table) == TABLE_SIZE * size
    wanted = {"read": SyscallClass.DATA, "bind": SyscallClass.ADDRESS, "getpid": SyscallClass.NONE}
    # Which open was woken is known to the kernel only.
    wanted |= {"mmap": SyscallClass.MMAP, "openat": SyscallClass.NONE}
    assert {name: table[(number_of(name) or 0) * size] for name in wanted} == wanted
    sendto = (number_of("sendto") or 0) * size
    assert table[sendto : sendto + size] == recorded()[sendto // size].packed()


def test_messages_have_the_same_letters() -> None:
    told = set(re.findall(r"SAY_\w+ = '(\w)'", HEADER))
    assert told == {said.value for said in Said} - {""}


@pytest.mark.requires("compiler")
def test_structures_are_laid_out_alike(tmp_path: Path) -> None:
    source = tmp_path / "sizes.c"
    source.write_text(
        f"""#include "{binary.SOURCES / "tracer.h"}"
#include <stdio.h>
int main(void) {{
    printf("%zu %zu %zu %zu %zu\\n", sizeof(struct clew_event), sizeof(struct clew_life),
           sizeof(struct clew_stack), offsetof(struct settings, shapes), offsetof(struct settings, lists));
    return 0;
}}
"""
    )
    (tmp_path / described.NAME).write_text(described.header())
    subprocess.run(["cc", f"-I{tmp_path}", source, "-o", tmp_path / "sizes"], check=True)
    told = subprocess.run([tmp_path / "sizes"], check=True, capture_output=True).stdout.split()
    request = RecordRequest(pids=(7, 8), exclude=(b"a*", b"b"), stack_limit=4096)
    fd = settings_file(request, filtered=True)
    data = os.pread(fd, 1 << 16, 0)
    os.close(fd)
    assert [int(word) for word in told] == [
        EVENT.itemsize,
        LIFE.itemsize,
        STACK.itemsize,
        struct.calcsize("<6I"),
        struct.calcsize("<6I") + len(tracer_table()),
    ]
    assert struct.unpack_from("<6I", data) == (3, 1, 4096, 1, 2, 2)
    assert data[int(told[4]) :] == struct.pack("<2I", 7, 8) + b"".join(
        pack_glob(Glob.parse(glob)) for glob in ("a*", "b")
    )


def _put(rings: Rings, ring: int, data: bytes) -> None:
    """As tracer/ring.c writes: bytes that may go on at the beginning."""
    header = rings._header
    head, _, size, at = header[ring * 4 : ring * 4 + 4]
    for i, byte in enumerate(data):
        rings._bytes[at + (head + i) % size] = byte
    header[ring * 4] = head + len(data)


def test_a_ring_is_drained_across_its_end() -> None:
    rings = Rings(4096)
    taken: list[bytes] = []
    for turn in range(10):
        part = bytes([turn]) * 1000
        _put(rings, 0, part)
        assert rings.drain("events", lambda data: taken.append(bytes(data))) == 1000
        assert rings.drain("events", lambda data: taken.append(bytes(data))) == 0
    assert b"".join(taken) == b"".join(bytes([turn]) * 1000 for turn in range(10))
    assert len(taken) == 12  # twice the range went round the end
    rings.close()


def test_what_a_sink_refuses_stays() -> None:
    rings = Rings(4096)
    _put(rings, 1, b"x" * 64)

    def refuse(_: memoryview) -> None:
        raise OSError

    with pytest.raises(OSError):
        rings.drain("lifecycle", refuse)
    assert rings.drain("lifecycle", lambda data: None) == 64
    rings.close()


def test_mappings_cut_anywhere_are_put_together() -> None:
    paths = [b"/no/such/file", b"[vdso]", b"/also/none"]
    records = b"".join(
        framed(struct.pack("<QQQQII", 5, 4096 * i, 4096 * i + 10, 64, 77, len(path)) + path)
        for i, path in enumerate(paths)
    )
    for cut in range(len(records)):
        files = MappedFiles()
        found = [*files.take(memoryview(records[:cut])), *files.take(memoryview(records[cut:]))]
        assert [(pid, m.start, m.file_offset, m.path, m.since_ns) for pid, m in found] == [
            (77, 4096 * i, 64, path, 5) for i, path in enumerate(paths)
        ]


@pytest.mark.requires("compiler")
def test_a_tracer_that_does_not_compile_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wrong.c").write_text("int main(void) { return missing; }\n")
    monkeypatch.setattr(binary, "SOURCES", tmp_path)
    with pytest.raises(EngineError) as caught:
        binary.build(tmp_path / "cache" / "tracer")
    assert "missing" in caught.value.log
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.requires("compiler")
def test_a_tracer_that_others_could_have_written_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(binary, "NAME", "clew-tracer-of-this-test")
    built = binary.executable()
    before = built.stat().st_ino
    assert binary.executable().stat().st_ino == before
    built.chmod(0o777)
    assert binary.executable().stat().st_ino != before
    built.parent.chmod(0o777)
    with pytest.raises(EngineError, match="Others may write"):
        binary.executable()


def test_no_compiler_and_no_tracer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "compiler", list)
    with pytest.raises(EngineError, match="no C compiler"):
        binary.build(tmp_path / "tracer")


@pytest.mark.parametrize("how", ["open", "another's"])
def test_no_program_is_kept_below_a_folder_that_others_may_change(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own folder is private; but whoever may write to one above it puts another in its place."""
    if how == "another's" and os.geteuid():
        pytest.skip("needs root")
    above = tmp_path / "above"
    above.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(above / "cache"))
    built = binary.executable()
    assert built.parent == above / "cache" / "clew"
    if how == "open":
        above.chmod(0o777)
    else:
        os.chown(above, 65534, 65534)
    with pytest.raises(EngineError, match="Others may write"):
        binary.executable()


@pytest.mark.requires("compiler")
def test_the_tracer_compiles_without_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "FLAGS", (*binary.FLAGS, "-Werror"))
    binary.build(tmp_path / "cache" / "tracer")
