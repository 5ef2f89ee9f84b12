"""What the models and the stages cost: Table 4 beside the paper's, parameters, and the stage table."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from calico.core.files import read_json
from calico.core.tokens import TASKS
from calico.reporting.paper_results import METHOD_TITLES, TABLE_4
from calico.reporting.scores import MEAN
from calico.reporting.tables import (
    NOT_MEASURED,
    Cell,
    Column,
    Row,
    RowGroup,
    Table,
    count,
    operations,
    percent,
    seconds,
)

_TIME_TITLES = {
    "common objects": "CO",
    "common parts": "CP",
    "unique parts": "UP",
    "mean of the three": "All",
}
# In the order of the data's way; other names follow.
_COMPONENTS = (
    "vision_encoder",
    "clip",
    "semantic_encoder",
    "qformer",
    "f_image",
    "linear_projector",
    "mlp_projector",
    "cem",
    "cams",
    "language_model",
    "lora",
    "f_segmentation",
    "grounding_encoder",
    "prompt_encoder",
    "mask_decoder",
)
_STAGES = (
    "acquire",
    "unify",
    "curate",
    "pair",
    "checkpoints",
    "align",
    "finetune",
    "predict",
    "evaluate",
    "profile",
)


def cost_table(profile: Mapping[str, Any], metrics: Mapping[str, Any], models: Sequence[str]) -> Table:
    """Lay out recall, image tokens, operations and seconds as Table 4 does, ours above the paper's.

    Args:
        profile: profile.json.
        metrics: metrics.json.
        models: rows.
    """
    device = profile["device"]
    our_rows = tuple(_our_row(profile, metrics, model) for model in models)
    return Table(
        title="Cost of an answer (layout of Table 4)",
        row_title="Method",
        columns=_cost_columns(profile, metrics),
        groups=(
            RowGroup(f"This run: {device['name']}", our_rows),
            RowGroup("Paper: 7-billion-parameter models on its own GPUs", tuple(map(_paper_row, models))),
        ),
        note=(
            f"{_how_timed(profile)} The paper's TFLOPS come from DeepSpeed's profiler; which pass it counted "
            "is not stated. In small print the same profiler on our pass: beside matrix products, "
            "convolutions and attention it counts five operations for each number of a layer norm and one "
            "for each of an activation or a convolution's bias."
        ),
    )


def phase_table(profile: Mapping[str, Any], models: Sequence[str]) -> Table:
    """Lay out where the time of an answer goes, task by task."""
    return Table(
        title="Where the time of an answer goes",
        row_title="Method",
        columns=(
            Column("Encode", "the frozen encoders on both images"),
            Column("Prefill", "the prompt with its images, up to the first token of the answer"),
            Column("Per token", "each further token, with key-value cache"),
            Column("Decode masks", "all masks of the answer, to the size of the image files"),
            Column("Tokens", "of the answer"),
            Column("Masks", "of the answer"),
        ),
        groups=tuple(
            RowGroup(
                title,
                tuple(Row(METHOD_TITLES[model], _phase_cells(profile, model, task)) for model in models),
            )
            for task, title in zip((*TASKS, MEAN), _TIME_TITLES, strict=True)
        ),
        note=_how_timed(profile),
    )


def parameter_table(profile: Mapping[str, Any], models: Sequence[str]) -> Table:
    """Lay out parameters and operations of each component of each model."""
    shown = [profile["models"][model] for model in models]
    names = {name for model in shown for name in (*model["parameters"], *model["flops"]["components"])} - {
        "all"
    }
    ordered = sorted(names, key=lambda name: (_place(name, _COMPONENTS), name))
    return Table(
        title="Where parameters and operations are",
        row_title="Component",
        columns=tuple(
            Column(title, definition, is_first=title == "Parameters")
            for _ in models
            for title, definition in (
                ("Parameters", "all parameters of the component"),
                ("Trained", "parameters that finetuning updates"),
                ("FLOP", "operations of one forward pass over one pair"),
            )
        ),
        groups=(
            RowGroup("", tuple(Row(name, tuple(_component_cells(shown, name))) for name in ordered)),
            RowGroup("", (Row("all", tuple(_component_cells(shown, "all"))),)),
        ),
        spans=tuple((METHOD_TITLES[model], 3) for model in models),
        note="lora is part of language_model. A CAM's queries to the Q-Former count as the CAM's operations.",
    )


def stage_table(artifacts_path: Path, ablations: Collection[str] = ()) -> Table:
    """Lay out wall time and peak memory of every stage that has run, in the order of the pipeline.

    Args:
        artifacts_path: folder of the profile.
        ablations: models whose stages another pipeline runs; they are left out.
    """
    stages = [read_json(path) for path in _stage_files(artifacts_path, ablations)]
    stages.sort(key=lambda stage: (_place(stage["stage"].partition("/")[0], _STAGES), stage["stage"]))
    rows = tuple(
        Row(stage["stage"], (Cell(seconds(stage["seconds"])), Cell(f"{stage['peak_gb']:.2f} GB")))
        for stage in stages
    )
    total = Row("sum", (Cell(seconds(sum(stage["seconds"] for stage in stages))), Cell("")))
    return Table(
        title="Stages",
        row_title="Stage",
        columns=(
            Column("Time", "wall time of the stage's process after its imports"),
            Column("Peak memory", "largest resident memory of any one process of the stage"),
        ),
        groups=(RowGroup("", rows), RowGroup("", (total,))),
    )


def _place(name: str, names: Sequence[str]) -> int:
    """Return where a name stands among `names`; an unknown one comes last."""
    return names.index(name) if name in names else len(names)


def _stage_files(artifacts_path: Path, ablations: Collection[str]) -> list[Path]:
    """List what the profile's own pipeline wrote: not the report, and nothing of the ablations."""
    found = [*artifacts_path.glob("*/stage.json"), *artifacts_path.glob("*/*/stage.json")]
    left_out = {"report", "ablations", *ablations}
    return sorted(path for path in found if not left_out & set(path.relative_to(artifacts_path).parts))


def _cost_columns(profile: Mapping[str, Any], metrics: Mapping[str, Any]) -> tuple[Column, ...]:
    sample = profile["sample"]
    return (
        Column("Recall", metrics["definitions"]["Recall"] + "; mean of the three tasks"),
        Column("Tokens", "image tokens in the prompt for each image"),
        Column(
            "FLOP",
            "matrix products, convolutions and attention of one forward pass over one pair with its answer, "
            f"two operations for a multiply and an add; {sample['text_tokens']} text tokens, "
            f"{sample['seg_tokens']} [SEG], each image encoded once",
        ),
        *(
            Column(title, f"time for one pair, {task}: encode, generate with key-value cache, decode masks")
            for task, title in _TIME_TITLES.items()
        ),
        Column("Memory", "most memory in use while loading and answering: of the GPU, or of the process"),
    )


def _our_row(profile: Mapping[str, Any], metrics: Mapping[str, Any], model: str) -> Row:
    costs = profile["models"][model]
    times = [costs["latency"][task] for task in (*TASKS, MEAN)]
    cells = (
        Cell(percent(metrics["models"][model][MEAN]["Recall"])),
        Cell(str(costs["image_tokens"])),
        Cell(operations(costs["flops"]["total"]), f"{operations(costs['flops']['deepspeed'])} by DeepSpeed"),
        *(Cell(seconds(time["total"]), f"{time['num_tokens']:.0f} tokens") for time in times),
        Cell(f"{costs['peak_gb']:.2f} GB"),
    )
    return Row(METHOD_TITLES[model], cells)


def _phase_cells(profile: Mapping[str, Any], model: str, task: str) -> tuple[Cell, ...]:
    times = profile["models"][model]["latency"][task]
    phases = ("encode", "prefill", "per_token", "masks")
    counts = ("num_tokens", "num_masks")
    return (
        *(Cell(f"{1000 * times[phase]:.1f} ms") for phase in phases),
        *(Cell(f"{times[number]:.1f}") for number in counts),
    )


def _how_timed(profile: Mapping[str, Any]) -> str:
    device = profile["device"]
    return (
        f"Ours: median of {profile['num_repeats']} runs, mean of {profile['num_latency_pairs']} test "
        f"pairs a task, {device['num_threads']} thread(s), {device['dtype']}."
    )


def _paper_row(model: str) -> Row:
    costs = TABLE_4[model]
    cells = (
        Cell(f"{costs.recall:.1f}"),
        Cell(str(costs.image_tokens)),
        Cell(f"{costs.tflops:.1f} T"),
        *(Cell(f"{costs.seconds[task]:.1f} s") for task in (*TASKS, MEAN)),
        Cell(NOT_MEASURED),
    )
    return Row(METHOD_TITLES[model], cells)


def _component_cells(models: Sequence[Mapping[str, Any]], name: str) -> list[Cell]:
    cells = []
    for model in models:
        parameters = model["parameters"].get(name)
        flops = model["flops"]["total"] if name == "all" else model["flops"]["components"].get(name)
        cells += [
            Cell(count(parameters["total"]) if parameters else NOT_MEASURED),
            Cell(count(parameters["trainable"]) if parameters else NOT_MEASURED),
            Cell(operations(flops) if flops else NOT_MEASURED),
        ]
    return cells
