"""libbpf.so.1 through ctypes: load an object, set its constants, reach its maps, attach its programs.

Only what clew's probes need, with the errors turned into ours.  libbpf(3) is documented in its headers
(``bpf/libbpf.h``); loading through ctypes costs about 35 ms for a CO-RE object.
"""

from __future__ import annotations

import ctypes as C
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from clew.errors import EngineError, PermissionMissing
from clew.kernel import procfs

_PRINT_FN = C.CFUNCTYPE(C.c_int, C.c_int, C.c_char_p, C.c_void_p)
_MAX_LOG = 200_000
_LONGEST_LOG = (16 << 20) + 65536  # what libbpf has room for (UINT_MAX >> 8), and its words about it
_WARNING = 0  # LIBBPF_WARN, as the verifier's log comes; what is below is thousands of lines for each object


class _Log:
    """What libbpf and the verifier said, kept for the error message instead of printed."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._size = 0

    def clear(self) -> None:
        self._parts.clear()
        self._size = 0

    def add(self, text: str) -> None:
        if self._size < _MAX_LOG:
            self._parts.append(text[-_MAX_LOG:])  # a verifier's objection stands at the end
            self._size += len(text)

    def text(self) -> str:
        return "".join(self._parts)


_log = _Log()
_lib: C.CDLL | None = None
_keep: list[object] = []


def library() -> C.CDLL:
    """The loaded library.  Raises EngineError where it is not installed."""
    global _lib
    if _lib is not None:
        return _lib
    try:
        lib = C.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise EngineError(
            "The library libbpf.so.1 is not installed.", "On Debian or Ubuntu: apt install libbpf1"
        ) from error
    _declare(lib)
    _silence(lib)
    _lib = lib
    return lib


def _declare(lib: C.CDLL) -> None:
    pointer, text, size = C.c_void_p, C.c_char_p, C.c_size_t
    for name, result, arguments in (
        ("bpf_object__open_file", pointer, [text, pointer]),
        ("bpf_object__load", C.c_int, [pointer]),
        ("bpf_object__close", None, [pointer]),
        ("bpf_object__find_program_by_name", pointer, [pointer, text]),
        ("bpf_object__next_program", pointer, [pointer, pointer]),
        ("bpf_object__find_map_by_name", pointer, [pointer, text]),
        ("bpf_object__next_map", pointer, [pointer, pointer]),
        ("bpf_map__name", text, [pointer]),
        ("bpf_program__name", text, [pointer]),
        ("bpf_program__set_autoload", C.c_int, [pointer, C.c_bool]),
        ("bpf_program__attach", pointer, [pointer]),
        ("bpf_program__attach_iter", pointer, [pointer, pointer]),
        ("bpf_link__fd", C.c_int, [pointer]),
        ("bpf_iter_create", C.c_int, [C.c_int]),
        ("bpf_program__attach_uprobe_opts", pointer, [pointer, C.c_int, text, size, pointer]),
        ("bpf_map__pin", C.c_int, [pointer, text]),
        ("bpf_program__fd", C.c_int, [pointer]),
        ("bpf_map__fd", C.c_int, [pointer]),
        ("bpf_map__initial_value", pointer, [pointer, C.POINTER(size)]),
        ("bpf_map__set_max_entries", C.c_int, [pointer, C.c_uint32]),
        ("bpf_map__max_entries", C.c_uint32, [pointer]),
        ("bpf_map__value_size", C.c_uint32, [pointer]),
        ("bpf_map__reuse_fd", C.c_int, [pointer, C.c_int]),
        ("bpf_map_update_elem", C.c_int, [C.c_int, pointer, pointer, C.c_uint64]),
        ("bpf_map_lookup_elem", C.c_int, [C.c_int, pointer, pointer]),
        ("bpf_map_delete_elem", C.c_int, [C.c_int, pointer]),
        ("bpf_map_get_next_key", C.c_int, [C.c_int, pointer, pointer]),
        ("bpf_link__destroy", C.c_int, [pointer]),
        ("libbpf_num_possible_cpus", C.c_int, []),
        ("libbpf_set_print", pointer, [pointer]),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments


def _silence(lib: C.CDLL) -> None:
    libc = C.CDLL(None)
    libc.vsnprintf.argtypes = [C.c_char_p, C.c_size_t, C.c_char_p, C.c_void_p]

    def listen(level: int, form: bytes, arguments: int) -> int:
        if level > _WARNING:
            return 0
        buffer = C.create_string_buffer(_LONGEST_LOG if b"PROG LOAD LOG" in form else 65536)
        libc.vsnprintf(buffer, len(buffer), form, arguments)
        _log.add(buffer.value.decode(errors="replace"))
        return 0

    callback = _PRINT_FN(listen)
    _keep.append(callback)
    lib.libbpf_set_print(C.cast(callback, C.c_void_p))


def objection(log: str) -> str:
    """What the verifier found wrong, of all that it said: its last sentence before the figures."""
    lines = [line for line in log.splitlines() if line.strip()]
    at = next((at for at, line in enumerate(lines) if line.startswith("processed ")), 0)
    return lines[at - 1].strip() if at else ""


def cpu_count() -> int:
    """How many CPUs the kernel may ever have: per-CPU maps hold a value for each."""
    return int(library().libbpf_num_possible_cpus())


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold ^C back for the moment: it would be lost in the callback that libbpf's words go through."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    seen: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _frame: seen.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if seen:
            signal.raise_signal(signal.SIGINT)


class Map:
    """One map of a loaded object.  Keys and values are raw bytes of the sizes the probe declares."""

    def __init__(self, handle: int, name: str) -> None:
        self._handle = handle
        self.name = name

    @property
    def fd(self) -> int:
        """The map's file descriptor; -1 before loading."""
        return int(library().bpf_map__fd(self._handle))

    @property
    def max_entries(self) -> int:
        """Entries, or bytes of a ring buffer."""
        return int(library().bpf_map__max_entries(self._handle))

    @property
    def value_size(self) -> int:
        """Bytes of one value (of one CPU's value in a per-CPU map)."""
        return int(library().bpf_map__value_size(self._handle))

    def pin(self, path: Path) -> None:
        """Keep the map under ``path`` of a bpffs, for longer than our process.  Raises EngineError."""
        _check(library().bpf_map__pin(self._handle, os.fsencode(path)), f"pin map {self.name}")

    def share(self, other: Map) -> None:
        """Before loading: be the same map as ``other``, which is loaded."""
        _check(library().bpf_map__reuse_fd(self._handle, other.fd), f"share map {self.name}")

    def resize(self, entries: int) -> None:
        """Before loading: ``entries`` (for a ring buffer bytes, a power of two and page multiple)."""
        _check(library().bpf_map__set_max_entries(self._handle, entries), f"resize map {self.name}")

    def update(self, key: bytes, value: bytes) -> None:
        """Set one entry.  Raises EngineError (a full map, no permission)."""
        result = library().bpf_map_update_elem(self.fd, key, value, 0)
        _check(result, f"write to map {self.name}")

    def delete(self, key: bytes) -> None:
        """Remove one entry; removing what is not there is fine."""
        library().bpf_map_delete_elem(self.fd, key)

    def lookup(self, key: bytes) -> bytes | None:
        """The value under ``key``, or None."""
        value = C.create_string_buffer(self.value_size)
        if library().bpf_map_lookup_elem(self.fd, key, value) != 0:
            return None
        return value.raw

    def lookup_per_cpu(self, key: bytes) -> list[bytes]:
        """The values of all possible CPUs under ``key`` (each rounded up to 8 bytes by the kernel)."""
        stride = (self.value_size + 7) & ~7
        buffer = C.create_string_buffer(stride * cpu_count())
        if library().bpf_map_lookup_elem(self.fd, key, buffer) != 0:
            return []
        return [buffer.raw[i * stride : i * stride + self.value_size] for i in range(cpu_count())]

    def keys(self, key_size: int) -> Iterator[bytes]:
        """The keys of a hash map, as the kernel gives them (entries changed meanwhile may be missed)."""
        key = C.create_string_buffer(key_size)
        step = C.create_string_buffer(key_size)
        at: C.Array[C.c_char] | None = None
        while library().bpf_map_get_next_key(self.fd, at, step) == 0:
            yield step.raw
            C.memmove(key, step, key_size)
            at = key

    def initial(self) -> C.Array[C.c_ubyte]:
        """The bytes of a data section (.rodata.config): writable before loading."""
        size = C.c_size_t()
        address = library().bpf_map__initial_value(self._handle, C.byref(size))
        if not address:
            raise EngineError(f"The data section {self.name} of a probe cannot be reached.")
        return (C.c_ubyte * size.value).from_address(address)


class Link:
    """A program that is attached.  ``close`` detaches it; so does the end of our process."""

    def __init__(self, handle: int) -> None:
        self.handle = handle

    def close(self) -> None:
        """Detach."""
        if self.handle:
            library().bpf_link__destroy(self.handle)
            self.handle = 0


class _UprobeOptions(C.Structure):
    """``struct bpf_uprobe_opts`` as of libbpf 1.0."""

    _fields_ = (
        ("sz", C.c_size_t),
        ("ref_ctr_offset", C.c_size_t),
        ("bpf_cookie", C.c_uint64),
        ("retprobe", C.c_bool),
        ("func_name", C.c_char_p),
    )


class Object:
    """A BPF object file: open, set constants, load, attach.  Closing it detaches and frees everything."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise EngineError(
                f"The compiled probe {path.name} is missing from this installation.",
                "Install clew again; building it from source needs clang, or ziglang from PyPI.",
            )
        self.path = path
        self._links: list[Link] = []
        _log.clear()
        with uninterrupted():
            handle = library().bpf_object__open_file(os.fsencode(path), None)
        _check(0 if handle else -C.get_errno(), f"open probe {path.name}")
        self._handle: int = handle

    def map(self, name: str) -> Map:
        """The map called ``name`` (data sections too: ``.rodata.config``)."""
        handle = library().bpf_object__find_map_by_name(self._handle, name.encode())
        if not handle:
            handle = self._section(name)
        if not handle:
            raise EngineError(f"Probe {self.path.name} has no map {name}.")
        return Map(handle, name)

    def _section(self, name: str) -> int:
        # A data section's map carries the first letters of the object's name: "record.b.rodata".
        at = library().bpf_object__next_map(self._handle, None)
        while at:
            if library().bpf_map__name(at).endswith(name.encode()):
                return int(at)
            at = library().bpf_object__next_map(self._handle, at)
        return 0

    def programs(self) -> list[str]:
        """Names of the programs in the object."""
        names = []
        at = library().bpf_object__next_program(self._handle, None)
        while at:
            names.append(library().bpf_program__name(at).decode())
            at = library().bpf_object__next_program(self._handle, at)
        return names

    def skip(self, program: str) -> None:
        """Before loading: leave ``program`` out."""
        library().bpf_program__set_autoload(self._program(program), False)

    def load(self) -> None:
        """Give it to the kernel.  Raises PermissionMissing, or EngineError with the verifier's log."""
        with uninterrupted():
            result = library().bpf_object__load(self._handle)
        _check(result, f"load probe {self.path.name}")

    def attach(self, program: str) -> Link:
        """Attach ``program`` where its section says."""
        with uninterrupted():
            handle = library().bpf_program__attach(self._program(program))
        return self._linked(handle, f"attach {program}")

    def attach_uprobe(
        self, program: str, file: bytes, offset: int, cookie: int, at_return: bool = False
    ) -> Link:
        """Attach ``program`` at byte ``offset`` of ``file`` in every process, or to the return from there.

        ``program`` reads ``cookie`` (bpf_get_attach_cookie).
        """
        options = _UprobeOptions(C.sizeof(_UprobeOptions), 0, cookie, at_return, None)
        with uninterrupted():
            handle = library().bpf_program__attach_uprobe_opts(
                self._program(program), -1, file, offset, C.byref(options)
            )
        return self._linked(handle, f"attach {program} to {os.fsdecode(file)}+{offset:#x}")

    def iterate(self, program: str) -> None:
        """Run ``program`` (its section is ``iter/…``) once over everything there is to iterate."""
        handle = library().bpf_program__attach_iter(self._program(program), None)
        link = self._linked(handle, f"run {program}")
        fd = library().bpf_iter_create(library().bpf_link__fd(link.handle))
        _check(0 if fd >= 0 else -C.get_errno(), f"run {program}")
        try:
            while os.read(fd, 4096):
                pass
        finally:
            os.close(fd)

    def program_fd(self, program: str) -> int:
        """The file descriptor of a loaded program."""
        return int(library().bpf_program__fd(self._program(program)))

    def skipped(self, program: str) -> int:
        """How often the kernel left a loaded program out (``recursion_misses``).

        That is when a task met it while another was preempted in it, or, of perf events, amid a map
        operation: probes/events.bpf.h.
        """
        said = procfs.fields(f"/proc/self/fdinfo/{self.program_fd(program)}")
        return int(said.get(b"recursion_misses", 0))

    def _linked(self, handle: int | None, doing: str) -> Link:
        _check(0 if handle else -C.get_errno(), doing)
        assert handle is not None
        link = Link(handle)
        self._links.append(link)
        return link

    def _program(self, name: str) -> int:
        handle = library().bpf_object__find_program_by_name(self._handle, name.encode())
        if not handle:
            raise EngineError(f"Probe {self.path.name} has no program {name}.")
        return int(handle)

    def detach(self) -> None:
        """Detach every program; the maps stay readable."""
        for link in self._links:
            link.close()
        self._links.clear()

    def close(self) -> None:
        """Detach every program and free the object."""
        self.detach()
        if self._handle:
            library().bpf_object__close(self._handle)
            self._handle = 0

    def __enter__(self) -> Object:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check(result: int, doing: str) -> None:
    if result == 0:
        return
    error = -result if result < 0 else C.get_errno()
    said = os.strerror(error)
    if error in (1, 13) and "processed" not in _log.text():
        raise PermissionMissing(
            f"The kernel does not let us {doing}: {said}.",
            "Run as root, or with CAP_BPF and CAP_PERFMON; `clew doctor` says what is missing.",
        )
    raise EngineError(
        f"Cannot {doing}: {said}.", "`clew doctor` says what this kernel permits.", log=_log.text()
    )
