"""Rule files: ``[[rule]]`` and ``[[exclude]]`` tables, each the same as one rule on the command line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from clew.errors import RuleError, UsageError
from clew.model.rules.parse import parse_rules
from clew.model.rules.rule import RuleSet
from clew.model.rules.words import KEYS, KINDS, Vocabulary, did_you_mean, near

_NO_WORDS = Vocabulary()
_COMMA_OR_ESCAPE = re.compile(r"\\.|,", re.DOTALL)
_TOML_PLACE = re.compile(r"\(at line (\d+), column (\d+)\)$")


def parse_rule_file(toml: str, words: Vocabulary = _NO_WORDS) -> RuleSet:
    """Read the text of a rule file.

    Raises RuleError: for a fault in TOML its position is in the faulty line, for a fault in a rule it is
    in the rule as it would be on the command line.  Raises UsageError for tables that are no rules.
    """
    try:
        tables = tomllib.loads(toml)
    except tomllib.TOMLDecodeError as error:
        raise _toml_fault(toml, str(error)) from error
    return parse_rules(rule_lines(tables), words)


def rule_lines(tables: Mapping[str, Any]) -> Iterator[str]:
    """Each table as a rule on the command line.  Raises UsageError."""
    for name, rows in tables.items():
        if name not in ("rule", "exclude"):
            raise UsageError(
                f"A rule file has [[rule]] and [[exclude]] tables, and this one has {name!r}.",
                did_you_mean(near(name, ("[[rule]]", "[[exclude]]"))),
            )
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UsageError(
                f"{name!r} in a rule file is a list of tables.", f"Write [[{name}]], in two brackets."
            )
        for number, row in enumerate(rows, 1):
            yield _line(f"[[{name}]] number {number}", row, excluding=name == "exclude")


def _line(where: str, row: dict[str, Any], excluding: bool) -> str:
    if "rule" in row:
        return _whole_line(where, row, excluding)
    kinds = ("exec", "tree") if excluding else KINDS
    # Of an exclusion's exec and tree, the first written is the subject: tree is a condition too.
    kind = next((key for key in row if key in kinds), None)
    if kind is None:
        raise UsageError(f"{where} in the rule file has no kind.", f"Give it one of {', '.join(kinds)}.")
    parts = [f"{'!' if excluding else ''}{kind}:{_value(where, kind, row[kind])}"]
    parts += _conditions(where, {key: value for key, value in row.items() if key not in (kind, "not")}, "=")
    parts += _conditions(where, _negated(where, row), "!=")
    return ",".join(parts)


def _whole_line(where: str, row: dict[str, Any], excluding: bool) -> str:
    if len(row) > 1 or not isinstance(row["rule"], str):
        raise UsageError(
            f"{where} in the rule file has more than its rule.", "A rule in one string says it all."
        )
    return f"!{row['rule']}" if excluding else row["rule"]


def _negated(where: str, row: dict[str, Any]) -> dict[str, Any]:
    negated = row.get("not", {})
    if not isinstance(negated, dict):
        raise UsageError(f"not in {where} of the rule file is a table.", 'Write not = { argv = "..." }.')
    return negated


def _conditions(where: str, row: dict[str, Any], sign: str) -> Iterator[str]:
    for key, values in row.items():
        if key not in KEYS:
            guesses = near(key, (*KEYS, *KINDS, "not"))
            raise UsageError(f"{where} in the rule file has the unknown key {key!r}.", did_you_mean(guesses))
        for value in values if isinstance(values, list) else [values]:
            yield f"{key}{sign}{_value(where, key, value)}"


def _value(where: str, key: str, value: object) -> str:
    """A value as a rule spells it: the commas in it are its own."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise UsageError(
            f"{key} in {where} of the rule file is neither text nor a number.", f'Write {key} = "...".'
        )
    return _COMMA_OR_ESCAPE.sub(lambda match: "\\," if match[0] == "," else match[0], value)


def _toml_fault(toml: str, message: str) -> RuleError:
    lines = toml.splitlines() or [""]
    place = _TOML_PLACE.search(message)
    row, column = (int(place[1]), int(place[2])) if place else (len(lines), len(lines[-1]) + 1)
    cause = _TOML_PLACE.sub("", message).strip()
    line = lines[row - 1] if row <= len(lines) else ""
    return RuleError(
        line,
        column - 1,
        f"Line {row} of the rule file is not TOML: {cause}.",
        "docs/rules.md shows a rule file.",
    )
