"""What the source files really import and read, found in their syntax trees."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIRST_PARTY = ("calico", "stages", "flows")


def source_files(*packages: str) -> list[Path]:
    """List the modules of some top-level packages, relative to the root."""
    paths = (path for package in packages for path in (ROOT / package).rglob("*.py"))
    return sorted(path.relative_to(ROOT) for path in paths)


@functools.cache
def parse(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=str(path))


@functools.cache
def imported_names(path: Path) -> set[str]:
    """Name the modules that a file imports, also inside functions; `from a import b` gives "a" and "a.b"."""
    names: set[str] = set()
    for node in _running_nodes(parse(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@functools.cache
def imported_files(script: Path) -> set[Path]:
    """Follow imports from `script` through first-party code; package docstrings are left out."""
    found: set[Path] = set()
    waiting = [script]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [file for name in imported_names(path) for file in _files_of(name)]
    return {path for path in found if not _is_docstring_only(path)}


def code_dependencies(script: Path) -> set[str]:
    """Say what a DVC stage that runs `script` must depend on.

    A folder stands for itself where all of its modules are imported, files stand alone elsewhere. A table
    belongs to the module beside it that names it, a folder without code to the modules around it.
    """
    files = imported_files(script)
    return _fold(files | {resource for path in files for resource in _resources(path)})


@functools.cache
def _resources(path: Path) -> set[Path]:
    named = {node.value for node in ast.walk(parse(path)) if isinstance(node, ast.Constant)}
    others = {other for other in _files_below(path.parent) if other.suffix != ".py"}
    beside = {other for other in others if other.parent == path.parent and other.name in named}
    return beside | {
        other for other in others if other.parent.parent == path.parent and _has_no_code(other.parent)
    }


def _has_no_code(folder: Path) -> bool:
    return not any((ROOT / folder).glob("*.py"))


@functools.cache
def _files_below(folder: Path) -> set[Path]:
    paths = (
        path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts
    )
    return {path.relative_to(ROOT) for path in paths}


def sections_read(script: Path, sections: set[str]) -> set[str]:
    """Name the sections that a script, and what it imports, reads from its config."""
    return {name for path in imported_files(script) for name in _config_attributes(path)} & sections


@functools.cache
def _config_attributes(path: Path) -> set[str]:
    nodes = (node for node in ast.walk(parse(path)) if isinstance(node, ast.Attribute))
    return {node.attr for node in nodes if _is_config(node.value)}


def _is_config(node: ast.expr) -> bool:
    name = node.func if isinstance(node, ast.Call) else node
    return isinstance(name, ast.Name) and name.id in {"config", "load_config"}


def _running_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree without the blocks that only type checkers see."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if not (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")):
            yield node
            waiting += ast.iter_child_nodes(node)


def _files_of(name: str) -> Iterator[Path]:
    parts = name.split(".")
    if parts[0] not in FIRST_PARTY:
        return
    for length in range(1, len(parts) + 1):
        stem = Path(*parts[:length])
        for candidate in (stem.with_suffix(".py"), stem / "__init__.py"):
            if (ROOT / candidate).is_file():
                yield candidate


@functools.cache
def _is_docstring_only(path: Path) -> bool:
    body = parse(path).body
    return path.name == "__init__.py" and len(body) <= 1 and all(isinstance(node, ast.Expr) for node in body)


def _fold(files: set[Path]) -> set[str]:
    """Replace the files of every completely covered folder by the folder."""
    names = set(files)
    folders = {parent for path in files for parent in path.parents if len(parent.parts) > 1}
    for folder in sorted(folders, key=lambda path: len(path.parts)):
        inside = _files_below(folder)
        needed = {path for path in inside if path.suffix != ".py" or not _is_docstring_only(path)}
        if len(needed) > 1 and needed <= names:
            names = (names - inside) | {folder}
    return {str(path) for path in names}
