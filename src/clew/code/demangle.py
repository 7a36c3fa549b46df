"""From the linker's name of a function to the one its source has: C++ and Rust.

libstdc++'s own demangler does the work (numpy and DuckDB need that library, so it is there).  Shown is the
qualified name without parameters and return type, as gdb prints it in a backtrace.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from functools import cache, lru_cache

from clew.code.rust_v0 import demangle_v0

# A name can ask for output that doubles with every two references back to an earlier part of it.  With
# these limits it stays below some 10 MB; names above them are shown as the linker has them.
_MAX_LENGTH, _MAX_REFERENCES = 2048, 24
_REFERENCE = re.compile(rb"[ST][0-9A-Z]*_")

# What GCC and LLVM append to the copies they make of a function (GCC: "-fipa-sra", "-fipa-cp", ...).
_CLONE = re.compile(r"(\.(part|isra|constprop|cold|lto_priv|localalias|llvm|clone)(\.\d+)*)+$")
_CLONE_NOTE = re.compile(r"( \[clone [^\]]*\])+$")
_QUALIFIERS = re.compile(r"(?<=\))( const| volatile| &&?)+$")
_OPERATOR = re.compile(r"\boperator(\(\)|\[\]|[-+*/%^&|~!=<>,]{1,3})( (?=<))?")
# A function that returns a pointer to a function: the name is inside the brackets, "void (*f(int))(char)".
_POINTER_RESULT = re.compile(r"\([*&]+(.*)\)")

_RUST_HASH = re.compile(r"::h[0-9a-f]{16}$")
_RUST_MANGLED = re.compile(rb"_ZN.*17h[0-9a-f]{16}E")
_RUST_ESCAPE = re.compile(r"\$(SP|BP|RF|LT|GT|LP|RP|C|u[0-9a-f]{1,6})\$")
_RUST_SIGNS = {"SP": "@", "BP": "*", "RF": "&", "LT": "<", "GT": ">", "LP": "(", "RP": ")", "C": ","}


@lru_cache(maxsize=1 << 16)
def demangle(symbol: bytes) -> str:
    """The source name of a function, from its name in a symbol table; the latter where it is C's.

    Bytes that are no UTF-8 become ``\\xNN``.  Control characters stay: escape them where they are shown.
    """
    name = _CLONE.sub("", symbol.decode("utf-8", "backslashreplace"))
    if symbol.startswith(b"_R"):
        return demangle_v0(name) or name
    if not symbol.startswith(b"_Z"):
        return name
    full = _cxa_demangle(name.encode("utf-8", "backslashreplace"))
    if not full:
        return name
    return _rust_name(full) if _RUST_MANGLED.match(symbol) else without_parameters(full)


@lru_cache(maxsize=1 << 16)
def full_name(symbol: bytes) -> str:
    """As ``demangle``, but a C++ name keeps its parameters, which tell overloads apart."""
    name = _CLONE.sub("", symbol.decode("utf-8", "backslashreplace"))
    if not symbol.startswith(b"_Z") or _RUST_MANGLED.match(symbol):
        return demangle(symbol)
    return _cxa_demangle(name.encode("utf-8", "backslashreplace")) or name


def without_parameters(full: str) -> str:
    """``ns::K::method`` of ``int ns::K::method(std::string) const``."""
    full = _QUALIFIERS.sub("", _CLONE_NOTE.sub("", full))
    plain = _OPERATOR.sub(lambda found: "o" * len(found.group()), full)
    if plain.endswith(")"):
        opener = _opener_of_last(plain)
        full, plain = full[:opener], plain[:opener]
    name = full[_after_return_type(plain) :] or full
    inside = _POINTER_RESULT.fullmatch(name)
    return without_parameters(inside.group(1)) if inside else name


def _opener_of_last(text: str) -> int:
    """Index of the parenthesis that the last character closes; the length of the text if there is none."""
    depth = 0
    for index in range(len(text) - 1, -1, -1):
        depth += (text[index] == ")") - (text[index] == "(")
        if depth == 0:
            # An opener at 0 leaves no name: "(anonymous namespace)" alone.
            return index or len(text)
    return len(text)


def _after_return_type(text: str) -> int:
    """Where the name begins: after the last space that is in no brackets and not in ``operator new``."""
    depth = 0
    end = text.find("operator ")
    for index in range((end if end >= 0 else len(text)) - 1, -1, -1):
        char = text[index]
        depth += (char in ")>]}") - (char in "(<[{")
        if char == " " and depth == 0:
            return index + 1
    return 0


def _rust_name(full: str) -> str:
    name = _RUST_HASH.sub("", full).replace("..", "::")
    name = _RUST_ESCAPE.sub(lambda found: _rust_sign(found.group(1)), name)
    # A path element that would begin with a sign got an underscore before it.
    return re.sub(r"(^|::)_(?=<)", r"\1", name)


def _rust_sign(code: str) -> str:
    if code in _RUST_SIGNS:
        return _RUST_SIGNS[code]
    number = int(code[1:], 16)
    return chr(number) if number < 0x110000 else f"${code}$"


def _cxa_demangle(symbol: bytes) -> str:
    """What ``__cxa_demangle`` makes of it; "" if nothing, or if it could take too long."""
    if len(symbol) > _MAX_LENGTH or len(_REFERENCE.findall(symbol)) > _MAX_REFERENCES:
        return ""
    return _library()(symbol)


@cache
def _library() -> Callable[[bytes], str]:
    try:
        cxa = ctypes.CDLL("libstdc++.so.6").__cxa_demangle
    except (OSError, AttributeError):
        return lambda _symbol: ""
    free = ctypes.CDLL(None).free
    free.argtypes, free.restype = [ctypes.c_void_p], None
    cxa.restype = ctypes.c_void_p
    cxa.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int)]

    def call(symbol: bytes) -> str:
        status = ctypes.c_int()
        result = cxa(symbol, None, None, ctypes.byref(status))
        if not result:
            return ""
        try:
            return ctypes.string_at(result).decode("utf-8", "backslashreplace")
        finally:
            free(result)

    return call
