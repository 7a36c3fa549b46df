"""The words of the rule language, what other tools call them, and guesses at what was meant."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from clew.model.rules.rule import Field, RuleKind

KINDS = tuple(str(kind) for kind in RuleKind)
KEYS = (*(str(field) for field in Field), "n", "max")

# What people who know gdb, strace, bpftrace, perf or pgrep are likely to type first.
_OTHER_KINDS = {
    **dict.fromkeys(["execve", "execveat", "run", "spawn", "cmd", "proc", "process"], "exec"),
    **dict.fromkeys(["clone", "clone3", "vfork", "child"], "fork"),
    **dict.fromkeys(["func", "function", "fn", "break", "b", "uprobe", "u", "probe", "symbol"], "call"),
    **dict.fromkeys(["line", "source", "src", "file"], "at"),
    **dict.fromkeys(["sys", "sc", "tracepoint", "t"], "syscall"),
    **dict.fromkeys(["sig", "kill"], "signal"),
    **dict.fromkeys(["end", "die", "exited"], "exit"),
    **dict.fromkeys(["step", "trace"], "hop"),
}
_OTHER_KEYS = {
    **dict.fromkeys(["path", "program", "image", "bin", "file"], "exe"),
    **dict.fromkeys(["arg", "args", "cmdline", "argument"], "argv"),
    **dict.fromkeys(["thread", "name", "tcomm"], "comm"),
    **dict.fromkeys(["user", "euid", "u"], "uid"),
    **dict.fromkeys(["tgid", "p"], "pid"),
    **dict.fromkeys(["ppid", "from"], "parent"),
    **dict.fromkeys(["ancestor", "ancestors", "under"], "lineage"),
    **dict.fromkeys(["root", "scope", "subtree"], "tree"),
    **dict.fromkeys(["nth", "hit", "skip", "number"], "n"),
    **dict.fromkeys(["count", "limit", "times", "most"], "max"),
}


def no_user(name: str) -> int | None:
    """Knows no user by name: rules read with it give uids as numbers."""
    del name
    return None


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a rule's names are checked against.

    ``syscalls``: the names that exist (``clew.kernel.syscalls.numbers()``); empty: any name is taken.
    ``uid_of``: the uid of a user's name, None if there is no such user (``pwd.getpwnam``).
    """

    syscalls: Collection[str] = ()
    uid_of: Callable[[str], int | None] = no_user


def guess_kind(word: str) -> str:
    """The rule kind ``word`` may have stood for, "" if there is none near."""
    return _guess(word, KINDS, _OTHER_KINDS)


def guess_key(word: str) -> str:
    """The condition ``word`` may have stood for, "" if there is none near."""
    return _guess(word, KEYS, _OTHER_KEYS)


def near(word: str, known: Iterable[str], most: int = 3, cutoff: float = 0.6) -> list[str]:
    """Up to ``most`` of the ``known`` names that look like ``word``, the likeliest first.

    ``cutoff`` is how alike they must be, from 0 to 1 (difflib's ratio).
    """
    names = list(known)
    import difflib  # only where something is wrong: its import costs more than a rule

    alike = difflib.get_close_matches(word, names, n=most, cutoff=cutoff)
    longer = sorted((name for name in names if len(word) > 2 and word in name), key=len)
    return list(dict.fromkeys([*alike, *longer]))[:most]


def did_you_mean(guesses: Iterable[str]) -> str:
    """The question ``Did you mean a, b or c?``, "" without a guess."""
    *most, last = [*guesses] or [""]
    if not last:
        return ""
    return f"Did you mean {', '.join(most)} or {last}?" if most else f"Did you mean {last}?"


def _guess(word: str, known: tuple[str, ...], elsewhere: dict[str, str]) -> str:
    lower = word.lower()
    if lower in known:
        return lower
    if lower in elsewhere:
        return elsewhere[lower]
    return next(iter(near(lower, known, 1, 0.5)), "")
