"""The terminal's view: what it says, that it fits, and that nothing traced acts on the terminal."""

from __future__ import annotations

import io
import itertools
import re
from dataclasses import replace

import pytest
from rich.cells import cell_len

from clew.model.flow import Flow
from clew.view import Options, render, stream_ascii, stream_color, stream_width
from tests.golden.view import flows

FLOWS = {"libvirt": flows.libvirt(), "mixed": flows.mixed(), "nasty": flows.nasty(), "chain": flows.chain(40)}
COLOR = re.compile(r"\x1b\[[0-9;]*m")


def text(flow: Flow, **options: object) -> str:
    return render(flow, "text", replace(Options(pick=flows.said, trace="T"), **options))  # type: ignore[arg-type]


def _squeezed(shown: str) -> str:
    return " ".join(shown.split())


def test_path_is_told_in_order_and_replies_are_not_in_it() -> None:
    shown = text(flows.libvirt())
    numbers = re.findall(r"^ *(\d+)  .* ms$", shown, re.MULTILINE)
    assert numbers == ["1", "2", "3", "6"]
    assert "unix socket /run/libvirt/libvirt-sock, 56 bytes" in shown
    assert re.search(r"^ 2   libvirtd 812 → libvirtd/rpc-worker 812/815 +20\.730 ms$", shown, re.MULTILINE)
    assert "exec /usr/bin/qemu-system-x86_64 -name guest=tiny,debug-threads=on -S" in shown


def test_fork_shows_who_launched() -> None:
    fork = text(flows.libvirt()).split("\n 3 ")[1].split("\n 6 ")[0]
    assert "qemuProcessLaunch › virCommandRun › virCommandRunAsync › virFork" in _squeezed(fork)


def test_source_line_is_told_for_the_innermost_frame() -> None:
    flow = flows.libvirt()
    first = replace(flow.hops[0], stack_from=flow.hops[0].stack_from[-1:])
    assert "cmdStart (virsh-domain.c:4097)" in text(replace(flow, hops=(first, *flow.hops[1:])))


def test_handshake_is_in_the_whole_flow() -> None:
    shown = text(flows.libvirt(), whole=True, verbose=True)
    assert "virCommandHandshakeNotify" in shown
    assert re.search(r"^ 1 \* virsh", shown, re.MULTILINE)
    assert re.search(r"^ 8 ← libvirtd 812 → virsh", shown, re.MULTILINE)


def test_verbose_shows_every_frame_and_argument() -> None:
    flow = flows.libvirt()
    shown = _squeezed(text(flow, verbose=True))
    assert "__GI___writev" in shown and "libvirt.so.0.9000.0+0x8a3c0" in shown
    assert all(arg.decode() in shown for arg in flows.QEMU_ARGV if b'"' not in arg)
    assert "more argument" not in shown


def test_quiet_is_the_path_alone() -> None:
    shown = text(flows.libvirt(), quiet=True)
    assert shown.startswith(" 1   virsh 4121 → libvirtd 812")
    assert "clew hold" not in shown and "from" not in shown and "recorded" not in shown


def test_quiet_hides_no_loss_and_no_note() -> None:
    shown = text(flows.mixed(), quiet=True)
    assert "15 LOST: read 12, futex 3" in shown
    assert "No backtrace could be taken of pool 22." in shown


def test_ends_with_what_to_do_next() -> None:
    shown = text(flows.libvirt()).rstrip().splitlines()[-2:]
    assert "clew hold 'hop:T#6'" in shown[0]
    assert "clew show T --until 'exec:*qemu-system-x86_64' --format svg" in shown[1]


@pytest.mark.parametrize(
    ("trace", "hold", "show"),
    [
        ("my trace", "clew hold 'hop:my trace#6'", "clew show 'my trace' "),
        ("-t", "clew hold 'hop:-t#6'", "clew show ./-t "),
        ("it's", 'clew hold "hop:it\'s#6"', 'clew show "it\'s" '),
        ("a\x1b[m", r"clew hold $'hop:a\033\133m\0436'", r"clew show $'a\033\133m' "),
    ],
)
def test_commands_can_be_pasted(trace: str, hold: str, show: str) -> None:
    shown = text(flows.libvirt(), trace=trace, width=110)
    assert hold in shown and show in shown


def test_without_a_kept_trace_there_is_nothing_to_paste() -> None:
    assert "clew hold" not in text(flows.libvirt(), trace="")


def test_several_causes_are_all_told() -> None:
    shown = text(flows.mixed())
    assert "taken in together with hop 5" in shown and "taken in together with hop 4" in shown


def test_doubts_are_told() -> None:
    shown = text(flows.mixed())
    assert "ambiguous: the order of the queue" in shown and "events were lost near here" in shown


def test_alike_hops_are_folded_unless_verbose() -> None:
    assert "… 39 more rounds like these 2, to #87, 4,992 bytes, 87.000 ms" in text(flows.mixed())
    assert "more rounds" not in text(flows.mixed(), verbose=True)
    assert re.search(r"^87 ", text(flows.mixed(), verbose=True), re.MULTILINE)


def test_a_target_that_was_not_reached_is_said_first() -> None:
    assert text(flows.mixed()).splitlines()[1] == "exec:*qemu* was NOT reached; the flow is what there was"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (0, "virsh exited with status 0"),
        (3, "status 3"),
        (-9, "killed by SIGKILL"),
        (-99, "SIG99"),
        (None, "not seen"),
    ],
)
def test_how_the_command_ended(status: int | None, said: str) -> None:
    assert said in text(replace(flows.libvirt(), exit_status=status))


def test_a_long_flow_has_a_beginning_and_an_end() -> None:
    shown = text(flows.big(3000))
    assert len(shown.splitlines()) < 450
    assert re.search(r"^ +1 ", shown, re.MULTILINE) and re.search(r"^3000 ←", shown, re.MULTILINE)
    assert re.search(r"… 2,\d+ hops between, to #\d+ \(-v shows them\)", shown)
    assert len(text(flows.big(3000), verbose=True).splitlines()) > 6000


def test_a_flow_without_hops() -> None:
    flow = Flow(flows.VIRSH, (b"true",), (), (), exit_status=0)
    shown = text(flow)
    assert shown.startswith("true\n0 hops") and "Nothing left the task" in shown and "none lost" in shown


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize("width", [40, 60, 80, 110, 400])
def test_every_line_fits(name: str, width: int) -> None:
    for whole, verbose, quiet in itertools.product((False, True), repeat=3):
        shown = text(FLOWS[name], width=width, whole=whole, verbose=verbose, quiet=quiet)
        assert max(map(cell_len, shown.splitlines())) <= width


@pytest.mark.parametrize("name", FLOWS)
def test_colour_adds_nothing_but_colour(name: str) -> None:
    plain, colored = text(FLOWS[name]), text(FLOWS[name], color=True)
    assert COLOR.search(colored) and COLOR.sub("", colored) == plain
    assert all(line.isprintable() for line in plain.splitlines())


@pytest.mark.parametrize("name", FLOWS)
def test_ascii_alone_where_the_stream_knows_no_more(name: str) -> None:
    shown = text(FLOWS[name], ascii=True, color=True)
    assert shown.isascii()
    assert all(line.isprintable() for line in COLOR.sub("", shown).splitlines())


class _Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_colour_only_on_a_terminal_that_wants_it() -> None:
    assert stream_color(_Terminal(), {"TERM": "xterm"})
    assert not stream_color(io.StringIO(), {"TERM": "xterm"})
    assert not stream_color(_Terminal(), {"NO_COLOR": "1"})
    assert stream_color(_Terminal(), {"NO_COLOR": ""})
    assert not stream_color(_Terminal(), {"TERM": "dumb"})


def test_width_of_a_file_is_eighty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "132")
    assert stream_width(io.StringIO()) == 80
    assert stream_width(_Terminal()) == 132


def test_arrows_need_an_encoding_that_has_them() -> None:
    assert not stream_ascii(_Terminal())
    assert stream_ascii(io.TextIOWrapper(io.BytesIO(), encoding="latin-1"))
