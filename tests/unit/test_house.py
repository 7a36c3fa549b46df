"""The house itself: the one script, the build of the probes, what the documents promise."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from clew.code.elf import ElfFile

ROOT = Path(__file__).resolve().parent.parent.parent
PROBES = ROOT / "src" / "clew" / "engine" / "bpf" / "probes"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_DUAL = "SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only)"


def _run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("words", [(), ("no-such-command",)])
def test_x_says_what_it_can_do(words: tuple[str, ...]) -> None:
    done = _run("./x", *words)
    assert done.returncode == 125
    assert done.stdout == ""
    for command in ("demo", "test", "lint", "bench"):
        assert f"./x {command}" in done.stderr


def test_what_is_built_is_kept_out_of_git() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"*.bpf.o", ".venv/", "*.pyc"} <= set(ignored)


@pytest.mark.parametrize("source", sorted(PROBES.glob("*.[ch]")), ids=lambda path: path.name)
def test_probes_are_dual_licensed(source: Path) -> None:
    assert _DUAL in source.read_text().splitlines()[0]


@pytest.mark.requires("clang")
@pytest.mark.parametrize("source", sorted(PROBES.glob("*.bpf.c")), ids=lambda path: path.name)
def test_a_probe_compiles_with_btf(source: Path, tmp_path: Path) -> None:
    import hatch_build

    folder = shutil.copytree(PROBES, tmp_path / "probes", ignore=shutil.ignore_patterns("*.o"))
    built = hatch_build.compile_probe(hatch_build.bpf_compiler(), folder / source.name)
    assert built.name == source.name.removesuffix(".c") + ".o"
    with ElfFile.open(built) as elf:
        assert {b".BTF", b".BTF.ext", b".maps"} <= {section.name for section in elf.sections}
    assert list(folder.glob("*.o")) == [built]


@pytest.mark.requires("clang")
def test_a_fault_in_a_probe_is_shown_and_leaves_nothing(tmp_path: Path) -> None:
    import hatch_build

    wrong = tmp_path / "wrong.bpf.c"
    wrong.write_text("int probe(void) { return missing; }\n")
    with pytest.raises(SystemExit, match="missing"):
        hatch_build.compile_probe(hatch_build.bpf_compiler(), wrong)
    assert list(tmp_path.iterdir()) == [wrong]


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~\[; ]", each, maxsplit=1)[0] for each in requirements}


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    reasons = (ROOT / "docs" / "internals" / "dependencies.md").read_text()
    every = _names(project["dependencies"]) | _names(project["optional-dependencies"]["dev"])
    assert {name for name in every if f"`{name}`" not in reasons} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_in_documents_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
    assert [target for target in targets if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_documents_name_exist(document: Path) -> None:
    named = re.findall(r"`((?:src|tests|docs|examples|bench)/[\w./-]+)`", document.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


_NEEDS_A_DRAGON = """
import pytest

def test_skips():
    pytest.skip("no dragon here")

def test_kernel():
    pytest.skip("the kernel refuses: dragons")

@pytest.mark.requires("root")
def test_passes_or_skips():
    pass
"""


def _inner_pytest(folder: Path, ci: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_inner.py").write_text(_NEEDS_A_DRAGON)
    plain = ("-c", os.devnull, "-p", "no:cacheprovider", "-p", "tests.support.prerequisites", "-rs")
    where = ("--rootdir", folder, folder)
    path = f"{ROOT}:{ROOT / 'src'}"
    return _run(sys.executable, "-m", "pytest", *plain, *where, CI=ci, PYTHONPATH=path)


@pytest.mark.requires("root")
def test_a_skip_is_a_failure_in_ci_unless_the_kernel_refuses(tmp_path: Path) -> None:
    done = _inner_pytest(tmp_path, "true")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed, 1 skipped" in done.stdout
    assert "in CI is a failure: no dragon here" in done.stdout
    assert "NOT TESTED" in done.stdout


@pytest.mark.requires("root")
def test_at_home_a_skip_is_a_skip(tmp_path: Path) -> None:
    done = _inner_pytest(tmp_path, "")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 2 skipped" in done.stdout
    assert "no dragon here" in done.stdout


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import argparse, sys; from importlib import import_module; from clew.cli.main import COMMANDS;"
        "found = argparse.ArgumentParser().add_subparsers();"
        "[import_module('clew.cli.' + c.replace('-', '_')).add_parser(found) for c in COMMANDS];"
        "print(*({'numpy', 'drgn', 'ctypes', 'duckdb', 'clew.flow'} & set(sys.modules)))"
    )
    done = _run(sys.executable, "-c", script)
    assert (done.stdout, done.stderr) == ("\n", "")


def test_help_of_all_does_not_wait_for_the_libraries_of_types() -> None:
    slow = {"typing", "dataclasses", "difflib"}
    script = f"import sys; import clew.cli.main; print(*({slow} & set(sys.modules)))"
    assert _run(sys.executable, "-c", script).stdout == "\n"
