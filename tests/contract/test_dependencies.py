"""pyproject.toml declares what the code imports, and constraints.txt pins it."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.contract.source_tree import FIRST_PARTY, ROOT, imported_names, source_files

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BASE = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = {
    extra: [Requirement(line) for line in lines]
    for extra, lines in PROJECT["optional-dependencies"].items()
    if extra != "all"
}
DECLARED = BASE + [requirement for lines in EXTRAS.values() for requirement in lines]
CONSTRAINT_LINES = [
    line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")
]
# The only modules that may need an extra; all else must run on the base installation.
OPTIONAL = {
    "mlflow": "track",
    "sqlalchemy": "track",
    "alembic": "track",
    "deepspeed": "train",
    "sentence-transformers": "evaluate",
    "prefect": "orchestrate",
}


def third_party_imports() -> Iterator[tuple[str, str]]:
    """Yield (file, distribution) of every import that is neither ours nor Python's.

    Where several distributions bring a package (mlflow, mlflow-skinny), the shortest name is declared.
    """
    distributions = importlib.metadata.packages_distributions()
    for path in source_files("calico", "stages", "flows"):
        for top in {name.split(".", maxsplit=1)[0] for name in imported_names(path)}:
            if top not in sys.stdlib_module_names and top not in FIRST_PARTY:
                yield str(path), canonicalize_name(min(distributions[top], key=len))


def test_every_import_is_declared() -> None:
    base = {canonicalize_name(requirement.name) for requirement in BASE}
    missing = {
        (path, name) for path, name in third_party_imports() if name not in base and name not in OPTIONAL
    }

    assert not missing


def test_every_base_dependency_is_imported() -> None:
    """What nothing imports is not needed; torchvision is, by segment-anything, which does not say so."""
    used = {name for _, name in third_party_imports()} | {"torchvision"}

    assert {canonicalize_name(requirement.name) for requirement in BASE} <= used


def test_optional_imports_come_with_their_extra() -> None:
    for name, extra in OPTIONAL.items():
        declared = {canonicalize_name(requirement.name) for requirement in EXTRAS[extra]}
        assert name in declared | {"sqlalchemy", "alembic"}, name  # these two come with mlflow


def test_the_extra_all_names_every_extra() -> None:
    (everything,) = (Requirement(line) for line in PROJECT["optional-dependencies"]["all"])

    assert everything.extras == set(EXTRAS)


def test_constraints_are_names_and_exact_versions() -> None:
    """An address of an index or a file would tie the project to one machine."""
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9a-z.]+", line) for line in CONSTRAINT_LINES)
    names = [line.partition("==")[0] for line in CONSTRAINT_LINES]
    assert names == sorted(set(names))


@pytest.mark.parametrize("requirement", DECLARED, ids=str)
def test_constraints_satisfy_the_declared_ranges(requirement: Requirement) -> None:
    pinned = dict(line.split("==") for line in CONSTRAINT_LINES)

    assert requirement.specifier.contains(Version(pinned[canonicalize_name(requirement.name)]))


def test_python_versions_of_the_tools_agree() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]

    assert PROJECT["requires-python"] == ">=3.11"
    assert tools["mypy"]["python_version"] == "3.11"
    assert tools["ruff"]["target-version"] == "py311"


def test_no_file_loads_pickled_weights() -> None:
    """Own weights are safetensors, a pickle can run code; one module reads published ones, tensors only."""
    for path in source_files("calico", "stages", "flows"):
        tree = ast.parse((ROOT / path).read_text())
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert not {"pickle.load", "pickle.loads"} & {ast.unparse(call.func) for call in calls}, path
        for call in calls:
            if ast.unparse(call.func) == "torch.load":
                assert str(path) == "calico/checkpoints/weight_files.py"
                assert "weights_only=True" in [ast.unparse(keyword) for keyword in call.keywords]
