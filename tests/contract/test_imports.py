"""The layers and fences of pyproject.toml hold, and packages do nothing when they are imported."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.source_tree import ROOT, parse, source_files

MODULES = source_files("calico", "stages", "flows")


def test_layers_and_fences_hold() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_are_absolute_and_named(path: Path) -> None:
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            assert all(alias.name != "*" for alias in node.names)


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "__init__.py"], ids=str)
def test_packages_hold_a_docstring_and_at_most_a_registry(path: Path) -> None:
    docstring, *rest = parse(path).body

    assert isinstance(docstring, ast.Expr)
    assert all(isinstance(node, ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign) for node in rest)


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_modules_are_short_enough_to_read(path: Path) -> None:
    assert len((ROOT / path).read_text().splitlines()) <= 400, "look for the second noun in it"


def test_help_imports_nothing_heavy() -> None:
    """`calico --help` answers at once."""
    code = "import sys, calico.cli; print(*{'torch', 'transformers', 'mlflow', 'pandas'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert result.stdout.split() == []


@pytest.mark.parametrize("path", [path for path in MODULES if path.parts[0] == "stages"], ids=str)
def test_stages_make_one_call(path: Path) -> None:
    """Beside what every stage needs, a stage imports one module of the package."""
    shared = (
        "calico.config",
        "calico.core",
        "calico.errors",
        "calico.stage_end",
        "calico.tracking",
        "calico.variants",
    )
    sources = {str(node.module) for node in ast.walk(parse(path)) if isinstance(node, ast.ImportFrom)}

    assert len([name for name in sources if name.startswith("calico.") and not name.startswith(shared)]) <= 1
