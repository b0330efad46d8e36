"""Documentation that cannot rot: generated pages are fresh, links lead somewhere, code blocks are what they say."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.source_tree import ROOT, project

FENCE = re.compile(r"^```(?P<language>[^\n`]*)\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]\n]+\]\((?P<target>[^)\s]+)\)")
ILLUSTRATION = ("", "text", "mermaid", "console", "ini", "diff")
"""Languages of blocks that show something and claim nothing that could be run here."""


def pages() -> list[Path]:
    """List every page that people read."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])


def blocks() -> Iterator[tuple[str, str, str]]:
    """Give (place, language and marks, body) of every fenced block."""
    for page in pages():
        text = page.read_text("utf-8")
        for match in FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield f"{page.relative_to(ROOT)}:{line}", match["language"].strip(), match["body"]


def test_generated_pages_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_links_between_pages_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {match['target']}"
        for page in pages()
        for match in LINK.finditer(page.read_text("utf-8"))
        if "://" not in match["target"] and not match["target"].startswith(("#", "mailto:"))
        if not (page.parent / match["target"].split("#")[0]).exists()
    ]
    assert broken == []


def test_every_code_block_is_run_checked_or_an_illustration() -> None:
    checked = ("python", "json", "toml", "sh", "make", "qasm")
    unknown = [place for place, language, _ in blocks() if language.split(" ")[0] not in (*checked, *ILLUSTRATION)]
    assert unknown == []


def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # some write files
    for place, language, body in blocks():
        words = language.split(" ")
        if words[0] != "python":
            continue
        code = compile(body, place, "exec", dont_inherit=True)  # as a reader runs it, without our own futures
        if "part" not in words[1:]:  # marked as part of a larger program: it must compile, no more
            exec(code, {"__name__": f"block of {place}"})  # noqa: S102 - our own documentation


def test_json_and_toml_blocks_parse() -> None:
    for place, language, body in blocks():
        if language.startswith("json"):
            assert json.loads(body) is not None, place
        elif language.startswith("toml"):
            assert tomllib.loads(body), place


def test_commands_in_shell_blocks_exist() -> None:
    from qedge.cli.main import make_parser  # not at import: the other tests here need no command line

    makefile = (ROOT / "Makefile").read_text("utf-8")
    commands = next(action.choices for action in make_parser()._actions if action.dest == "command")
    missing = []
    for place, language, body in blocks():
        if language not in ("sh", "console", ""):
            continue
        for line in body.splitlines():
            if language == "console" and not line.startswith("$ "):
                continue  # what a command answered
            words = line.removeprefix("$ ").removeprefix("sudo ").split()
            if words[:1] == ["qedge"] and len(words) > 1 and not words[1].startswith("-"):
                missing += [f"{place}: {line}"] if words[1] not in (commands or {}) else []
            elif words[:1] == ["make"] and len(words) > 1 and re.fullmatch(r"[a-z-]+", words[1]):
                missing += [f"{place}: {line}"] if f"\n{words[1]}:" not in makefile else []
    assert missing == []


def test_commands_in_shell_blocks_take_the_arguments_that_they_are_given(capsys: pytest.CaptureFixture[str]) -> None:
    from qedge.cli.main import make_parser

    parser, seen, faulty = make_parser(), 0, []
    for place, language, body in blocks():
        if language not in ("sh", "console"):
            continue
        for line in body.replace("\\\n", " ").splitlines():
            if language == "console" and not line.startswith("$ "):
                continue
            command = re.split(r"\s(?:\||>|<|&&|2>)", line.removeprefix("$ ").removeprefix("sudo "))[0]
            if not command.startswith("qedge "):
                continue
            seen += 1
            try:
                parser.parse_args(shlex.split(command, comments=True)[1:])
            except SystemExit as end:
                faulty += [f"{place}: {line}: {capsys.readouterr().err}"] if end.code else []
    assert faulty == []
    assert seen > 100


@pytest.mark.parametrize("name", [each.split(">")[0].split(";")[0] for each in project()["project"]["dependencies"]])
def test_every_dependency_has_a_decision_record(name: str) -> None:
    records = [record.read_text("utf-8") for record in (ROOT / "docs" / "decisions").glob("*.md")]
    assert any(f"`{name}`" in record.partition("## Context")[0] for record in records)


@pytest.mark.parametrize("record", sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md")), ids=lambda path: path.name)
def test_a_decision_record_has_its_parts(record: Path) -> None:
    text = record.read_text("utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == ["Context", "Decision", "Rejected", "Consequences"]
    assert re.search(r"^Status: (accepted|superseded by .+)$", text, re.MULTILINE)


def test_configuration_files_have_no_faults() -> None:
    from qedge.config import check_config
    from qedge.security.policy.document import read_document

    for file in sorted((ROOT / "configs").rglob("*.toml")):
        if file.name == "policy.toml":
            assert read_document(file.read_bytes(), str(file)).faults == ()
        else:
            assert check_config(str(file)).faults == (), file
