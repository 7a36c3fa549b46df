"""The soak: random rules over a zoo of programs, while clew's processes are killed at random.

``python -m bench.hold_soak [SECONDS] [SEED]``.  After each round: nothing is stopped, no ``int3`` is left in
any mapped code (compared with the file), every program ends with its own status, and no pin is left.  Prints
rounds, kills and faults, and the seed; its exit status is 1 if there was a fault.  Of the ptrace engine's
processes one is killed a round: nobody is left to undo what a holder and its heir leave together.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench.hold_zoo import STATUS, Animal, build
from clew.kernel import features, procfs

_SETTLE_S = 20.0
_CLEW = (sys.executable, "-c", "from clew.cli.main import run; run()")
_PINS = Path("/sys/fs/bpf")


@dataclass(slots=True)
class Score:
    """How it went."""

    rounds: int = 0
    killed: int = 0
    held: int = 0
    faults: int = 0


def main(seconds: float = 600, seed: int = 0) -> int:
    """Run for that long and print the score; 1 if there was a fault."""
    seed = seed or random.SystemRandom().randrange(1, 1 << 32)
    print(f"seed {seed}", flush=True)
    chance, score = random.Random(seed), Score()
    with tempfile.TemporaryDirectory(prefix="clew-soak-") as name:
        animals = build(Path(name))
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            _play(chance, Path(name), animals, score)
    print(
        f"{score.rounds} rounds, {score.held} held, {score.killed} processes of clew killed:"
        f" {score.faults} faults (seed {seed})"
    )
    return bool(score.faults)


def _play(chance: random.Random, folder: Path, animals: list[Animal], score: Score) -> None:
    one = _Round(chance, folder, chance.choice(animals))
    faults = one.run()
    score.rounds += 1
    score.killed += len(one.killed)
    score.held += one.held
    score.faults += len(faults)
    for fault in faults:
        print(f"round {score.rounds}, {one}: {fault}", flush=True)


@dataclass(slots=True)
class _Round:
    """One session with one program, and its end."""

    chance: random.Random
    folder: Path
    animal: Animal
    rules: list[str] = field(default_factory=list)
    engine: str = ""
    killed: list[str] = field(default_factory=list)
    acts: list[str] = field(default_factory=list)
    held: int = 0

    def __str__(self) -> str:
        done = f" {'+'.join(self.acts)}" if self.acts else ""
        return (
            f"{self.engine} {' '.join(self.rules)} -- {self.animal.program.name}{done}, killed {self.killed}"
        )

    def run(self) -> list[str]:
        """Play it; what was wrong at the end."""
        bpf = features.privileges().ok
        self.engine = self.chance.choice(["bpf", "bpf", "ptrace"]) if bpf else "ptrace"
        self.rules = self.chance.sample(self.animal.rules, self.chance.randint(1, 2))
        program = subprocess.Popen(
            [self.animal.program], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, process_group=0
        )
        clew = self._begin(program.pid)
        try:
            if clew is None:
                return ["clew did not begin"]
            self._disturb(clew, program)
            self._end(clew)
            return self._look(clew, program)
        finally:
            for process in (clew, program):
                if process is not None:
                    process.kill()
                    process.wait()

    def _begin(self, pid: int) -> subprocess.Popen[bytes] | None:
        output = self.folder / "output"
        with output.open("wb") as file:
            clew = subprocess.Popen(
                [*_CLEW, "hold", "--json", "--yes", "--engine", self.engine, "-p", str(pid), *self.rules],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self._environment(),
            )
        until = time.monotonic() + _SETTLE_S
        while time.monotonic() < until and clew.poll() is None:
            if self._clew("ps", "--json").returncode == 0 and (self.folder / "run" / "hold.sock").exists():
                return clew
        clew.kill()
        clew.wait()
        print(output.read_text(errors="replace")[-600:])
        return None

    def _environment(self) -> dict[str, str]:
        (self.folder / "run").mkdir(mode=0o700, exist_ok=True)
        return {
            **os.environ,
            "CLEW_RUNTIME_DIR": str(self.folder / "run"),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }

    def _clew(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*_CLEW, *words],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )

    def _disturb(self, clew: subprocess.Popen[bytes], program: subprocess.Popen[bytes]) -> None:
        """Let the program go to work, and do to its holds what people do."""
        assert program.stdin is not None
        program.stdin.write(b"go\n")
        program.stdin.flush()
        for _ in range(self.chance.randint(0, 3)):
            holds = self._holds()
            if not holds or clew.poll() is not None:
                continue
            name = str(self.chance.choice(holds)["hold"])
            act = self.chance.choice(["release", "bt", "handover", "gdb", "release"])
            self.acts.append(act)
            self._clew(act, name, *(["--", "-batch", "-ex", "bt 1"] if act == "gdb" else []))
            if self.chance.random() < 0.5:
                os.kill(program.pid, self.animal.signal)

    def _holds(self) -> list[dict[str, object]]:
        try:
            found: list[dict[str, object]] = json.loads(self._clew("ps", "--json").stdout or b"[]")
        except ValueError:
            return []
        self.held = max(self.held, len(found))
        return found

    def _end(self, clew: subprocess.Popen[bytes]) -> None:
        """End the session: as people do, or with -9 for one or several of its processes, in any order."""
        ours = {**dict.fromkeys(_descendants(clew.pid), "helper"), clew.pid: "clew"}
        most = len(ours) if self.engine == "bpf" else 1
        if self.chance.random() < 0.75:
            for pid in self.chance.sample(sorted(ours), self.chance.randint(1, most)):
                self.killed.append(ours[pid])
                _kill(pid, signal.SIGKILL)
        if clew.poll() is None and "clew" not in self.killed:
            clew.send_signal(signal.SIGTERM)
        if len(self.killed) > 1:
            self._clew("release", "--all")

    def _look(self, clew: subprocess.Popen[bytes], program: subprocess.Popen[bytes]) -> list[str]:
        """What is wrong once everything has had time to end."""
        until = time.monotonic() + _SETTLE_S
        wrong = ["it did not end"]
        while wrong and time.monotonic() < until:
            time.sleep(0.02)
            wrong = _stopped(program.pid) + ([] if clew.poll() is not None else ["clew did not end"])
            wrong += [] if wrong else _breakpoints(program.pid)
        assert program.stdin is not None
        if not wrong:
            program.stdin.close()
            try:
                status = program.wait(_SETTLE_S)
            except subprocess.TimeoutExpired:
                status = None
            if status != STATUS:
                wrong.append(f"its status is {status}")
        if not wrong and list(_PINS.glob(f"clew-hold-{clew.pid}-*")):
            self._clew("release", "--all")
            wrong = ["a pin is left"] if list(_PINS.glob(f"clew-hold-{clew.pid}-*")) else []
        return wrong


def _descendants(pid: int) -> list[int]:
    found, parents = [], {pid}
    for _ in range(3):
        children = {p for p in procfs.pids() if (s := procfs.stat(p)) is not None and s.parent in parents}
        found += sorted(children)
        parents = children
    return found


def _kill(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _stopped(pid: int) -> list[str]:
    """Threads of the program and of what it started that stand still."""
    wrong = []
    for process in [pid, *_descendants(pid)]:
        for tid in procfs.threads(process):
            found = procfs.stat(process, tid)
            if found is not None and found.state in "Tt":
                wrong.append(f"thread {tid} of {process} stands still ({found.state})")
    return wrong


def _breakpoints(pid: int) -> list[str]:
    """Places where the program's mapped code is not that of its files."""
    wrong = []
    for process in [pid, *_descendants(pid)]:
        for mapping in procfs.mappings(process):
            if not mapping.path.startswith(b"/"):
                continue
            try:
                with Path(f"/proc/{process}/mem").open("rb", 0) as memory:
                    memory.seek(mapping.start)
                    code = memory.read(mapping.end - mapping.start)
                with Path(os.fsdecode(mapping.path)).open("rb", 0) as file:
                    file.seek(mapping.file_offset)
                    there = file.read(len(code))
            except OSError:
                continue
            if code[: len(there)] != there:
                at = next(i for i, (a, b) in enumerate(zip(code, there, strict=False)) if a != b)
                name = os.fsdecode(mapping.path)
                wrong.append(f"{name}+{mapping.file_offset + at:#x} is {code[at]:#x} in process {process}")
    return wrong


if __name__ == "__main__":
    raise SystemExit(main(*map(int, sys.argv[1:])))
