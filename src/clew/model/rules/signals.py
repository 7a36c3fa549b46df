"""Signals of Linux by name and number (signal(7); x86-64 and AArch64 agree on all of them)."""

from __future__ import annotations

from clew.model.rules.glob import Glob

# fmt: off
_STANDARD = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
    "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
    "WINCH", "IO", "PWR", "SYS",
]
# fmt: on

# As glibc counts them: it keeps 32 and 33 for itself.
_REALTIME_FIRST, _REALTIME_LAST = 34, 64
_ALIASES = {"SIGIOT": 6, "SIGCLD": 17, "SIGPOLL": 29, "SIGRTMAX": 64, "SIGUNUSED": 31}

NAMES: dict[int, str] = {number: f"SIG{name}" for number, name in enumerate(_STANDARD, 1)}
"""Number → name: ``SIGHUP`` to ``SIGSYS``, ``SIG32``, ``SIG33``, ``SIGRTMIN``, ``SIGRTMIN+1``, ..."""
NAMES |= {32: "SIG32", 33: "SIG33", _REALTIME_FIRST: "SIGRTMIN"}
NAMES |= {n: f"SIGRTMIN+{n - _REALTIME_FIRST}" for n in range(_REALTIME_FIRST + 1, _REALTIME_LAST + 1)}

NUMBERS: dict[str, int] = {name: number for number, name in NAMES.items()}
"""Name → number, with the other names signal(7) lists."""
NUMBERS |= _ALIASES | {f"SIGRTMAX-{n}": _REALTIME_LAST - n for n in range(1, 31)}


def signal_name(number: int) -> str:
    """``SIGTERM`` for 15; ``SIGnnn`` for a number no signal has."""
    return NAMES.get(number, f"SIG{number}")


def signals_named(name: str) -> frozenset[int]:
    """The signals ``name`` stands for: ``SIGTERM``, ``term``, ``15``, ``SIGRT*``; none if it is unknown."""
    if name.isascii() and name.isdigit():
        return frozenset({int(name)} & NAMES.keys())
    pattern = Glob.parse(full_name(name))
    return frozenset(number for known, number in NUMBERS.items() if pattern.matches(known.encode()))


def full_name(name: str) -> str:
    """``name`` in capitals with SIG before it, as NUMBERS spells names."""
    upper = name.upper()
    return upper if upper.startswith(("SIG", "*")) else f"SIG{upper}"
