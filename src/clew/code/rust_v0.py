"""Rust's own name mangling ("v0", RFC 2603), which libstdc++ does not know.

Shown are paths as Rust writes them, without crate hashes, lifetimes and the function's own type arguments:
``<r::Reader<i32> as r::Waits>::wait``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

_BASIC = {
    **{"a": "i8", "b": "bool", "c": "char", "d": "f64", "e": "str", "f": "f32", "h": "u8", "i": "isize"},
    **{"j": "usize", "l": "i32", "m": "u32", "n": "i128", "o": "u128", "p": "_", "s": "i16", "t": "u16"},
    **{"u": "()", "v": "...", "x": "i64", "y": "u64", "z": "!"},
}
_POINTERS = {"R": "&", "Q": "&mut ", "P": "*const ", "O": "*mut "}
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
# References back make short names long without end: a parser that counts its steps ends anyway.
_MOST_STEPS, _MOST_DEPTH, _MOST_CHARS = 20_000, 100, 20_000


class _Malformed(Exception):
    pass


def demangle_v0(symbol: str) -> str:
    """The path of a ``_R…`` symbol; "" if it is malformed or would be absurdly long."""
    try:
        return _Parser(symbol.removeprefix("_R").partition(".")[0]).symbol()
    except (_Malformed, IndexError, UnicodeError, ValueError):
        return ""


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = self._steps = self._depth = self._chars = 0

    def symbol(self) -> str:
        if self._peek() == "I":  # the function's own type arguments
            self._at += 1
        return self._path(in_type=False)

    def _peek(self) -> str:
        return self._text[self._at]

    def _next(self) -> str:
        self._at += 1
        return self._text[self._at - 1]

    def _took(self, char: str) -> bool:
        found = self._text.startswith(char, self._at)
        self._at += found
        return found

    def _until_end(self, item: Callable[[], str]) -> Iterator[str]:
        while not self._took("E"):
            yield item()

    def _enter(self) -> None:
        self._steps += 1
        self._depth += 1
        if self._steps > _MOST_STEPS or self._depth > _MOST_DEPTH:
            raise _Malformed

    def _leave(self, text: str) -> str:
        self._depth -= 1
        self._chars += len(text)
        if self._chars > _MOST_CHARS * 10 or len(text) > _MOST_CHARS:
            raise _Malformed
        return text

    def _path(self, in_type: bool) -> str:
        self._enter()
        return self._leave(self._bare_path(self._next(), in_type))

    def _bare_path(self, kind: str, in_type: bool) -> str:
        if kind == "C":
            return self._identifier()[1]
        if kind == "N":
            return self._nested(in_type)
        if kind == "M":
            self._impl_path()
            return f"<{self._type()}>"
        if kind == "X":
            self._impl_path()
            return f"<{self._type()} as {self._path(True)}>"
        if kind == "Y":
            return f"<{self._type()} as {self._path(True)}>"
        if kind == "I":
            inner = self._path(in_type)
            arguments = ", ".join(argument for argument in self._until_end(self._argument) if argument)
            return f"{inner}{'' if in_type else '::'}<{arguments}>" if arguments else inner
        if kind == "B":
            return self._back_reference(lambda: self._path(in_type))
        raise _Malformed

    def _nested(self, in_type: bool) -> str:
        space = self._next()
        outer = self._path(in_type)
        number, name = self._identifier()
        if space.islower():
            return f"{outer}::{name}" if name else outer
        what = {"C": "closure", "S": "shim"}.get(space, space)
        return f"{outer}::{{{what}{':' + name if name else ''}#{number}}}"

    def _impl_path(self) -> None:
        """Where the impl stands; it is not shown."""
        self._disambiguator()
        self._path(False)

    def _disambiguator(self) -> int:
        return self._base62() + 1 if self._took("s") else 0

    def _identifier(self) -> tuple[int, str]:
        number = self._disambiguator()
        encoded = self._took("u")
        size = self._decimal()
        self._took("_")
        name = self._text[self._at : self._at + size]
        if len(name) != size:
            raise _Malformed
        self._at += size
        if encoded:
            plain, _, rest = name.rpartition("_")
            name = f"{plain}-{rest}".encode("ascii").decode("punycode")
        return number, name

    def _decimal(self) -> int:
        start = self._at
        if self._took("0"):
            return 0
        while self._text[self._at : self._at + 1].isdecimal() and self._at - start < 9:
            self._at += 1
        return int(self._text[start : self._at])

    def _base62(self) -> int:
        value = 0
        if self._took("_"):
            return 0
        for _ in range(12):
            if self._took("_"):
                return value + 1
            value = value * 62 + _DIGITS.index(self._next())
        raise _Malformed

    def _back_reference(self, parse: Callable[[], str]) -> str:
        start, target = self._at - 1, self._base62()
        if target >= start:
            raise _Malformed
        back, self._at = self._at, target
        text = parse()
        self._at = back
        return text

    def _argument(self) -> str:
        if self._took("L"):
            self._base62()
            return ""
        return self._constant() if self._took("K") else self._type()

    def _type(self) -> str:
        self._enter()
        return self._leave(self._bare_type())

    def _bare_type(self) -> str:
        kind = self._peek()
        if kind in "CMXYNI":
            return self._path(True)
        self._at += 1
        if kind in _BASIC:
            return _BASIC[kind]
        if kind in _POINTERS:
            if kind in "RQ" and self._took("L"):
                self._base62()
            return _POINTERS[kind] + self._type()
        if kind == "A":
            return f"[{self._type()}; {self._constant()}]"
        if kind == "S":
            return f"[{self._type()}]"
        if kind == "T":
            members = list(self._until_end(self._type))
            return f"({members[0]},)" if len(members) == 1 else f"({', '.join(members)})"
        return self._callable_or_dyn(kind)

    def _callable_or_dyn(self, kind: str) -> str:
        if kind == "B":
            return self._back_reference(self._type)
        if kind not in "FD":
            raise _Malformed
        if self._took("G"):
            self._base62()
        if kind == "F":
            return self._function_type()
        bounds = " + ".join(self._until_end(self._dyn_trait))
        if not self._took("L"):
            raise _Malformed
        self._base62()
        return f"dyn {bounds}"

    def _function_type(self) -> str:
        unsafe = "unsafe " if self._took("U") else ""
        abi = ""
        if self._took("K"):
            abi = f'extern "{"C" if self._took("C") else self._identifier()[1].replace("_", "-")}" '
        parameters = ", ".join(self._until_end(self._type))
        result = self._type()
        return f"{unsafe}{abi}fn({parameters})" + (f" -> {result}" if result != "()" else "")

    def _dyn_trait(self) -> str:
        trait = self._path(True)
        bindings = []
        while self._took("p"):
            bindings.append(f"{self._identifier()[1]} = {self._type()}")
        if not bindings:
            return trait
        start = trait[:-1] + ", " if trait.endswith(">") else trait + "<"
        return f"{start}{', '.join(bindings)}>"

    def _constant(self) -> str:
        self._enter()
        if self._took("B"):
            return self._leave(self._back_reference(self._constant))
        if self._took("p"):
            return self._leave("_")
        kind = self._type()
        sign = "-" if self._took("n") else ""
        digits, found, _ = self._text[self._at :].partition("_")
        if not found:
            raise _Malformed
        self._at += len(digits) + 1
        value = int(digits or "0", 16)
        shown = (
            str(bool(value)).lower() if kind == "bool" else repr(chr(value)) if kind == "char" else str(value)
        )
        return self._leave(sign + shown)
