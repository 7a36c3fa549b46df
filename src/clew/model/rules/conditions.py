"""The ``,key=value`` parts of a rule."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from clew.model.rules.glob import Glob
from clew.model.rules.pieces import Piece
from clew.model.rules.rule import Condition, Field, TreeRoot
from clew.model.rules.words import KEYS, Vocabulary, guess_key

_MOST_PID = 1 << 22  # PID_MAX_LIMIT, proc_pid(5)
_MOST_UID = (1 << 32) - 2  # (uid_t)-1 means "no change" in setresuid(2)
_MOST_HITS = (1 << 63) - 1

_KEY_AND_SIGN = re.compile(r"\s*([A-Za-z_-]+)(!=|=)")
_KEY_AND_REST = re.compile(r"\s*([A-Za-z_-]+)\s*(!?[=:~<>]*)(.*)", re.DOTALL)
_ONCE = ("uid", "pid", "n", "max")


@dataclass(frozen=True, slots=True)
class Conditions:
    """All that followed the subject; ``first`` and ``limit`` are None without ``n`` and ``max``."""

    tests: tuple[Condition, ...] = ()
    first: int | None = None
    limit: int | None = None


def read_conditions(pieces: Sequence[Piece], words: Vocabulary) -> Conditions:
    """Read the pieces after the first.  Raises RuleError."""
    tests: list[Condition] = []
    counts: dict[str, int] = {}
    seen: set[str] = set()
    for piece in pieces:
        key, negated, value = _key_and_value(piece)
        if key in seen and key in _ONCE and not negated:
            raise piece.error(f"{key} is given twice.", f"Keep one {key}=.")
        seen |= set() if negated else {key}
        if key in ("n", "max"):
            counts[key] = _count(key, negated, value)
        else:
            tests.append(Condition(Field(key), _value(Field(key), value, words), negated))
    return Conditions(tuple(tests), counts.get("n"), counts.get("max"))


def process_id(piece: Piece) -> int:
    """The process id written there.  Raises RuleError."""
    return _number(piece, "process id", 1, _MOST_PID)


def is_number(text: str) -> bool:
    """Whether ``text`` is digits alone (and so a process id where a pattern could stand too)."""
    return text.isascii() and text.isdigit()


def _key_and_value(piece: Piece) -> tuple[str, bool, Piece]:
    match = _KEY_AND_SIGN.match(piece.text)
    if not match or match[1] not in KEYS:
        raise piece.error(_strange(piece), _likely(piece), len(piece.text) - len(piece.text.lstrip()))
    value = piece.after(match.end())
    if value.text.startswith("="):
        raise value.error("One = is enough.", f"Write {match[1]}{match[2]}{value.text.lstrip('=')}.")
    return match[1], match[2] == "!=", value


def _strange(piece: Piece) -> str:
    text = piece.text.strip()
    return f"{text!r} is not a condition." if text else "There is nothing after the comma."


def _likely(piece: Piece) -> str:
    """What to write instead: the guess if there is one, the list of keys otherwise."""
    comma = "Write \\, for a comma that belongs to the pattern before it."
    match = _KEY_AND_REST.fullmatch(piece.text)
    key = guess_key(match[1]) if match else ""
    if match and key and match[3]:
        return f"Did you mean {key}{'!=' if match[2].startswith('!') else '='}{match[3]}? {comma}"
    if match and key:
        return f"Did you mean {key}=VALUE? {comma}"
    return f"Conditions are KEY=VALUE or KEY!=VALUE, KEY one of {', '.join(KEYS)}. {comma}"


def _value(field: Field, value: Piece, words: Vocabulary) -> Glob | int | TreeRoot:
    if not value.text:
        raise value.error(f"{field}= wants a value.", f"Write {field}={_EXAMPLES[field]}.")
    match field:
        case Field.UID:
            return _uid(value, words)
        case Field.PID:
            return process_id(value)
        case Field.TREE:
            return _tree_root(value)
        case Field.PARENT if is_number(value.text):
            return process_id(value)
        case _:
            return value.glob()


_EXAMPLES = {
    Field.EXE: "GLOB",
    Field.ARGV: "GLOB",
    Field.COMM: "GLOB",
    Field.UID: "1000 or uid=NAME",
    Field.PID: "PID",
    Field.PARENT: "GLOB or parent=PID",
    Field.LINEAGE: "GLOB",
    Field.TREE: "PID or tree=cmd",
}


def _uid(value: Piece, words: Vocabulary) -> int:
    if is_number(value.text):
        return _number(value, "user id", 0, _MOST_UID)
    uid = words.uid_of(value.plain)
    if uid is None:
        raise value.error(
            f"There is no user {value.plain!r}.", "Write the user's number; id -u NAME prints it."
        )
    return uid


def _tree_root(value: Piece) -> int | TreeRoot:
    if value.text == TreeRoot.COMMAND:
        return TreeRoot.COMMAND
    if not is_number(value.text):
        raise value.error(
            f"tree= wants a process id or cmd, not {value.text!r}.",
            f"Write lineage={value.text} for an ancestor by its program.",
        )
    return process_id(value)


def _count(key: str, negated: bool, value: Piece) -> int:
    if negated:
        raise value.error(f"{key} takes = only.", f"Write {key}=NUMBER.", -2)
    return _number(value, "number of hits", 1, _MOST_HITS)


def _number(value: Piece, what: str, least: int, most: int) -> int:
    digits = value.text.lstrip("0") or "0"
    if not is_number(value.text) or len(digits) > 20 or not least <= int(digits) <= most:
        raise value.error(f"{value.text!r} is not a {what}.", f"Write a number from {least} to {most}.")
    return int(digits)
