"""One hop as lines of a terminal: who to whom, by what, when, and where both stood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.text import Text

from clew.model.flow import Activation, Hop, HopKind
from clew.model.frame import Backtrace
from clew.model.task import Party
from clew.view import words
from clew.view.escape import shell, visible
from clew.view.lines import Word, ends, hang, shorten, wrap
from clew.view.options import Options

_FRAME_LINES = 2  # what a backtrace may take
_ARGUMENT_LINES = 2


@dataclass(frozen=True, slots=True)
class Sheet:
    """What all hops of a page share: its width, the column the names begin in, how much to show."""

    options: Options
    width: int
    indent: int
    activations: Mapping[int, Activation]

    @property
    def room(self) -> int:
        """Columns right of the numbers."""
        return self.width - self.indent


def heading(sheet: Sheet, hop: Hop, mark: str = "") -> list[Text]:
    """Number, from → to, and the milliseconds since the root began; on two lines if one is too short."""
    when = Text(f"{words.milliseconds(hop.t_ns)} ms", "dim")
    number = (
        Text()
        .append(f"{hop.n:>{sheet.indent - 3}} ", "bold cyan" if hop.on_path else "cyan")
        .append(f"{mark:<2}")
    )
    arrow, source, target = Text("→ ", "dim"), _party(hop.source, sheet.room), _party(hop.target, sheet.room)
    if source.cell_len + target.cell_len + when.cell_len + 5 <= sheet.room:
        return [ends(Text.assemble(number, source, " ", arrow, target), when, sheet.width)]
    second = Text.assemble(" " * sheet.indent, arrow, _party(hop.target, sheet.room - when.cell_len - 4))
    return [Text.assemble(number, source), ends(second, when, sheet.width)]


def in_full(sheet: Sheet, hop: Hop, mark: str = "") -> list[Text]:
    """A hop of a path: everything, over several lines."""
    by = _exec_words(sheet, hop) if hop.kind is HopKind.EXEC else _by_words(sheet, hop)
    body = wrap(by, sheet.room, cut=not sheet.options.verbose)
    for warning in words.caveats(hop) + _causes(sheet, hop):
        body += wrap([(word, "yellow") for word in warning.split()], sheet.room)
    body += _backtrace(sheet, "in  " if hop.kind is HopKind.EXEC else "from", hop.stack_from)
    body += _backtrace(sheet, "to  ", hop.stack_to)
    return [*heading(sheet, hop, mark), *hang(Text(" " * sheet.indent), body)]


def in_short(sheet: Sheet, hop: Hop, mark: str) -> list[Text]:
    """A hop of a flow: two lines, and one for each thing to beware of."""
    if hop.kind is HopKind.EXEC:
        body = wrap(_exec_words(sheet, hop), sheet.room)
    else:
        body = [Text(shorten(words.by_what(hop), sheet.room), "green")]
        where = _named(sheet.options.pick(hop.stack_from))[:1]
        if where and body[0].cell_len + 5 < sheet.room:
            spot = shorten(words.place(where[0]), sheet.room - body[0].cell_len - 4)
            body[0].append(" in ", "dim").append(spot)
    for warning in words.caveats(hop) + _causes(sheet, hop):
        body += wrap([(word, "yellow") for word in warning.split()], sheet.room)
    return [*heading(sheet, hop, mark), *hang(Text(" " * sheet.indent), body)]


def _party(party: Party, room: int) -> Text:
    number = words.ids(party)
    return Text().append(shorten(words.who(party), room - len(number) - 1), "bold").append(" " + number)


def _by_words(sheet: Sheet, hop: Hop) -> list[Word]:
    by = words.by_what(hop)
    if hop.channel and sheet.options.verbose:
        by += f" ({visible(hop.channel.id)})"
    return [(word, "green") for word in by.split(" ")]


def _exec_words(sheet: Sheet, hop: Hop) -> list[Word]:
    """The command line, as much of it as fits in a few lines."""
    shown: list[Word] = [("exec", "green"), (shell(hop.exe or hop.target.exe), "bold green")]
    arguments, longest = hop.argv[1:], sheet.room if sheet.options.verbose else sheet.room // 2
    for at, argument in enumerate(arguments):
        word = shell(argument)
        word = word if sheet.options.verbose else shorten(word, longest)
        if not sheet.options.verbose and len(wrap([*shown, (word, "")], sheet.room)) > _ARGUMENT_LINES:
            more = words.count(len(arguments) - at, "more argument")
            return [*shown, ("…", "dim"), *_dim(f"{more} {words.rights(hop)}")]
        shown.append((word, "green"))
    shown += _dim("… (the recording kept no more)") if hop.argv_truncated else []
    return shown + _dim(words.rights(hop))


def _dim(text: str) -> list[Word]:
    return [(word, "dim") for word in text.split()]


def _causes(sheet: Sheet, hop: Hop) -> list[str]:
    """Several hops can begin one stretch of work; none of them is picked in silence."""
    activation = sheet.activations.get(hop.target_activation)
    others = [n for n in activation.triggers if n != hop.n] if activation else []
    if not others or activation is None or hop.n not in activation.triggers:
        return []
    listed = ", ".join(map(str, others[:6])) + (", …" if len(others) > 6 else "")
    return [f"taken in together with hop{'s' if len(others) > 1 else ''} {listed}"]


def _named(frames: Backtrace) -> Backtrace:
    """The frames that have a name, or all if none has."""
    return tuple(frame for frame in frames if frame.function) or frames


def _backtrace(sheet: Sheet, label: str, stack: Backtrace) -> list[Text]:
    if not stack or sheet.options.quiet:
        return []
    title = Text(label + "  ", "dim")
    if sheet.options.verbose:
        return hang(title, [line for i, f in enumerate(stack) for line in _frame(sheet, i, words.full(f))])
    frames = _named(sheet.options.pick(stack) or stack[:1])
    return hang(title, wrap(_chain(sheet, [words.place(f) for f in frames], words.source_line(frames[0])),
                            sheet.room - title.cell_len))  # fmt: skip


def _frame(sheet: Sheet, number: int, text: str) -> list[Text]:
    label = Text(f"#{number:<3}", "dim")
    room = sheet.room - 6 - label.cell_len
    return hang(label, wrap([(word, "") for word in text.split(" ")], room, cut=False))


def _chain(sheet: Sheet, innermost_first: list[str], at: str) -> list[Word]:
    """Caller › callee, ending where the hop was made; what does not fit is left out at the far end."""
    room = sheet.room - 6
    more: list[Word] = [("…", "dim"), ("›", "dim")]
    kept: list[Word] = [(innermost_first[0] + (f" ({at})" if at else ""), "")]
    for left, name in zip(range(len(innermost_first) - 2, -1, -1), innermost_first[1:], strict=True):
        wider: list[Word] = [(f"{shorten(name, room - 2)} ›", "dim"), *kept]
        if len(wrap(wider if not left else more + wider, room)) > _FRAME_LINES:
            return more + kept
        kept = wider
    return kept
