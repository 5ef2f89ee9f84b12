"""A finished run in miniature: every file that the report reads."""

import json

import pytest

from calico.core import tables
from calico.core.files import write_json, write_parquet
from calico.core.records import Answer, PredictedMask
from calico.core.tokens import TASKS
from calico.data.pairs.annotation_arrays import read_annotations
from calico.data.pairs.statistics import Tally
from calico.evaluation.evaluate import per_pair_schema
from calico.reporting.paper_results import METRICS
from calico.reporting.scores import STRICT_TITLES
from tests.pair_blocks import to_blocks
from tests.small_artifacts import write_tables

MODELS = ("calico", "glamm", "lisa")
FLOORS = ("majority", "shuffled_images", "usual_parts", "whole_object")
LABEL_METRICS = ("label_exact_set", "label_precision", "label_recall")


def scores(value):
    return {task: dict.fromkeys(METRICS, value) for task in (*TASKS, "mean")}


def difference(value):
    """Return a difference of two models, 5 points either way."""
    return {"difference": value, "interval": [round(value - 0.05, 2), round(value + 0.05, 2)], "p": 0.5}


def make_metrics():
    """Return metrics in which every model has one value everywhere, 5 points either way."""
    values = {"calico": 0.6, "lisa": 0.58, "glamm": 0.4}
    floors = {"majority": 0.1, "shuffled_images": 0.2, "whole_object": 0.62, "usual_parts": 0.9}
    labels = {
        name: {task: dict.fromkeys(LABEL_METRICS, value) for task in (*TASKS, "mean")}
        for name, value in (values | floors).items()
    }
    strict = {
        name: {task: dict.fromkeys(STRICT_TITLES, value) for task in (*TASKS, "mean")}
        for name, value in (values | floors).items()
    }
    for by_task in strict.values():
        del by_task["common_parts"]["absence"]
    return {
        "strict": strict,
        "strict_intervals": {
            name: {task: {metric: [0.1, 0.9] for metric in found} for task, found in strict[name].items()}
            for name in values
        },
        "models": {name: scores(value) for name, value in values.items()},
        "floors": {name: scores(value) for name, value in floors.items()},
        "labels": labels,
        "intervals": {name: scores([value - 0.05, value + 0.05]) for name, value in values.items()},
        "differences": {
            first: {
                second: scores(difference(round(values[first] - values[second], 2)))
                for second in list(values)[list(values).index(first) + 1 :]
            }
            for first in list(values)[:-1]
        },
        "categories": {
            name: {
                task: {
                    "dog": {"num_true": 9, "Recall": value, "IoU": value},
                    "mug": {"num_true": 12, "Recall": value, "IoU": value},
                }
                for task in TASKS
            }
            for name, value in values.items()
        },
        "test": {"pairs": 18, "images": 6},
        "malformed": {name: {"answers": 18, "malformed_answers": 2} for name in values},
        "definitions": {
            **{name: f"what {name} is" for name in (*METRICS, *LABEL_METRICS, *STRICT_TITLES)},
            "intervals": "95 % of 10 resamples",
            "text_model": "a text model",
            "floors": {name: f"what {name} knows" for name in floors},
        },
    }


def make_ablation_metrics():
    """Return metrics.json of the ablations: one value for each model everywhere, 5 points either way."""
    values = {"without_cam": 0.58, "calico": 0.62, "without_qformer": 0.42, "cam_at_half": 0.61}
    differences = {"without_cam": -0.04, "without_qformer": -0.2, "cam_at_half": 0.01}
    return {
        "models": {name: scores(value) for name, value in values.items()},
        "intervals": {
            name: scores([round(value - 0.05, 2), round(value + 0.05, 2)]) for name, value in values.items()
        },
        "differences": {name: {"calico": scores(difference(value))} for name, value in differences.items()},
        "definitions": {
            **{name: f"what {name} is" for name in METRICS},
            "intervals": "95 % of 10 resamples",
        },
    }


def make_profile():
    times = {
        "encode": 0.02,
        "prefill": 0.06,
        "per_token": 0.01,
        "generate": 0.3,
        "masks": 0.01,
        "num_tokens": 25.0,
        "num_masks": 2.0,
        "total": 0.33,
    }
    costs = {
        "parameters": {
            "language_model": {"total": 900, "trainable": 90},
            "all": {"total": 1000, "trainable": 100},
        },
        "image_tokens": 8,
        "flops": {
            "total": 1_500_000_000,
            "components": {"language_model": 1_400_000_000, "other": 100_000_000},
            "deepspeed": 1_510_000_000,
        },
        "latency": dict.fromkeys((*TASKS, "mean"), times),
        "peak_gb": 0.75,
    }
    return {
        "device": {"name": "CPU, test", "num_threads": 1, "dtype": "float32", "torch": "2"},
        "sample": {"text_tokens": 120, "seg_tokens": 4},
        "num_latency_pairs": 1,
        "num_repeats": 1,
        "models": dict.fromkeys(MODELS, costs),
    }


def _write_predictions(path, pairs):
    """Let CALICO find every target of the first image, and the baselines nothing."""
    rles = {part.part_id: part.rle for part in tables.read_parts(path / "unify" / "parts.parquet")}
    rles |= {one.object_id: one.rle for one in tables.read_objects(path / "unify" / "objects.parquet")}
    found = [
        PredictedMask(pair.pair_id, pair.task, 0, target.label, rles[target.part_id or target.object_id], 0.9)
        for pair in pairs
        for target in pair.targets
        if target.image_index == 0
    ]
    for model in MODELS:
        folder = path / "predict" / model
        tables.write_predictions(folder / "predictions.parquet", found if model == "calico" else [])
        text = "I see <p> the dog's head </p> [SEG] (IMAGE1) & <b>more</b>."
        tables.write_answers(
            folder / "answers.parquet", [Answer(pair.pair_id, pair.task, text, 0) for pair in pairs]
        )


def _write_per_pair(path, pairs):
    share = {"total": 1.0, "number": 2}
    rows = [
        {"model": model, "pair_id": pair.pair_id, "task": pair.task, "mIoU": share, "Recall": share}
        for model in MODELS
        for pair in pairs
    ]
    write_parquet(path / "evaluate" / "per_pair.parquet", rows, per_pair_schema(has_glamm=False))


def _write_logs(path):
    lines = [
        {"step": step, "loss": 2.0, "text": 1.0 / step, "mask": 0.1, "dice": 0.5, "validation": None}
        for step in range(1, 6)
    ]
    for folder in ("align", *(f"finetune/{model}" for model in MODELS)):
        if folder != "align":
            lines[3]["validation"] = {"loss": 1.5, "mean_iou": 0.4}
        (path / folder).mkdir(parents=True, exist_ok=True)
        (path / folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_run(path):
    write_tables(path)
    pairs = tables.read_pairs(path / "pair" / "test.parquet")
    annotations = read_annotations(path / "unify")
    tally = Tally(annotations)
    for split in ("train", "val", "test"):
        list(tally.watch(split, to_blocks(pairs, annotations)))
    statistics = tally.describe(("train", "val", "test"))
    rejected = {"train": {"paco_lvis/common_parts: ambiguous": 3}, "val": {}, "test": {}}
    write_json(path / "pair" / "statistics.json", {**statistics, "rejected": rejected})
    write_json(path / "sources" / "manifest.json", {"difficulty": 0.3, "seed": 7})
    write_json(path / "evaluate" / "metrics.json", make_metrics())
    write_json(path / "profile" / "profile.json", make_profile())
    _write_predictions(path, pairs)
    _write_per_pair(path, pairs)
    _write_logs(path)
    for stage, folder in (("unify", "unify"), ("acquire", "sources"), ("finetune/lisa", "finetune/lisa")):
        write_json(path / folder / "stage.json", {"stage": stage, "seconds": 150.4, "peak_gb": 0.5})


@pytest.fixture
def metrics():
    return make_metrics()


@pytest.fixture
def profile():
    return make_profile()


@pytest.fixture(scope="session")
def run_path(tmp_path_factory):
    """The artefacts of a profile; read-only."""
    path = tmp_path_factory.mktemp("run")
    write_run(path)
    return path
