"""ELF files of this machine as readelf and nm see them, and files that are none."""

from __future__ import annotations

import os
import random
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clew.code.elf import ElfError, ElfFile
from clew.code.elf_symbols import STB_GLOBAL, STT_FUNC, STT_GNU_IFUNC

pytestmark = pytest.mark.requires("compiler")

SOURCE = """
__attribute__((noinline, noipa)) int shared(int n) { return n + 1; }
__attribute__((noinline, noipa)) static int hidden(int n) { return n + 2; }
int also(int) __attribute__((alias("shared")));
int not_code = 7;
int main(int n, char **v) { return shared(n) + hidden(n); }
"""
KINDS: dict[str, tuple[str, ...]] = {
    "pie": ("-pie",),
    "no-pie": ("-no-pie",),
    "static": ("-static",),
    "static-pie": ("-static-pie",),
    "library": ("-shared", "-fPIC"),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def built(folder: Path, *flags: str) -> Path:
    source, program = folder / "program.c", folder / "program"
    source.write_text(SOURCE)
    subprocess.run(["gcc", "-O1", "-w", "-Wl,--build-id", *flags, source, "-o", program], check=True)
    return program


def told(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


def test_build_id_entry_and_interpreter_are_those_readelf_prints(tmp_path: Path, kind: str) -> None:
    program = built(tmp_path, *KINDS[kind])
    elf = ElfFile.open(program)
    described = told("readelf", "-hlnW", program)
    assert elf.build_id.hex() == re.findall(r"Build ID: (\w+)", described)[0]
    assert elf.entry == int(re.findall(r"Entry point address:\s+(\w+)", described)[0], 16)
    interpreters = re.findall(r"program interpreter: (\S+)\]", described)
    assert elf.interp.decode() == (interpreters[0] if interpreters else "")


def test_knows_programs_from_libraries(tmp_path: Path, kind: str) -> None:
    elf = ElfFile.open(built(tmp_path, *KINDS[kind]))
    assert elf.is_pie == (kind in ("pie", "static-pie"))
    assert elf.is_static == (kind in ("static", "static-pie"))


def test_a_library_with_an_interpreter_is_no_program() -> None:
    libc = next((p for p in map(Path, re.findall(r"/\S*libc\.so\S*", told("ldd", sys.executable)))), None)
    if libc is None:
        pytest.skip("this Python does not use a shared libc")
    elf = ElfFile.open(libc)
    assert elf.interp
    assert not elf.is_pie
    assert not elf.is_static


def test_symbols_are_those_nm_prints(tmp_path: Path, kind: str) -> None:
    program = built(tmp_path, *KINDS[kind])
    table = ElfFile.open(program).symtab
    listed = re.findall(r"^(\w{16})(?: (\w{16}))? [TtWi] (\S+)$", told("nm", "-S", program), re.MULTILINE)
    assert len(listed) > 5
    for value, size, name in listed:
        plain = name.partition("@")[0].encode()
        found = {(s.value, s.size) for s in table.named(plain)}
        assert (int(value, 16), int(size or "0", 16)) in found, name


def test_finds_the_function_at_each_of_its_addresses(tmp_path: Path) -> None:
    table = ElfFile.open(built(tmp_path)).symtab
    (hidden,) = table.named(b"hidden")
    assert (hidden.type, hidden.size > 0) == (STT_FUNC, True)
    inside = {table.at(a) for a in range(hidden.value, hidden.value + hidden.size)}
    assert inside == {hidden}
    after = table.at(hidden.value + hidden.size)
    assert after != hidden
    before = table.at(hidden.value - 1)
    assert before != hidden


def test_prefers_the_plain_and_exported_of_two_names(tmp_path: Path) -> None:
    table = ElfFile.open(built(tmp_path)).symtab
    (shared,), (also,) = table.named(b"shared"), table.named(b"also")
    assert shared.value == also.value
    found = table.at(shared.value)
    assert found is not None
    assert (found.name, found.bind) == (b"also", STB_GLOBAL)


def test_data_never_names_code(tmp_path: Path) -> None:
    table = ElfFile.open(built(tmp_path)).symtab
    (data,) = table.named(b"not_code")
    assert table.at(data.value) is None


def test_a_stripped_program_keeps_only_dynamic_symbols(tmp_path: Path) -> None:
    elf = ElfFile.open(built(tmp_path, "-s", "-rdynamic"))
    assert len(elf.symtab) == 0
    assert elf.dynsym.named(b"shared")
    assert not elf.dynsym.named(b"hidden")
    assert not elf.dynsym.named(b"__libc_start_main"), "it is imported, not defined"


def test_between_the_symbols_of_a_stripped_file_there_is_no_name(tmp_path: Path) -> None:
    whole, stripped = tmp_path / "whole", tmp_path / "stripped"
    shutil.copy(built(tmp_path, "-rdynamic"), whole)
    subprocess.run(["strip", "-o", stripped, whole], check=True)
    (hidden,) = ElfFile.open(whole).symtab.named(b"hidden")
    assert ElfFile.open(stripped).dynsym.at(hidden.value) is None


def test_part_of_a_name_is_not_found(tmp_path: Path) -> None:
    table = ElfFile.open(built(tmp_path)).symtab
    assert not table.named(b"hidde")
    assert not table.named(b"idden")
    assert not table.named(b"")


def test_versions_are_no_part_of_names() -> None:
    libc = Path(re.findall(r"/\S*libc\.so\S*", told("ldd", sys.executable))[0])
    table = ElfFile.open(libc).dynsym
    assert {s.type for s in table.named(b"write")} <= {STT_FUNC, STT_GNU_IFUNC}
    assert table.named(b"write")
    assert not any(b"@" in s.name for s in table)


def test_file_offset_is_where_the_code_is(tmp_path: Path, kind: str) -> None:
    program = built(tmp_path, *KINDS[kind])
    elf = ElfFile.open(program)
    (shared,) = elf.symtab.named(b"shared")
    offset = elf.file_offset(shared.value)
    assert offset is not None
    code = program.read_bytes()[offset : offset + shared.size]
    assert code == elf.code_at(shared.value, shared.size)
    limits = (f"--start-address={shared.value}", f"--stop-address={shared.value + shared.size}")
    dump = re.findall(
        r"^ [0-9a-f]+ ((?:[0-9a-f]+ )+) ", told("objdump", "-s", *limits, program), re.MULTILINE
    )
    assert bytes.fromhex("".join(dump)) == code
    assert elf.file_offset(2**63) is None


def test_bias_is_the_same_for_every_executable_mapping(tmp_path: Path) -> None:
    elf = ElfFile.open(built(tmp_path))
    code = next(s for s in elf.segments if s.flags & 1 and s.filesz)
    page = code.offset & -4096
    assert elf.bias(0x7F0000000000 + page, page) == 0x7F0000000000 - code.vaddr + code.offset
    assert elf.bias(0x7F0000000000, 1 << 40) is None


def test_reads_32_bit_files(tmp_path: Path) -> None:
    source, program = tmp_path / "p.s", tmp_path / "p"
    source.write_text(".globl _start\n.type _start, @function\n_start: nop\n nop\n.size _start, 2\n")
    subprocess.run(["as", "--32", source, "-o", tmp_path / "p.o"], check=True)
    subprocess.run(["ld", "-m", "elf_i386", "--build-id", tmp_path / "p.o", "-o", program], check=True)
    elf = ElfFile.open(program)
    assert (elf.bits, elf.is_static) == (32, True)
    (start,) = elf.symtab.named(b"_start")
    assert (start.value, start.size) == (elf.entry, 2)
    assert elf.symtab.at(start.value + 1) == start
    assert elf.code_at(start.value, 2) == b"\x90\x90"
    assert len(elf.build_id) == 20


def contents(elf: ElfFile) -> Iterator[object]:
    """Everything that can be asked of a file, each on its own: one damaged table spares the others."""
    questions = (
        lambda: elf.segments,
        lambda: elf.sections,
        lambda: elf.build_id,
        lambda: elf.interp,
        lambda: (elf.is_pie, elf.is_static),
        lambda: [elf.symtab.at(a) for a in (0, 0x1139, 0x401136, 2**64 - 1)],
        lambda: [elf.dynsym.at(a) for a in (0, 0x1139, 0x401136, 2**64 - 1)],
        lambda: list(elf.symtab),
        lambda: elf.symtab.named(b"hidden"),
        lambda: elf.bias(0x7F0000000000, 0x1000),
        lambda: [elf.code_at(a, 8) for a in (0, 0x1139, 0x401136, 2**64 - 1)],
    )
    for question in questions:
        try:
            yield question()
        except ElfError as error:
            assert str(error).startswith(elf.name)


@pytest.mark.parametrize("seed", range(8))
def test_damaged_files_raise_nothing_but_elf_error(tmp_path: Path, seed: int) -> None:
    good = built(tmp_path, "-g").read_bytes()
    chance = random.Random(seed)
    (section_headers,) = struct.unpack_from("<Q", good, 40)
    damaged = tmp_path / "damaged"
    answers = 0
    for _ in range(300):
        image = bytearray(good[: chance.randrange(len(good))] if chance.random() < 0.3 else good)
        for _ in range(chance.choice((1, 3, 30, 300))):
            where = chance.choice((chance.randrange(1024), section_headers + chance.randrange(2048)))
            value = chance.choice((b"\xff" * 8, bytes(8), chance.randbytes(1), chance.randbytes(8)))
            if where + len(value) <= len(image):
                image[where : where + len(value)] = value
        damaged.write_bytes(image)
        try:
            elf = ElfFile.open(damaged)
        except ElfError:
            continue
        answers += sum(1 for _ in contents(elf))
    assert answers > 300, "most damage leaves something to read"


def test_other_things_are_no_elf_files(tmp_path: Path) -> None:
    empty, text, fifo = tmp_path / "empty", tmp_path / "text", tmp_path / "fifo"
    empty.touch()
    text.write_text("#!/bin/sh\n" * 10)
    os.mkfifo(fifo)
    for path in (empty, text, fifo, tmp_path):
        with pytest.raises(ElfError, match=re.escape(str(path))):
            ElfFile.open(path)
    with pytest.raises(FileNotFoundError):
        ElfFile.open(tmp_path / "missing")


def test_a_sparse_giant_is_not_read_into_memory(tmp_path: Path) -> None:
    program = built(tmp_path)
    elf = ElfFile.open(program)
    index = next(i for i, s in enumerate(elf.sections) if s.name == b".symtab")
    image = bytearray(program.read_bytes())
    (section_headers,) = struct.unpack_from("<Q", image, 40)
    struct.pack_into("<QQ", image, section_headers + 64 * index + 24, 0, 1 << 40)
    program.write_bytes(image)
    os.truncate(program, 1 << 41)
    with pytest.raises(ElfError, match="1099511627776"):
        _ = ElfFile.open(program).symtab


def test_a_file_replaced_between_two_reads_is_noticed(tmp_path: Path) -> None:
    program = built(tmp_path)
    elf = ElfFile.open(program)
    other = tmp_path / "other"
    shutil.copy(program, other)
    other.replace(program)
    with pytest.raises(ElfError, match="replaced"):
        _ = elf.segments
