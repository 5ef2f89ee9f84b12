"""Build the stand-ins, one task after the other, and keep a manifest of what was trained and reached.

A task is a training that gives one or more components. A task whose files are there, unchanged and made with
the same settings, is skipped; so an interrupted build goes on where it stopped.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from calico.checkpoints.layout import component_path, tokenizer_path
from calico.checkpoints.loader import load_component, plain_state, save_component
from calico.config import Config, ModelSection
from calico.core.files import read_json, sha256_of, write_json
from calico.data.pairs.review import read_reviewed
from calico.errors import CheckpointError
from calico.language_models.tokenizer import save_tokenizer
from calico.models.mask_decoder import build_mask_decoder, build_prompt_encoder
from calico.standins.encoders import ENCODERS
from calico.standins.features import scene_features
from calico.standins.language import LanguageRun, build_models, make_tokenizer, train_language
from calico.standins.lessons import LESSON_SHARES, SceneIndex
from calico.standins.presence import train_qformer
from calico.standins.prompts import PromptRun, fit_label_prompts, prompt_figures, train_prompts
from calico.standins.scenes import ScenePool, SceneSpec, load_pool
from calico.standins.scoring import Classroom, lesson_figures
from calico.standins.vision import DenseRun, train_encoder

_COMMAND = "python -m calico.standins"
_SEED = 97
_NUM_SCENES, _NUM_HELD_OUT = 16000, 300
_NUM_MEASURED_LESSONS = 60

# `stop_step` leaves the fall of the rate to the training with the mask decoder.
_DENSE_RUNS = {
    "grounding_encoder": DenseRun(seed=101, num_steps=10000, stop_step=5750, batch_size=8, cells_per_token=2),
    "vision_encoder": DenseRun(seed=102, num_steps=5000, batch_size=16),
    "semantic_encoder": DenseRun(seed=103, num_steps=2000, batch_size=16),
    "clip": DenseRun(seed=104, num_steps=5000, batch_size=16, sides_px=(128, 128, 96)),
}
_PROMPT_RUN = PromptRun(seed=105, num_steps=1500, batch_size=8)
_LANGUAGE_RUN = LanguageRun(
    seed=106,
    num_scenes=_NUM_SCENES,
    num_steps=7000,
    batch_size=12,
    prompt_steps=300,
    qformer_steps=4000,
    vocabulary_size=640,
)

Modules = dict[str, nn.Module]
Report = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True)
class Task:
    """One training.

    Attributes:
        components: what it gives.
        settings: what decides the result, besides the scenes; JSON values.
        train: gives the modules and their figures.
    """

    components: tuple[str, ...]
    settings: dict[str, Any]
    train: Callable[["Workshop", Report], tuple[Modules, dict[str, float]]]


@dataclass(frozen=True)
class Workshop:
    """What every task needs: sizes, the scenes, and the folder of the components made so far."""

    model: ModelSection
    folder: Path
    pool: ScenePool
    held_out: ScenePool

    def load(self, name: str, module: nn.Module) -> nn.Module:
        """Fill `module` with the component that an earlier task made.

        Raises:
            CheckpointError: it is not there or does not fit.
        """
        load_component(module, component_path(self.folder, name))
        return module


def build_standins(
    config: Config,
    *,
    folder: Path,
    work_path: Path,
    only: Sequence[str] = (),
    log: Callable[[str], None] = print,
) -> None:
    """Train every stand-in that is missing or out of date.

    Args:
        config: sizes of the models and difficulty of the scenes.
        folder: where the components and the manifest belong.
        work_path: where the rendered scenes are kept.
        only: names of tasks, all if empty; these are trained even if they are up to date.
        log: receives one line a report.

    Raises:
        CheckpointError: no such task, or a task lacks a component that an earlier one gives.
    """
    folder = Path(folder)
    unknown = [name for name in only if name not in TASKS]
    if unknown:
        raise CheckpointError(f"no stand-in task {', '.join(unknown)}; choose from {', '.join(TASKS)}.")
    chosen = list(only) or [name for name in TASKS if not is_done(folder, name, config)]
    if not chosen:
        log(f"{folder}: all stand-ins are up to date.")
        return
    torch.set_num_threads(1)  # another number rounds differently, and gives other weights
    torch.set_flush_denormal(True)
    workshop = _open_workshop(config, folder, Path(work_path))
    for name in chosen:
        started = time.process_time()
        modules, figures = TASKS[name].train(workshop, partial(_log_report, log, name))
        publish(folder, name, modules, figures, cpu_seconds=time.process_time() - started, config=config)
        log(f"{name}: {figures}")


def publish(
    folder: Path,
    task: str,
    modules: Modules,
    figures: Mapping[str, float],
    *,
    cpu_seconds: float,
    config: Config,
) -> None:
    """Write a task's components in float16 and enter them into the manifest.

    Args:
        folder: of the stand-ins.
        task: a key of TASKS.
        modules: by component name.
        figures: what they reached on held-out scenes.
        cpu_seconds: what the task cost.
        config: the profile that they were made for.
    """
    manifest = _read_manifest(folder)
    for name, module in modules.items():
        path = component_path(folder, name)
        save_component(module, path, dtype=torch.float16)
        parameters = sum(tensor.numel() for tensor in plain_state(module).values())
        manifest["components"][name] = {"task": task, **_file_facts(path), "parameters": parameters}
    if tokenizer_path(folder).is_file():
        manifest["components"]["tokenizer"] = {"task": "language", **_file_facts(tokenizer_path(folder))}
    manifest["tasks"][task] = {
        "settings": _settings(TASKS[task], config),
        "figures": {key: round(value, 4) for key, value in figures.items()},
        "cpu_seconds": round(cpu_seconds),
    }
    write_json(folder / "manifest.json", manifest)


def is_done(folder: Path, name: str, config: Config) -> bool:
    """Tell whether a task's files are those that the manifest lists, made with the present settings."""
    manifest, folder = _read_manifest(folder), Path(folder)
    if manifest["tasks"].get(name, {}).get("settings") != _settings(TASKS[name], config):
        return False
    entries = [manifest["components"].get(component) for component in TASKS[name].components]
    return all(
        entry is not None
        and (folder / entry["file"]).is_file()
        and sha256_of(folder / entry["file"]) == entry["sha256"]
        for entry in entries
    )


def train_grounding(workshop: Workshop, report: Report) -> tuple[Modules, dict[str, float]]:
    """Train SAM: its encoder on dense labels, then everything on promptable masks."""
    name = "grounding_encoder"
    encoder, dense = _train_dense(name, workshop, report)
    modules, figures = train_prompts(
        encoder,
        workshop.model,
        _PROMPT_RUN,
        workshop.pool,
        workshop.held_out,
        report=lambda step, _, found: report(step, found),
    )
    return modules, {**dense, **figures}


def train_dense(name: str, workshop: Workshop, report: Report) -> tuple[Modules, dict[str, float]]:
    """Train one of the encoders that see patches of 16 pixels."""
    encoder, figures = _train_dense(name, workshop, report)
    return {name: encoder}, figures


def train_speech(workshop: Workshop, report: Report) -> tuple[Modules, dict[str, float]]:
    """Train the language model, the three front ends, f_segmentation, and the mask decoder once more."""
    model, run = workshop.model, _LANGUAGE_RUN
    torch.manual_seed(run.seed)
    tokenizer = make_tokenizer(run.vocabulary_size)
    save_tokenizer(tokenizer, tokenizer_path(workshop.folder))
    encoders = {
        name: workshop.load(name, ENCODERS[name].build(model)).eval()
        for name in ("grounding_encoder", "vision_encoder", "clip")
    }
    sam = {
        "prompt_encoder": workshop.load("prompt_encoder", build_prompt_encoder(model.grounding)),
        "mask_decoder": workshop.load("mask_decoder", build_mask_decoder(model.grounding)),
    }
    models = build_models(model, {**encoders, **sam}, tokenizer)
    pool = workshop.pool.head(run.num_scenes)
    learning, measuring = (
        Classroom(SceneIndex(scenes, _compared_categories()), scene_features(scenes, encoders, model))
        for scenes in (pool, workshop.held_out)
    )
    f1 = train_qformer(
        models["calico"].qformer, pool, learning.features, seed=run.seed, num_steps=run.qformer_steps
    )
    report(run.qformer_steps, {"qformer_f1": f1})
    prompts = fit_label_prompts(
        {"grounding_encoder": encoders["grounding_encoder"], **sam},
        model.grounding.prompt_width,
        workshop.pool,
        seed=run.seed,
        num_steps=run.prompt_steps,
    )
    sam_figures = prompt_figures(
        {"grounding_encoder": encoders["grounding_encoder"], **sam}, prompts, workshop.held_out
    )
    report(run.prompt_steps, sam_figures)
    train_language(models, tokenizer, run, (learning, measuring), prompts, report=report)
    figures = {
        f"{variant}/{name}": value
        for variant, built in models.items()
        for name, value in lesson_figures(
            built, variant, tokenizer, measuring, num_lessons=_NUM_MEASURED_LESSONS, seed=run.seed
        ).items()
    }
    components = {name: module for built in models.values() for name, module in built.components.items()}
    return {name: components[name] for name in TASKS["language"].components}, {"qformer_f1": f1, **figures}


TASKS: dict[str, Task] = {
    "grounding": Task(
        ("grounding_encoder", "prompt_encoder", "mask_decoder"),
        {"dense": asdict(_DENSE_RUNS["grounding_encoder"]), "prompts": asdict(_PROMPT_RUN)},
        train_grounding,
    ),
    **{
        name: Task((name,), {"dense": asdict(_DENSE_RUNS[name])}, partial(train_dense, name))
        for name in ("vision_encoder", "clip", "semantic_encoder")
    },
    "language": Task(
        (
            "qformer",
            "f_image",
            "linear_projector",
            "mlp_projector",
            "language_model",
            "f_segmentation",
            "mask_decoder",
        ),
        {"language": asdict(_LANGUAGE_RUN), "lessons": dict(LESSON_SHARES)},
        train_speech,
    ),
}


def _train_dense(name: str, workshop: Workshop, report: Report) -> tuple[nn.Module, dict[str, float]]:
    return train_encoder(
        name,
        workshop.model,
        _DENSE_RUNS[name],
        workshop.pool,
        workshop.held_out,
        report=lambda step, _, found: report(step, found),
    )


def _open_workshop(config: Config, folder: Path, work_path: Path) -> Workshop:
    """Render the scenes if need be; no split of the pipeline draws from these purposes."""
    section = config.synthesize
    pools = [
        load_pool(
            work_path,
            SceneSpec(purpose, _SEED, num_scenes, section.difficulty, section.image_size_px),
            num_workers=section.num_workers,
        )
        for purpose, num_scenes in (("standins", _NUM_SCENES), ("standins-held-out", _NUM_HELD_OUT))
    ]
    return Workshop(config.model, folder, *pools)


def _compared_categories() -> list[frozenset[str]]:
    """Return the category pairs that the pipeline compares by its reviewed list."""
    reviewed = read_reviewed()
    return [frozenset(key[1:]) for key, verdict in reviewed.items() if verdict.is_kept]


def _settings(task: Task, config: Config) -> dict[str, Any]:
    """Return what decides a task's result, as JSON gives it back; the stand-ins know no CEM, CAM or LoRA."""
    model = config.model.model_dump(mode="json", exclude={"lora", "cem", "tokenizer"})
    for variant in model["variants"].values():
        for name in ("cem", "cam", "cam_layers"):
            del variant[name]
    scenes = {"seed": _SEED, "num_scenes": _NUM_SCENES, "difficulty": config.synthesize.difficulty}
    settings: dict[str, Any] = _as_json({"model": model, "scenes": scenes, **task.settings})
    return settings


def _as_json(value: Any) -> Any:
    """Turn tuples into lists, as a JSON file would."""
    if isinstance(value, dict):
        return {key: _as_json(entry) for key, entry in value.items()}
    return [_as_json(entry) for entry in value] if isinstance(value, list | tuple) else value


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if path.is_file():
        manifest: dict[str, Any] = read_json(path)
        return manifest
    return {"command": _COMMAND, "seed": _SEED, "dtype": "float16", "components": {}, "tasks": {}}


def _file_facts(path: Path) -> dict[str, Any]:
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}


def _log_report(log: Callable[[str], None], task: str, step: int, figures: Mapping[str, float]) -> None:
    log(f"{task} step {step}: " + " ".join(f"{name} {value:.3f}" for name, value in figures.items()))
