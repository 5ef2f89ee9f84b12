"""The `calico` command: segment own images, look at the data, score predictions, print a run's figures.

Nothing heavy is imported before a command needs it: `calico --help` answers at once.
"""

import argparse
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from calico.config import ModelName, load_config
from calico.core.tokens import TASKS
from calico.errors import CalicoError, DataError

if TYPE_CHECKING:
    import numpy as np

    from calico.predictors.protocol import Prediction

_DEFAULT_TASK = "common_parts"
_OVERLAY_SIDE_PX = 1600
_SPLITS = ("train", "val", "test")
_GPU_SIZES_GB = (24, 48, 80, 141)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; a CalicoError becomes one line on stderr and exit code 2."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except CalicoError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from error


class _Parser(argparse.ArgumentParser):
    """A parser whose errors look like every other error of the command."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see `{self.prog} --help`.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="calico", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    segment = commands.add_parser("segment", help="segment what images share, or what tells them apart")
    segment.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    segment.add_argument(
        "--task",
        choices=TASKS,
        help=f"ask this task's question about two or more images (default: {_DEFAULT_TASK})",
    )
    segment.add_argument("--question", metavar="TEXT", help="ask this instead, about one or more images")
    segment.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for overlays and result.json"
    )
    segment.add_argument("--model", choices=get_args(ModelName), default="calico")
    segment.add_argument("--saved", type=Path, metavar="DIR", help="use the model that export wrote there")
    segment.set_defaults(command=_segment)

    export = commands.add_parser("export", help="write a finetuned model to a folder, to hand on")
    export.add_argument("--model", choices=get_args(ModelName), default="calico")
    export.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder")
    export.add_argument(
        "--merged", action="store_true", help="all weights, LoRA merged; else only what was trained"
    )
    export.set_defaults(command=_export)

    evaluate = commands.add_parser("evaluate", help="score prediction files against a file of pairs")
    _add_evaluate_arguments(evaluate)
    evaluate.set_defaults(command=_evaluate)

    figures = commands.add_parser("figures", help="print the figures of the last run as one line of JSON")
    figures.set_defaults(command=_figures)

    inspect = commands.add_parser("inspect", help="draw pairs of the data set with masks and conversation")
    inspect.add_argument("pair_ids", nargs="*", metavar="PAIR_ID", help="default: some of each task")
    inspect.add_argument(
        "--split", choices=_SPLITS, help="default: test, or with a PAIR_ID the split that has it"
    )
    inspect.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the pictures")
    inspect.set_defaults(command=_inspect)

    validate = commands.add_parser("validate", help="check the rules of the data set; exit with 1 if broken")
    validate.set_defaults(command=_validate)

    plan = commands.add_parser("plan", help="say how much GPU memory finetuning needs, and what to set")
    plan.add_argument("--model", choices=get_args(ModelName), default="calico")
    plan.add_argument(
        "--gpu-gb",
        nargs="+",
        type=int,
        metavar="N",
        help="sizes of GPUs (default: the one that is here, else 24 48 80 141)",
    )
    plan.add_argument("--processes", type=int, default=1, metavar="N", help="GPUs that share a step")
    plan.set_defaults(command=_plan)

    track = commands.add_parser("track", help="send to MLflow what it missed while it was not usable")
    track.set_defaults(command=_track)

    for command in (segment, export, evaluate, figures, inspect, validate, plan, track):
        command.add_argument("--profile", default="tiny", help="profile of params.yaml (default: tiny)")
    return parser


def _add_evaluate_arguments(evaluate: argparse.ArgumentParser) -> None:
    evaluate.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="prediction records (.parquet) or COCO results (.json); several are runs of one model",
    )
    evaluate.add_argument("--pairs", type=Path, required=True, metavar="FILE", help="table of pairs to score")
    evaluate.add_argument(
        "--truth",
        type=Path,
        metavar="DIR",
        help="folder with images, objects and parts (default: unify beside the folder of the pairs)",
    )
    evaluate.add_argument(
        "--against", nargs="+", type=Path, default=[], metavar="FILE", help="files of a model to compare with"
    )
    evaluate.add_argument(
        "--glamm", action="store_true", help="also compute what the released GLaMM evaluator would"
    )
    evaluate.add_argument("--out", type=Path, metavar="FILE", help="also write all values as JSON")
    evaluate.add_argument(
        "--coco-truth",
        type=Path,
        metavar="FILE",
        help="write the pairs as a COCO annotation file, whose numbers COCO results must use",
    )


def _segment(options: argparse.Namespace) -> None:
    load_config(options.profile)  # a misspelled profile is found before torch is imported
    from calico.core.images import read_photograph
    from calico.segmenter import Segmenter

    task = options.task or (_DEFAULT_TASK if options.question is None else None)
    images = [read_photograph(path) for path in options.images]
    if options.saved is None:
        segmenter = Segmenter.from_artifacts(options.profile, options.model)
    else:
        checkpoints = Path("artifacts") / options.profile / "checkpoints"
        segmenter = Segmenter.from_pretrained(options.saved, checkpoints=checkpoints)
    prediction = segmenter.segment(images, task=task, question=options.question)
    overlays = _draw(images, prediction)
    result = {
        "profile": options.profile,
        "model": segmenter.variant,
        "task": task,
        "question": options.question,
        "text": prediction.answer.text,
        "num_malformed": prediction.answer.num_malformed,
        "images": [
            {"path": str(path), "height": image_HWC.shape[0], "width": image_HWC.shape[1], "overlay": name}
            for path, image_HWC, name in zip(options.images, images, overlays, strict=True)
        ],
        "masks": [
            {
                "image_index": mask.image_index,
                "label": mask.label,
                "score": mask.score,
                "rle": {"size": [mask.rle.height, mask.rle.width], "counts": mask.rle.counts.decode("ascii")},
            }
            for mask in prediction.masks
        ],
    }
    _write_segmentation(options.out, overlays, result)
    print(prediction.answer.text)
    count = "1 mask" if len(prediction.masks) == 1 else f"{len(prediction.masks)} masks"
    print(f"{count} in {options.out}: result.json, {', '.join(overlays)}")


def _export(options: argparse.Namespace) -> None:
    load_config(options.profile)  # a misspelled profile is found before torch is imported
    from calico.segmenter import Segmenter

    Segmenter.from_artifacts(options.profile, options.model).save_pretrained(
        options.out, merged=options.merged
    )
    size = sum(path.stat().st_size for path in options.out.iterdir())
    print(f"{options.model} in {options.out}, {size / 1e6:.1f} MB")


def _draw(images: "Sequence[np.ndarray]", prediction: "Prediction") -> "dict[str, np.ndarray]":
    """Return an overlay for each image by file name; a label has one colour in all of them."""
    from calico.core.masks import decode
    from calico.reporting.overlays import assign_colours, draw_overlay, fit_scale

    colours = assign_colours(mask.label for mask in prediction.masks)
    overlays = {}
    for index, image_HWC in enumerate(images):
        masks = [(mask.label, decode(mask.rle)) for mask in prediction.masks if mask.image_index == index]
        scale = min(1.0, fit_scale(image_HWC.shape[0], image_HWC.shape[1], _OVERLAY_SIDE_PX))
        overlays[f"overlay_{index + 1}.png"] = draw_overlay(image_HWC, masks, scale=scale, colours=colours)
    return overlays


def _write_segmentation(folder: Path, overlays: "dict[str, np.ndarray]", result: dict[str, Any]) -> None:
    from calico.core.files import write_json

    for name, overlay_HWC in overlays.items():
        _write_png(folder / name, overlay_HWC)
    write_json(folder / "result.json", result)  # last: it marks the folder as complete


def _write_png(path: Path, picture_HWC: "np.ndarray") -> None:
    from PIL import Image

    from calico.core.files import write_bytes

    content = io.BytesIO()
    Image.fromarray(picture_HWC).save(content, format="PNG")
    write_bytes(path, content.getvalue())


def _inspect(options: argparse.Namespace) -> None:
    config = load_config(options.profile)
    from calico.inspection import Inspection

    inspection = Inspection(config, Path("artifacts") / options.profile)
    if options.pair_ids:
        splits = [options.split] if options.split else _SPLITS
        places = inspection.find(options.pair_ids, splits)
    else:
        splits = [options.split or "test"]
        places = inspection.choose(splits[0])
    for drawn in inspection.draw(places):
        _write_png(options.out / drawn.file_name, drawn.picture_HWC)
        print(f"{options.out / drawn.file_name}\n{drawn.sample.pair_id}\n{drawn.conversation}\n")
    total = sum(map(inspection.count, splits))
    print(f"{len(places)} of {total:,} pairs ({', '.join(splits)}) drawn in {options.out}")


def _validate(options: argparse.Namespace) -> None:
    config = load_config(options.profile)
    from calico.checkpoints.layout import tokenizer_path
    from calico.data.validation.text_rules import text_limit
    from calico.data.validation.validate import validate

    artifacts_path = Path("artifacts") / options.profile
    text = text_limit(config.model, tokenizer_path(artifacts_path / "checkpoints"))
    found = validate(artifacts_path, unify=config.unify, pair=config.pair, text=text)
    for rule in found.rules:
        print(*rule.lines(), sep="\n")
    figures = {
        "pairs": found.num_pairs,
        "images": found.num_images,
        "rules": found.num_rules,
        "violations": found.num_violations,
    }
    print(json.dumps(figures))
    if found.num_violations:
        raise SystemExit(1)


def _plan(options: argparse.Namespace) -> None:
    config = load_config(options.profile)
    from calico.training.plan import GB, Planner, describe_fit, gpu_bytes_here, plan_table

    planner = Planner(config, options.model, num_processes=options.processes)
    for name, sample in (("typical", planner.typical()), ("longest", planner.longest())):
        need = planner.need(config.finetune, sample)
        print(
            f"{name} pair ({sample.text_tokens} text tokens, {sample.seg_tokens} masks): "
            f"{need.total / GB:.1f} GB (weights {need.weights / GB:.1f}, optimizer "
            f"{need.optimizer / GB:.1f}, step {need.step / GB:.1f}; before, to fill the cache of features, "
            f"{need.filling / GB:.1f})"
        )
    here = gpu_bytes_here()
    if here and not options.gpu_gb:
        print(describe_fit(planner, config.finetune, here))
        return
    print(plan_table(planner, config.finetune, options.gpu_gb or _GPU_SIZES_GB))


def _track(options: argparse.Namespace) -> None:
    load_config(options.profile)
    from calico.tracking import send_unsent

    sent = send_unsent(Path("artifacts") / options.profile)
    print(f"{len(sent)} runs sent{': ' if sent else '.'}{', '.join(sent)}")


def _evaluate(options: argparse.Namespace) -> None:
    section = load_config(options.profile).evaluate
    if not options.files and options.coco_truth is None:
        raise DataError("nothing to do: give a FILE of predictions, or --coco-truth to write the truth.")
    from calico.core.files import write_json
    from calico.evaluation.external import evaluate_files, write_coco_truth
    from calico.evaluation.printing import as_text

    truth_path = options.truth or options.pairs.parent.parent / "unify"
    if options.coco_truth is not None:
        write_coco_truth(options.coco_truth, pairs_path=options.pairs, truth_path=truth_path)
    if options.files:
        result = evaluate_files(
            section.model_copy(update={"glamm": section.glamm or options.glamm}),
            options.files,
            against=options.against,
            pairs_path=options.pairs,
            truth_path=truth_path,
        )
        if options.out is not None:
            write_json(options.out, result)
        print(as_text(result))


def _figures(options: argparse.Namespace) -> None:
    config = load_config(options.profile)
    from calico.core.files import read_json

    artifacts_path = Path("artifacts") / options.profile
    metrics = read_json(artifacts_path / "evaluate" / "metrics.json")
    paths = [*artifacts_path.glob("*/stage.json"), *artifacts_path.glob("*/*/stage.json")]
    others = {"ablations", *config.ablations}  # another pipeline's
    stages = [read_json(path) for path in sorted(paths) if not others & set(path.parts)]
    if not stages:
        raise DataError(
            f"{artifacts_path}: no stage.json in any stage's folder. Run the pipeline (`make run`)."
        )
    figures = {
        "models": metrics["models"],
        "floors": metrics["floors"],
        "test": {name: metrics["test"][name] for name in ("pairs", "images")},
        "stages": {
            stage["stage"]: {"seconds": stage["seconds"], "peak_gb": stage["peak_gb"]} for stage in stages
        },
    }
    print(json.dumps(figures))
