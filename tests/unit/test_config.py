from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from calico.config import load_config
from calico.errors import ConfigError

PARAMS_PATH = Path(__file__).parents[2] / "params.yaml"


def write_params(path: Path, changes: dict[str, Any]) -> Path:
    """Write the tiny profile with some dotted names changed; None removes one."""
    values = yaml.safe_load(PARAMS_PATH.read_text())["tiny"]
    for dotted, value in changes.items():
        *parents, last = dotted.split(".")
        section = values
        for parent in parents:
            section = section[parent]
        if value is None:
            del section[last]
        else:
            section[last] = value
    target = path / "params.yaml"
    target.write_text(yaml.safe_dump({"tiny": values}))
    return target


@pytest.mark.parametrize("profile", ["tiny", "paper"])
def test_profiles_of_the_repository_load(profile: str) -> None:
    config = load_config(profile, PARAMS_PATH)

    assert set(config.model.variants) == {"calico", "lisa", "glamm"}


def test_sections_cannot_be_changed() -> None:
    config = load_config("tiny", PARAMS_PATH)

    with pytest.raises(ValidationError, match="frozen"):
        config.pair.seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"finetune.learning_rate": "4e-5"},
            r"tiny\.finetune\.learning_rate = '4e-5': input should be a valid number",
        ),
        ({"pair.max_targets": 0}, r"tiny\.pair\.max_targets = 0: input should be greater than 0"),
        ({"runtime.device": "tpu"}, r"tiny\.runtime\.device = 'tpu': input should be 'cpu' or 'cuda'"),
        ({"curate.jacard": 0.2}, r"tiny\.curate\.jacard is not a known name"),
        ({"curate.min_jaccard": None}, r"tiny\.curate\.min_jaccard is missing"),
        ({"unify.sources": ["imagenet"]}, r"tiny\.unify\.sources\.0 = 'imagenet'"),
        ({"unify.sources": []}, r"tiny\.unify: sources and own_sources are both empty"),
        (
            {"unify.sources": ["paco_lvis", "paco_lvis"]},
            r"tiny\.unify\.sources: paco_lvis stands there more than once; name each once",
        ),
        ({"model.variants.calico.cam_layers": [2, 2]}, r"calico\.cam_layers: 2 stands there more than once"),
        (
            {"model.variants.calico.cam_layers": [2, 99]},
            r"tiny\.model: variants\.calico\.cam_layers has \[99\], but the language model has layers 0 to 5",
        ),
        ({"ablations.cam_at_half.cam_layers": [6]}, r"tiny: ablations\.cam_at_half\.cam_layers has \[6\]"),
        ({"model.variants.calico.cam_layers": []}, r"calico: only CAMs that ask the Q-Former read the CEM"),
        ({"model.variants.calico.cam": "unqueried"}, "calico: only CAMs that ask the Q-Former read the CEM"),
        (
            {"model.variants.calico.visual": "linear"},
            r"calico: a CAM queries a Q-Former; set visual: qformer",
        ),
        (
            {"model.cem.num_heads": 5},
            r"tiny\.model: vision_encoder\.hidden_size 96 cannot be shared by 5 cem\.num_heads",
        ),
        ({"model.clip.num_heads": 5}, r"tiny\.model\.clip: hidden_size 96 cannot be shared by 5 num_heads"),
        (
            {"model.grounding.decoder_heads": 5},
            r"half of grounding\.prompt_width 64 cannot be shared by 5 grounding\.decoder_heads",
        ),
        ({"unify.own_sources": [{"kind": "coco"}]}, r"tiny\.unify\.own_sources\.0\.part_link is missing"),
        ({"finetune.zero_stage": 3}, r"tiny\.finetune\.zero_stage = 3: input should be 0, 1 or 2"),
    ],
)
def test_wrong_value_is_named_with_its_path(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("tiny", write_params(tmp_path, changes))


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    path = write_params(
        tmp_path, {"pair.seed": -1, "report.seed": "x", "predict.beam": 4, "align.seed": None}
    )

    with pytest.raises(ConfigError, match=r"4 wrong value\(s\)") as caught:
        load_config("tiny", path)

    for dotted in ("tiny.pair.seed", "tiny.report.seed", "tiny.predict.beam", "tiny.align.seed"):
        assert dotted in str(caught.value)


def test_unknown_profile_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match="no profile 'papr'; choose one of paper, tiny"):
        load_config("papr", PARAMS_PATH)


def test_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file\. Run from the root of the repository"):
        load_config("tiny", tmp_path / "params.yaml")


@pytest.mark.parametrize("content", ["tiny: [1", "- a list", "", "\x00"])
def test_file_that_is_no_mapping_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(content)

    with pytest.raises(ConfigError, match=r"not YAML|no profile 'tiny'; choose one of none"):
        load_config("tiny", path)


@pytest.mark.parametrize("name", ["learning_rate", "max_grad_norm", "losses.text"])
def test_infinite_value_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"tiny\.finetune\.{name} = inf: input should be a finite number"):
        load_config("tiny", write_params(tmp_path, {f"finetune.{name}": float("inf")}))
