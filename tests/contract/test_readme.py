"""What README and CONTRIBUTING tell a person to type exists."""

import re
from pathlib import Path

import pytest

from tests.contract.source_tree import ROOT

PAGES = [
    ROOT / name
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
    )
]
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page: Path) -> None:
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", page.read_text(), flags=re.DOTALL))

    assert set(re.findall(r"\bmake ([a-z]+)", code)) <= TARGETS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_exist(page: Path) -> None:
    """Paths under these folders and links to other pages; artifacts exist only after a run."""
    text = page.read_text()
    named = re.findall(r"`((?:calico|stages|flows|tests|docs|paper|standins|\.ci|\.dvc)/[\w./-]*)`", text)
    linked = re.findall(r"\]\((?!http|#)([^)#]+)", text)

    assert not [name for name in named if not (ROOT / name).exists()]
    assert not [name for name in linked if not (page.parent / name).exists()]


def test_readme_gives_the_two_commands_first() -> None:
    commands = re.findall(r"```(?:bash|sh)?\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)

    assert commands[0].split("\n")[-3:-1] == ["make run", "make test"]


def test_ci_runs_the_readme_s_test_command() -> None:
    assert "\nmake test\n" in (ROOT / ".ci" / "run").read_text()


def test_make_without_arguments_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()

    assert makefile.index("help:") == min(makefile.index(f"\n{target}:") + 1 for target in TARGETS)
    assert all(re.search(rf"^{target}:.*## ", makefile, flags=re.MULTILINE) for target in TARGETS)
