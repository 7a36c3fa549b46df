"""glob.bpf.h in the kernel and Glob in Python give the same answer, on thousands of random patterns."""

from __future__ import annotations

import ctypes as C
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from clew.engine.bpf import libbpf
from clew.model.rules.glob import ANY_BYTE, STAR, Glob
from clew.model.rules.kernel import GLOB_LENGTH, GLOB_SIZE, pack_glob
from clew.model.rules.match import has_argument

PROBES = Path(libbpf.__file__).parent / "probes"
CHUNK, CHUNKS = 128, 32

PROGRAM = """
#include "glob.bpf.h"

struct question {
	struct clew_glob glob;
	struct clew_glob_chunk text[CHUNKS];
	u32 length, whole, last, argv;
};
struct {
	__uint(type, 2); /* BPF_MAP_TYPE_ARRAY */
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct question);
} questions SEC(".maps");

SEC("syscall") int answer(void *ctx)
{
	u32 zero = 0;
	struct question *q = bpf_map_lookup_elem(&questions, &zero);
	struct clew_glob_state whole, last;
	struct clew_glob_argv argv;

	if (!q)
		return 1;
	clew_glob_begin(&whole);
	clew_glob_begin(&last);
	clew_glob_argv_begin(&q->glob, &argv);
	for (u32 i = 0; i < CHUNKS && i * CLEW_GLOB_CHUNK < q->length; i++) {
		u32 left = q->length - i * CLEW_GLOB_CHUNK;

		clew_glob_feed(&q->glob, &whole, &q->text[i], left);
		clew_glob_feed_last(&q->glob, &last, &q->text[i], left);
		clew_glob_argv_feed(&q->glob, &argv, &q->text[i], left);
	}
	q->whole = clew_glob_accepts(&q->glob, &whole);
	q->last = clew_glob_accepts(&q->glob, &last);
	q->argv = clew_glob_argv_accepts(&q->glob, &argv);
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""


class _RunOptions(C.Structure):
    """``struct bpf_test_run_opts`` of libbpf."""

    _fields_ = (
        ("size", C.c_size_t),
        ("data", C.c_void_p * 2),
        ("data_sizes", C.c_uint32 * 2),
        ("context", C.c_void_p * 2),
        ("context_sizes", C.c_uint32 * 2),
        ("result", C.c_uint32),
        ("repeat", C.c_int),
        ("rest", C.c_uint32 * 4),
    )


class Kernel:
    """Runs the three matchers of the header over one pattern and text."""

    def __init__(self, loaded: libbpf.Object) -> None:
        self._questions = loaded.map("questions")
        self._program = loaded.program_fd("answer")

    def ask(self, glob: Glob, text: bytes) -> tuple[bool, bool, bool]:
        """(whole text, last path component, argv)."""
        packed = pack_glob(glob)
        assert len(packed) == GLOB_SIZE
        question = packed + text.ljust(CHUNK * CHUNKS, b"\0") + struct.pack("=IIII", len(text), 7, 7, 7)
        key = struct.pack("=I", 0)
        self._questions.update(key, question.ljust(self._questions.value_size, b"\0"))
        options = _RunOptions(size=C.sizeof(_RunOptions))
        assert libbpf.library().bpf_prog_test_run_opts(self._program, C.byref(options)) == 0
        assert options.result == 0
        answered = self._questions.lookup(key)
        assert answered is not None
        whole, last, argv = struct.unpack_from("=III", answered, GLOB_SIZE + CHUNK * CHUNKS + 4)
        assert {whole, last, argv} <= {0, 1}
        return bool(whole), bool(last), bool(argv)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """The matchers, compiled and past the verifier."""
    if os.geteuid() != 0:
        pytest.skip("loading BPF needs root")
    if not shutil.which("clang"):
        pytest.skip("compiling BPF needs clang")
    folder = tmp_path_factory.mktemp("glob")
    (folder / "glob.bpf.c").write_text(PROGRAM)
    command = [
        "clang",
        "-O2",
        "-g",
        "-target",
        "bpf",
        "-Wall",
        "-Werror",
        f"-DCHUNKS={CHUNKS}",
        f"-I{PROBES}",
    ]
    subprocess.run([*command, "-c", folder / "glob.bpf.c", "-o", folder / "glob.bpf.o"], check=True)
    with libbpf.Object(folder / "glob.bpf.o") as loaded:
        loaded.load()
        yield Kernel(loaded)


def expected(glob: Glob, text: bytes) -> tuple[bool, bool, bool]:
    """The answers of the Python side."""
    argv = tuple(text.removesuffix(b"\0").split(b"\0")) if text else ()
    return (
        glob.matches(text),
        glob.matches(text.rpartition(b"/")[2]),
        has_argument(glob, argv),
    )


ALPHABET = b"ab/ \0\xff"


def random_glob(chance: random.Random, length: int) -> Glob:
    """A pattern of up to ``length`` elements over few bytes, so that texts come close to matching."""
    elements: list[int] = []
    for _ in range(chance.randint(0, length)):
        pick = chance.random()
        if pick < 0.25 and elements[-1:] != [STAR]:
            elements.append(STAR)
        elif pick < 0.35:
            elements.append(ANY_BYTE)
        elif pick < 0.45:
            elements.append(sum(1 << byte for byte in chance.sample(ALPHABET, 2)))
        else:
            elements.append(1 << chance.choice(ALPHABET))
    return Glob("", tuple(elements))


def near_text(chance: random.Random, glob: Glob, filler: int) -> bytes:
    """A text made from the pattern, sometimes with an argument before or after it, sometimes with a fault."""
    made = bytearray()
    for element in glob.elements:
        if element == STAR:
            made += bytes(chance.choices(ALPHABET, k=chance.randint(0, filler)))
        else:
            made.append(chance.choice([byte for byte in ALPHABET if element >> byte & 1]))
    pieces = [bytes(made)]
    if chance.random() < 0.4:
        pieces.insert(chance.randint(0, 1), bytes(chance.choices(ALPHABET, k=chance.randint(0, filler))))
    text = bytearray(chance.choice([b"\0", b" ", b"/"]).join(pieces) + chance.choice([b"", b"\0"]))
    if text and chance.random() < 0.3:
        text[chance.randrange(len(text))] = chance.choice(ALPHABET)
    return bytes(text[: CHUNK * CHUNKS])


@pytest.mark.parametrize(
    ("seed", "length", "filler", "rounds"),
    [(1, 6, 3, 4000), (2, 40, 20, 1500), (3, GLOB_LENGTH, 8, 1000), (4, 12, 900, 500)],
)
def test_kernel_and_python_agree(kernel: Kernel, seed: int, length: int, filler: int, rounds: int) -> None:
    chance = random.Random(seed)
    yes = [0, 0, 0]
    for _ in range(rounds):
        glob = random_glob(chance, length)
        text = near_text(chance, glob, filler)
        answers = kernel.ask(glob, text)
        assert answers == expected(glob, text), (glob.elements, text)
        yes = [count + answer for count, answer in zip(yes, answers, strict=True)]
    # Agreement on "no" alone would prove little.
    assert all(count > rounds // 50 for count in yes), yes


def test_the_longest_pattern_and_text(kernel: Kernel) -> None:
    long = Glob.parse("*" + "a" * GLOB_LENGTH)
    assert kernel.ask(long, b"b" * (CHUNK * CHUNKS - GLOB_LENGTH) + b"a" * GLOB_LENGTH)[0]
    assert not kernel.ask(long, b"b" * (CHUNK * CHUNKS - GLOB_LENGTH + 1) + b"a" * (GLOB_LENGTH - 1))[0]


def test_a_guest_is_told_from_a_probe(kernel: Kernel) -> None:
    glob = Glob.parse(r"*guest=tiny\,*")
    guest = b"\0".join([b"/usr/bin/qemu-system-x86_64", b"-name", b"guest=tiny,debug-threads=on", b"-S", b""])
    probe = b"\0".join(
        [b"/usr/bin/qemu-system-x86_64", b"-S", b"-no-user-config", b"-machine", b"none,accel=tcg", b""]
    )
    assert kernel.ask(glob, guest)[2]
    assert not kernel.ask(glob, probe)[2]
    assert kernel.ask(Glob.parse("*-machine none*"), probe)[2]
