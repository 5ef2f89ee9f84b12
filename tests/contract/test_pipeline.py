"""dvc.yaml says what the code does: the right files, the right params, nothing shared between profiles."""

import functools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from calico.config import Config, load_config
from tests.contract.source_tree import ROOT, code_dependencies, sections_read

PIPELINES = {"tiny": ROOT / "dvc.yaml", "paper": ROOT / "paper" / "dvc.yaml"}
ABLATIONS = ROOT / "ablations" / "dvc.yaml"


@functools.cache
def header(profile: str) -> dict[str, Any]:
    return dict(yaml.safe_load(PIPELINES[profile].read_text())["vars"][0])


@functools.cache
def stages(profile: str) -> dict[str, dict[str, Any]]:
    """Return the stages of one profile with their variables and loops resolved, as DVC does it."""
    text = PIPELINES[profile].read_text()
    values = header(profile)
    found = {}
    for name, stage in yaml.safe_load(text)["stages"].items():
        if "foreach" in stage:
            items = values[re.fullmatch(r"\$\{(\w+)\}", stage["foreach"])[1]]
            found |= {f"{name}@{item}": _fill(stage["do"], {**values, "item": item}) for item in items}
        else:
            found[name] = _fill(stage, values)
    return found


def _fill(value: Any, values: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {_fill(key, values): _fill(child, values) for key, child in value.items()}
    if isinstance(value, list):
        return [_fill(child, values) for child in value]
    return (
        re.sub(r"\$\{(\w+)\}", lambda match: str(values[match[1]]), value)
        if isinstance(value, str)
        else value
    )


def script(stage: dict[str, Any]) -> Path:
    return Path(re.match(r"python -m ([\w.]+)", stage["cmd"])[1].replace(".", "/") + ".py")


def outputs(stage: dict[str, Any]) -> list[str]:
    """Return the paths that a stage writes; one that has settings of its own is written as a mapping."""
    stated = [*stage.get("outs", []), *stage.get("metrics", [])]
    return [path for out in stated for path in (out if isinstance(out, dict) else [out])]


ALL_STAGES = [(profile, name) for profile in PIPELINES for name in stages(profile)]
each_stage = pytest.mark.parametrize(("profile", "name"), ALL_STAGES)


def test_profiles_run_the_same_pipeline() -> None:
    """Only where the data come from tells the two files apart."""
    bodies = [
        path.read_text().split("# From here on the same in every profile.")[1] for path in PIPELINES.values()
    ]

    assert bodies[0] == bodies[1]
    assert all(header(profile)["profile"] == profile for profile in PIPELINES)


@each_stage
def test_code_dependencies_are_the_real_imports(profile: str, name: str) -> None:
    stage = stages(profile)[name]
    stated = {path for path in stage["deps"] if path.split("/")[0] in {"calico", "stages"}}

    assert sorted(stated) == sorted(code_dependencies(script(stage)))


@each_stage
def test_params_are_the_sections_that_are_read(profile: str, name: str) -> None:
    stage = stages(profile)[name]
    read = sections_read(script(stage), set(Config.model_fields))

    assert sorted(stage["params"]) == sorted(f"{profile}.{section}" for section in read)


@each_stage
def test_artifact_dependencies_are_written_by_another_stage(profile: str, name: str) -> None:
    written = [
        Path(out) for other, stage in stages(profile).items() if other != name for out in outputs(stage)
    ]

    for path in stages(profile)[name]["deps"]:
        if path.startswith("artifacts/"):
            assert any(Path(path).is_relative_to(out) for out in written), path


@each_stage
def test_outputs_stay_in_the_folder_of_the_profile(profile: str, name: str) -> None:
    stage = stages(profile)[name]

    assert outputs(stage)
    assert all(out.startswith(f"artifacts/{profile}/") for out in outputs(stage))
    assert stage["wdir"] == header(profile)["root"]


@each_stage
def test_no_stage_reads_what_changes_with_every_run(profile: str, name: str) -> None:
    """A stage's folder holds stage.json with times: who reads the folder runs again whenever that stage did.

    Only the report shows times. The pretrained parts are too many to list; their stage runs again only when
    they or their loader change.
    """
    stage = stages(profile)[name]
    folders = {out for other in stages(profile).values() for out in outputs(other) if not Path(out).suffix}

    assert folders & set(stage["deps"]) <= {f"artifacts/{profile}/checkpoints"}
    assert name == "report" or not [path for path in stage["deps"] if path.endswith("stage.json")]


def test_every_stage_script_is_in_the_pipeline() -> None:
    scripts = {
        path.relative_to(ROOT) for path in (ROOT / "stages").glob("*.py") if path.name != "__init__.py"
    }

    main = {script(stage) for profile in PIPELINES for stage in stages(profile).values()}
    assert scripts == main | {script(stage) for stage in ablation_stages().values()}


def ablation_stages() -> dict[str, dict[str, Any]]:
    """Return the stages of the ablations with their variables resolved, the matrix by its own placeholder."""
    pipeline = yaml.safe_load(ABLATIONS.read_text())
    return {name: _fill(stage, pipeline["vars"][0]) for name, stage in pipeline["stages"].items()}


def test_every_ablation_of_params_is_in_the_matrix() -> None:
    named = yaml.safe_load(ABLATIONS.read_text())["vars"][0]["ablations"]

    assert named == list(load_config("tiny", ROOT / "params.yaml").ablations)


@pytest.mark.parametrize("name", sorted(ablation_stages()))
def test_ablations_depend_on_the_real_imports(name: str) -> None:
    stage = ablation_stages()[name]
    stated = {path for path in stage["deps"] if path.split("/")[0] in {"calico", "stages"}}

    assert sorted(stated) == sorted(code_dependencies(script(stage)))


def test_the_main_pipelines_know_nothing_of_the_ablations() -> None:
    ours = {out for stage in ablation_stages().values() for out in outputs(stage)}

    for profile in PIPELINES:
        assert not [dep for stage in stages(profile).values() for dep in stage["deps"] if dep in ours]
