"""Files whose tables lie: what asks about them goes on in time, says so, and has the others' answers."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from clew.code import reader
from clew.code.elf import ElfError, ElfFile
from clew.code.line_table import find_line
from clew.code.reader import Question, Reader
from clew.errors import SymbolNotFound
from clew.hold.code import Code
from clew.hold.files import CodeFile
from clew.hold.functions import find_function
from clew.hold.source_lines import find_source_line
from clew.model.rules import Function, Glob, SourceLine

SOURCE = """\
static int hidden(int n) {
    return n + 1;
}
int main(int argc, char **argv) {
    (void)argv;
    return hidden(argc);
}
"""
LINE = SourceLine(b"place.c", 2)
Change = Callable[[bytearray, ElfFile], None]

pytestmark = pytest.mark.requires("compiler")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "place.c").write_text(SOURCE)
    subprocess.run(["cc", "-O0", "-gdwarf-5", "place.c", "-o", "place"], cwd=folder, check=True)
    return folder / "place"


def with_lines(program: Path, place: Path, table: bytes) -> Path:
    """A copy of the program with another .debug_line; ``place.c`` is among its strings."""
    content = place.with_suffix(".lines")
    content.write_bytes(table)
    update = f".debug_line={content}"
    subprocess.run(["objcopy", "--update-section", update, program, place], check=True)
    return place


def header_5(count: bytes, formats: bytes = b"\0") -> bytes:
    """A DWARF 5 line table whose list of folders has these formats, and this count."""
    rest = bytes((1, 1, 1, 0xFB, 14, 1)) + formats + count + b"place.c\0" + bytes(64)
    body = struct.pack("<HBBI", 5, 8, 0, len(rest)) + rest
    return struct.pack("<I", len(body)) + body


ENDLESS = {
    "a length that is cut off": b"place.c\0" + b"\xff\xff\xff\xff\1\2\3",
    "2^70 folders of no format": header_5(b"\xff" * 10 + b"\x01"),
    "2^63 folders of one byte": header_5(b"\xff" * 9 + b"\x00", formats=b"\1\1\x0b"),
    "a unit of no length": bytes(4096) + b"place.c\0",
}


@pytest.mark.parametrize("how", ENDLESS)
def test_a_line_table_without_end_has_one(how: str, program: Path, tmp_path: Path) -> None:
    broken = with_lines(program, tmp_path / "broken", ENDLESS[how])
    used = time.process_time()
    with ElfFile.open(broken) as elf:
        assert find_line(elf, LINE).addresses == []
    # No question of speed: what went on for hours is over.
    assert time.process_time() - used < 10


def test_lines_are_found_beside_a_file_that_lies(program: Path, tmp_path: Path) -> None:
    broken = with_lines(program, tmp_path / "broken", ENDLESS["2^70 folders of no format"])
    files = [CodeFile(os.fsencode(path), path) for path in (broken, program)]
    (place,) = find_source_line("at:place.c:2", LINE, files, Code())
    assert place.file.path == program


def _sections(change: Callable[[bytearray, int], None], *names: bytes) -> Change:
    """Change the bytes of these sections' headers."""

    def apply(image: bytearray, elf: ElfFile) -> None:
        (at,) = struct.unpack_from("<Q", image, 40)
        for number, section in enumerate(elf.sections):
            if section.name in names:
                change(image, at + 64 * number)

    return apply


def _sparse_strings(image: bytearray, elf: ElfFile) -> None:
    """The symbols' names lie in a sparse end of the file, one name of a hundred megabytes."""
    grown, size = len(image), 100 << 20

    def point(image: bytearray, header: int) -> None:
        struct.pack_into("<QQ", image, header + 24, grown, size)

    _sections(point, b".strtab", b".dynstr")(image, elf)


def test_long_names_of_symbols_do_not_take_long(program: Path, tmp_path: Path) -> None:
    image = bytearray(program.read_bytes())
    _sparse_strings(image, ElfFile.open(program))
    broken = tmp_path / "broken"
    with broken.open("wb") as file:
        file.write(image)
        file.write(b"h" * (100 << 20))
    (answer,) = Reader((reader.PLACES,)).ask(
        "clew.code.places:functions", [Question((broken,), (Function(Glob.parse("hidden")),))]
    )
    assert not answer.value or answer.value["places"] == []


def test_a_frame_table_of_half_a_gigabyte_is_not_read(program: Path, tmp_path: Path) -> None:
    """Whoever unwinds reads it outside of the reader, and keeps two copies."""
    from clew.stack.cfi import frame_table

    image = bytearray(program.read_bytes())
    grown, size = len(image), 1 << 29
    _sections(lambda image, header: struct.pack_into("<QQ", image, header + 24, grown, size), b".eh_frame")(
        image, ElfFile.open(program)
    )
    broken = tmp_path / "broken"
    broken.write_bytes(image)
    os.truncate(broken, grown + size)
    with pytest.raises(ElfError, match="too large"):
        frame_table(ElfFile.open(broken))


@pytest.fixture
def in_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader gives up after a second, so that the tests need not wait."""
    monkeypatch.setattr(reader, "SECONDS", 1)


def _many_symbols(folder: Path) -> Path:
    """Two million names that all end alike and are compared one by one: too much for a second."""
    rows = b"".join(struct.pack("<IBBHQQ", 1 + n % 30_000, 0x12, 0, 1, 0x1000, 1) for n in range(500_000))
    names = b"\0_Z" + b"hidn" * 15_000 + b"\0"
    return _elf_of(folder / "many", rows * 4, names)


def _elf_of(path: Path, symbols: bytes, names: bytes) -> Path:
    sections = b"\0.text\0.symtab\0.strtab\0"
    at = 64
    places = [at, at + len(symbols), at + len(symbols) + len(names)]
    table = places[2] + len(sections)

    def section(name: int, kind: int, flags: int, offset: int, size: int, link: int, each: int) -> bytes:
        address = 0x1000 if flags else 0
        return struct.pack("<IIQQQQIIQQ", name, kind, flags, address, offset, size, link, 0, 1, each)

    headers = bytes(64)
    headers += section(1, 1, 6, 0, 64, 0, 0)
    headers += section(7, 2, 0, places[0], len(symbols), 3, 24)
    headers += section(15, 3, 0, places[1], len(names), 0, 0)
    headers += section(15, 3, 0, places[2], len(sections), 0, 0)
    ident = b"\x7fELF\2\1\1".ljust(16, b"\0")
    head = ident + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, table, 0, 64, 56, 0, 64, 5, 4)
    path.write_bytes(head + symbols + names + sections + headers)
    return path


@pytest.mark.usefixtures("in_a_moment")
def test_what_takes_too_long_is_given_up_and_said(program: Path, tmp_path: Path) -> None:
    many = _many_symbols(tmp_path)
    files = [CodeFile(os.fsencode(path), path) for path in (many, program)]
    code = Code()
    glob = Function(Glob.parse("hid*n"))
    (place,) = find_function("call:hid*n", glob, files, code)
    assert place.file.path == program
    (said,) = code.complaints(files)
    assert "many: reading its code takes more than 1 s" in said
    with pytest.raises(SymbolNotFound, match="takes more than 1 s"):
        find_function("call:hid*n", glob, files[:1], Code())


ASKED: tuple[tuple[str, tuple[object, ...]], ...] = (
    ("clew.code.places:functions", (Function(Glob.parse("hid*")),)),
    ("clew.code.places:source_line", (LINE,)),
    ("clew.code.places:syscalls", ([1, 60],)),
    ("clew.code.places:needed", ()),
    ("clew.code.places:loader_hook", ()),
    ("clew.code.places:build_id", ()),
    ("clew.code.naming:names", (list(range(0x1000, 0x1300, 16)),)),
    ("clew.code.naming:lines", ("", list(range(0x1000, 0x1300, 16)))),
    ("clew.code.naming:standing", (0x1100,)),
)


def _mutated(image: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, of the headers, the tables or anywhere; or cut; or with a part moved."""
    changed = bytearray(image)
    (sections,) = struct.unpack_from("<Q", image, 40)
    aims = ((0, 64), (64, 56 * 13), (sections, len(image) - sections), (0, len(image)))
    for _ in range(chance.choice((1, 2, 8, 64))):
        start, size = chance.choice(aims)
        at = start + chance.randrange(size)
        changed[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
    match chance.randrange(8):
        case 0:
            del changed[chance.randrange(len(changed)) :]
        case 1:
            at, to = chance.randrange(len(changed)), chance.randrange(len(changed))
            changed[to : to + 64] = changed[at : at + 64]
    return bytes(changed)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_programs_bring_no_reader_down(seed: int, program: Path, tmp_path: Path) -> None:
    chance = random.Random(seed)
    image = program.read_bytes()
    files = []
    for number in range(40):
        files.append(tmp_path / f"mutated{number}")
        files[-1].write_bytes(_mutated(image, chance))
    asked = Reader((reader.PLACES, reader.NAMES))
    for what, arguments in ASKED:
        questions = [Question((path,), arguments) for path in (*files, program)]
        *answers, last = asked.ask(what, questions)
        assert not last.refused
        assert [answer.refused for answer in answers if "crash" in answer.refused] == []
    asked.close()


@pytest.mark.parametrize("seed", range(4))
def test_mutated_programs_raise_nothing_but_elf_errors(seed: int, program: Path, tmp_path: Path) -> None:
    """What is read outside of the reader, by whoever unwinds: headers, notes and the frame table."""
    from clew.stack.cfi import frame_table

    chance = random.Random(100 + seed)
    image = program.read_bytes()
    for _ in range(200):
        try:
            elf = ElfFile.from_bytes(_mutated(image, chance), "mutated")
            frame_table(elf)
            _ = (elf.build_id, elf.interp, elf.is_pie, elf.bias(0x1000, 0x1000), elf.code_at(0x1100, 8))
        except ElfError:
            continue
