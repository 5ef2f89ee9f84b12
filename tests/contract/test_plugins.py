"""Whoever adds a data set, a metric, a baseline or a language model adds its test."""

from pathlib import Path
from typing import get_args

import pytest

from calico.config import InputName
from tests.contract.source_tree import imported_names, source_files

FOLDERS = ("calico/evaluation/metrics", "calico/language_models", "calico/predictors")
PLUGINS = [
    *(Path(f"calico/data/annotations/{name}.py") for name in get_args(InputName)),
    Path("calico/data/annotations/own_coco.py"),
    *(
        path
        for path in source_files("calico")
        if str(path.parent) in FOLDERS and path.name not in {"__init__.py", "protocol.py"}
    ),
]


@pytest.mark.parametrize("path", PLUGINS, ids=str)
def test_every_plug_in_is_imported_by_a_test(path: Path) -> None:
    module = ".".join(path.with_suffix("").parts)
    tests = [test for test in source_files("tests") if test.name.startswith("test_")]

    assert any(module in imported_names(test) for test in tests)
