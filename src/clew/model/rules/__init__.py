"""Rules: what to stop at and what to reach, read, matched, explained.  docs/rules.md is their language."""

from clew.model.rules.explain import explain
from clew.model.rules.facts import Ancestor, Facts
from clew.model.rules.glob import Glob
from clew.model.rules.hop import rule_for_hop, text_for_hop
from clew.model.rules.match import excludes, matches
from clew.model.rules.origin import Origin, OriginKind, Served, parse_origin, parse_served
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
from clew.model.rules.select import Selection, Verdict, replay
from clew.model.rules.signals import signal_name
from clew.model.rules.text import caret, shown
from clew.model.rules.toml_file import parse_rule_file
from clew.model.rules.words import Vocabulary

__all__ = [
    "Ancestor",
    "Condition",
    "Exclusion",
    "Facts",
    "Field",
    "Function",
    "Glob",
    "Origin",
    "OriginKind",
    "RecordedHop",
    "Rule",
    "RuleKind",
    "RuleSet",
    "Selection",
    "Served",
    "Signals",
    "SourceLine",
    "Syscalls",
    "TreeRoot",
    "Verdict",
    "Vocabulary",
    "caret",
    "excludes",
    "explain",
    "matches",
    "parse_origin",
    "parse_rule",
    "parse_rule_file",
    "parse_rules",
    "parse_served",
    "parse_target",
    "replay",
    "rule_for_hop",
    "shown",
    "signal_name",
    "text_for_hop",
]
