"""Rules: what to stop at and what to reach, read, matched, explained.  docs/rules.md is their language."""

from clew.model.rules.glob import Glob
from clew.model.rules.parse import parse_rule, parse_rules, parse_target
from clew.model.rules.rule import (
    Condition,
    Exclusion,
    Field,
    Function,
    RecordedHop,
    Rule,
    RuleKind,
    RuleSet,
    Signals,
    SourceLine,
    Syscalls,
    TreeRoot,
)
from clew.model.rules.text import caret, shown
from clew.model.rules.words import Vocabulary

__all__ = [
    "Condition",
    "Exclusion",
    "Field",
    "Function",
    "Glob",
    "RecordedHop",
    "Rule",
    "RuleKind",
    "RuleSet",
    "Signals",
    "SourceLine",
    "Syscalls",
    "TreeRoot",
    "Vocabulary",
    "caret",
    "parse_rule",
    "parse_rules",
    "parse_target",
    "shown",
]
