"""``./x kernels [KERNEL...]``: see ``kernels/README.md``."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kernels import compilers, machine, payload, results, run, table
from kernels.image import Image, image
from kernels.progress import StepFailed, say
from kernels.releases import RELEASES, release_for
from kernels.root import TREE

_LOAD = "python3 -m kernels.guest.load src/clew/engine/bpf/probes"
PAGE = TREE / "docs" / "kernels.md"


def main(words: list[str]) -> int:
    """The command line; its exit status."""
    words, command = _split(words)
    args = _parser().parse_args(words)
    if os.geteuid() != 0:
        raise SystemExit("kernels: root file systems are made with chroot(2): run it as root.")
    wanted = args.kernels or [release.kernel for release in RELEASES]
    try:
        images = [image(release_for(word), args.fresh) for word in wanted if word != run.HERE]
        if command or args.load:
            return max(_show(each, command or _LOAD, args.limit) for each in images)
        return _check(images, run.HERE in wanted, args)
    except StepFailed as error:
        raise SystemExit(f"kernels: {error}") from None


def _split(words: list[str]) -> tuple[list[str], str]:
    if "--" not in words:
        return words, ""
    at = words.index("--")
    return words[:at], shlex.join(words[at + 1 :])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./x kernels", usage="./x kernels [OPTIONS] [KERNEL...] [-- COMMAND]"
    )
    parser.add_argument(
        "kernels",
        nargs="*",
        metavar="KERNEL",
        help="6.1, 6.12, newest, a suite's name, or here: this machine's",
    )
    parser.add_argument(
        "--load", action="store_true", help="only load each BPF program, and show the refusals"
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="CHECK", help="only this check (repeatable)"
    )
    parser.add_argument(
        "--all", action="store_true", help="slow checks too, that hardly depend on the kernel"
    )
    parser.add_argument("--write", action="store_true", help="write docs/kernels.md from the latest results")
    parser.add_argument("--fresh", action="store_true", help="make root file systems anew")
    parser.add_argument(
        "--limit", type=float, default=2400, metavar="S", help="end a machine after this time"
    )
    return parser


def _check(images: list[Image], here: bool, args: argparse.Namespace) -> int:
    """All checks on each kernel; 1 if one found a fault."""
    with tempfile.TemporaryDirectory(prefix="clew-kernels-") as folder:
        objects = compilers.objects(images, Path(folder))
        checks = ["--all"] if args.all else args.only
        # A machine keeps one processor busy (machine.py says why).
        with ThreadPoolExecutor(os.cpu_count()) as machines:
            found = list(machines.map(lambda each: run.on(each, objects, checks, args.limit), images))
        found += [run.here(objects, checks)] if here else []
    for one in found:
        run.show(one)
        if not args.only:
            results.keep(one, run.place_of(one.release))
    if args.write:
        PAGE.write_text(table.page(map(results.kept, sorted(run.place_of("*").parent.glob("*.json")))))
        say(f"wrote {PAGE.relative_to(TREE)}")
    return 0 if all(one.good for one in found) else 1


def _show(booted: Image, command: str, limit_s: float) -> int:
    """Run one command in the machine with its console here; 1 if it did not come to its end."""
    say(f"{booted.release.name}: booting Linux {booted.kernel_version}")
    with tempfile.TemporaryDirectory(prefix="clew-kernels-") as folder:
        place = Path(folder)
        payload.write(place / "payload", f'{command}; echo "status $?" >/dev/ttyS1', {})
        ended = machine.boot(booted, place / "payload", place, limit_s, shown=True)
    if not ended.in_time:
        say(f"{booted.release.name}: the machine was not done after {limit_s:.0f} s, or qemu failed")
    return 0 if ended.in_time and ended.report.strip() == "status 0" else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
