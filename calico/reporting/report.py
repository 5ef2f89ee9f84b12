"""Write the report of a finished run: report.html, report.md, its tables as LaTeX, and its pictures."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml

from calico.config import ReportSection
from calico.core.files import read_json, write_bytes, write_text
from calico.core.tokens import TASKS
from calico.reporting import ablations, costs, datasets, scores, training_curves
from calico.reporting.categories import category_table
from calico.reporting.differences import model_differences, order_finding
from calico.reporting.exports import as_latex, as_rows, file_name
from calico.reporting.figures import (
    Estimate,
    draw_counts,
    draw_curves,
    draw_estimates,
    draw_points,
    draw_rings,
)
from calico.reporting.gallery import GalleryPair, build_extremes, build_gallery, draw_sheet
from calico.reporting.origin import describe_origin
from calico.reporting.paper_results import METRICS, SHORT_TITLES
from calico.reporting.scores import FLOOR_TITLES, MEAN, SUBJECT, TASK_TITLES
from calico.reporting.tables import Table, percent
from calico.tracking import Run

_SECTIONS = (
    ("pictures", "Pictures"),
    ("scores", "Scores"),
    ("floors", "Floors"),
    ("ablations", "Ablations"),
    ("cost", "Cost"),
    ("training", "Training"),
    ("data", "Data"),
    ("stages", "Stages"),
    ("settings", "Settings"),
)
_VALIDATION_TITLES = {"loss": "loss", "mean_iou": "IoU"}
_ROW_TITLES = {**SHORT_TITLES, **FLOOR_TITLES, "truth": "Truth"}


@dataclass(frozen=True)
class Chart:
    """A chart; `path` is where the Markdown finds it, relative to the report's folder."""

    title: str
    path: str
    svg: str


@dataclass(frozen=True)
class Exports:
    """What a report consists of: the page and the pictures as files, the tables as rows by their names."""

    files: list[Path]
    tables: dict[str, list[dict[str, str]]]

    def record(self, run: Run) -> None:
        """Record them in MLflow."""
        for path in self.files:
            run.log_figure(path)
        for name, rows in self.tables.items():
            run.log_table(name, rows)


def build_report(
    section: ReportSection,
    *,
    artifacts_path: Path,
    output_path: Path,
    profile: str,
    settings: Mapping[str, Any],
    ablations_path: Path | None = None,
) -> Exports:
    """Write report.html (one file, no outside requests), report.md, tables.tex and figures/.

    Args:
        section: the gallery's size and seed.
        artifacts_path: folder of the profile, with the outputs of all stages before this one.
        output_path: folder to write.
        profile: name of the profile.
        settings: all values of the profile, printed at the end.
        ablations_path: folder with the ablations' metrics.json; without it the report has no ablations.

    Raises:
        DataError: an output of an earlier stage is missing or damaged.
    """
    metrics = read_json(artifacts_path / "evaluate" / "metrics.json")
    models = [SUBJECT, *sorted(model for model in metrics["models"] if model != SUBJECT)]
    data_title = name_images(read_json(artifacts_path / "sources" / "manifest.json"))
    context = {
        **_frame(section, profile, metrics, models, has_ablations=ablations_path is not None),
        "data_title": data_title,
        **_score_parts(metrics, models, data_title),
        **_ablation_parts(ablations_path, data_title),
        **_cost_parts(artifacts_path, metrics, models, tuple(settings.get("ablations", ()))),
        **_training_parts(artifacts_path, models),
        **_data_parts(artifacts_path),
        **_pictures(build_gallery(section, artifacts_path, models)),
        "extremes": build_extremes(section, artifacts_path, models),
        "settings": yaml.safe_dump(dict(settings), sort_keys=False, default_flow_style=None, width=110),
    }
    for pair in context["first_pairs"]:
        write_bytes(
            output_path / context["sheet_paths"][pair.pair_id], draw_sheet(pair, [SUBJECT], _ROW_TITLES)
        )
    for chart in _charts_of(context):
        write_text(output_path / chart.path, chart.svg)
    for name in ("report.md", "report.html"):
        write_text(output_path / name, _templates().get_template(f"{name}.j2").render(context))
    tables = _tables_of(context)
    write_text(output_path / "tables.tex", as_latex(tables))
    pictures = [*(chart.path for chart in _charts_of(context)), *context["sheet_paths"].values()]
    names = ["report.html", "report.md", "tables.tex", *sorted(pictures)]
    return Exports(
        files=[output_path / name for name in names],
        tables={file_name(table): as_rows(table) for table in tables},
    )


def name_images(sources_manifest: Mapping[str, Any]) -> str:
    """Return what the images are, in a word or two; only drawn ones have a difficulty."""
    return "drawn scenes" if "difficulty" in sources_manifest else "photographs"


def _frame(
    section: ReportSection,
    profile: str,
    metrics: scores.Metrics,
    models: Sequence[str],
    *,
    has_ablations: bool,
) -> dict[str, Any]:
    definitions = metrics["definitions"]
    return {
        "profile": profile,
        "sections": [one for one in _SECTIONS if has_ablations or one[0] != "ablations"],
        "models": models,
        "subject": SUBJECT,
        "baselines_title": " and ".join(SHORT_TITLES[model] for model in models if model != SUBJECT),
        "short_titles": SHORT_TITLES,
        "task_titles": TASK_TITLES,
        "num_test_pairs": metrics["test"]["pairs"],
        "num_test_images": metrics["test"]["images"],
        "gallery_seed": section.seed,
        "headline": [
            {
                "title": TASK_TITLES[task],
                "miou": percent(metrics["models"][SUBJECT][task]["mIoU"]),
                "recall": percent(metrics["models"][SUBJECT][task]["Recall"]),
            }
            for task in (*TASKS, MEAN)
        ],
        "definitions": {name: value for name, value in definitions.items() if not isinstance(value, dict)},
        "origin": describe_origin(),
    }


def _pictures(gallery: Sequence[GalleryPair]) -> dict[str, Any]:
    """Return one pair a task to begin with, and the others."""
    first = [next(pair for pair in gallery if pair.task == task) for task in TASKS]
    return {
        "first_pairs": first,
        "other_pairs": [pair for pair in gallery if pair not in first],
        "sheet_paths": {pair.pair_id: f"figures/pair_{pair.task}.jpg" for pair in first},
    }


def _score_parts(metrics: scores.Metrics, models: Sequence[str], data_title: str) -> dict[str, Any]:
    findings = scores.floor_findings(metrics)
    return {
        "order_finding": order_finding(metrics, models),
        "malformed_finding": scores.malformed_finding(metrics, models),
        "table_1": scores.score_table(
            metrics, (MEAN,), title="All tasks (layout of Table 1)", data_title=data_title
        ),
        "table_5": scores.score_table(
            metrics, TASKS, title="By task (layout of Table 5)", data_title=data_title
        ),
        "difference_table": model_differences(metrics, models),
        "floors": [
            {
                "title": FLOOR_TITLES[floor],
                "definition": metrics["definitions"]["floors"][floor],
                "finding": finding,
            }
            for floor, finding in findings.items()
        ],
        "floor_charts": [
            _estimate_chart(metrics, models, task, metric) for metric in ("Recall", "mIoU") for task in TASKS
        ],
        "floor_table": scores.floor_table(metrics),
        "label_table": scores.label_table(metrics, models),
        "strict_table": scores.strict_table(metrics, models),
        "category_table": category_table(metrics, models),
    }


def _ablation_parts(ablations_path: Path | None, data_title: str) -> dict[str, Any]:
    if ablations_path is None:
        return {"ablation_tables": [], "ablation_charts": []}
    metrics = read_json(ablations_path / "metrics.json")
    return {
        "ablation_tables": [
            ablations.ablation_table(metrics, data_title),
            ablations.difference_table(metrics),
        ],
        "ablation_charts": [_cam_chart(metrics, metric) for metric in METRICS],
    }


def _cam_chart(metrics: ablations.Metrics, metric: str) -> Chart:
    estimates = {
        name: Estimate(100 * value, (100 * ends[0], 100 * ends[1]))
        for name, (value, ends) in ablations.cam_estimates(metrics, metric).items()
    }
    title = f"Number of CAMs: {metric}"
    svg = draw_estimates(
        estimates, title=title, x_label=f"{metric}, percent", titles={name: name for name in estimates}
    )
    return Chart(title, f"figures/cams_{metric}.svg", svg)


def _estimate_chart(metrics: scores.Metrics, models: Sequence[str], task: str, metric: str) -> Chart:
    estimates = {
        model: Estimate(
            100 * metrics["models"][model][task][metric],
            tuple(100 * end for end in metrics["intervals"][model][task][metric]),
        )
        for model in models
    } | {floor: Estimate(100 * metrics["floors"][floor][task][metric]) for floor in FLOOR_TITLES}
    title = f"{TASK_TITLES[task]}: {metric}"
    svg = draw_estimates(estimates, title=title, x_label=f"{metric}, percent", titles=_ROW_TITLES)
    return Chart(title, f"figures/floors_{task}_{metric}.svg", svg)


def _cost_parts(
    artifacts_path: Path, metrics: scores.Metrics, models: Sequence[str], ablation_names: Sequence[str]
) -> dict[str, Any]:
    profile = read_json(artifacts_path / "profile" / "profile.json")
    return {
        "cost_table": costs.cost_table(profile, metrics, models),
        "phase_table": costs.phase_table(profile, models),
        "parameter_table": costs.parameter_table(profile, models),
        "cost_charts": _cost_charts(profile, metrics, models),
        "stage_table": costs.stage_table(artifacts_path, ablation_names),
    }


def _cost_charts(profile: Mapping[str, Any], metrics: scores.Metrics, models: Sequence[str]) -> list[Chart]:
    """Draw figure 2: Recall over operations and over time."""
    recall = {model: 100 * metrics["models"][model][MEAN]["Recall"] for model in models}
    measured = {model: profile["models"][model] for model in models}
    axes = {
        "operations": ("GFLOP for a pair", lambda costs: costs["flops"]["total"] / 1e9),
        "seconds": ("seconds for a pair", lambda costs: costs["latency"][MEAN]["total"]),
    }
    charts = []
    for name, (x_label, cost_of) in axes.items():
        title = f"Recall over {name}"
        points = {model: (cost_of(measured[model]), recall[model]) for model in models}
        svg = draw_points(
            points, title=title, x_label=x_label, y_label="Recall, percent", titles=SHORT_TITLES
        )
        charts.append(Chart(title, f"figures/recall_over_{name}.svg", svg))
    return charts


def _training_parts(artifacts_path: Path, models: Sequence[str]) -> dict[str, Any]:
    logs = {
        "Alignment": {SUBJECT: artifacts_path / "align" / "log.jsonl"},
        "Finetuning": {model: artifacts_path / "finetune" / model / "log.jsonl" for model in models},
    }
    runs = [
        {
            "title": title,
            "charts": [
                *(
                    _curve_chart(title, loss, f"{loss} loss", curves)
                    for loss, curves in training_curves.read_curves(paths).items()
                ),
                *(
                    _curve_chart(
                        title, f"validation_{name}", f"validation {_VALIDATION_TITLES[name]}", curves
                    )
                    for name, curves in training_curves.read_validations(paths).items()
                ),
            ],
        }
        for title, paths in logs.items()
    ]
    return {"training": runs, "points_per_curve": training_curves.MAX_POINTS}


def _curve_chart(run: str, name: str, title: str, curves: Mapping[str, training_curves.Curve]) -> Chart:
    svg = draw_curves(curves, title=title, titles=SHORT_TITLES)
    return Chart(title, f"figures/{run.lower()}_{name}.svg", svg)


def _data_parts(artifacts_path: Path) -> dict[str, Any]:
    statistics = read_json(artifacts_path / "pair" / "statistics.json")
    return {
        "data_tables": [
            datasets.size_table(statistics),
            datasets.instance_table(statistics),
            datasets.source_table(statistics),
            datasets.rejection_table(statistics),
        ],
        "data_charts": [_ring_chart(statistics), *_count_charts(statistics)],
    }


def _ring_chart(statistics: datasets.Statistics) -> Chart:
    title = "Pairs by source and kind"
    return Chart(
        title, "figures/pairs_by_source.svg", draw_rings(datasets.pairs_by_kind(statistics), title=title)
    )


def _count_charts(statistics: datasets.Statistics) -> list[Chart]:
    return [
        Chart(
            f"{title}, the most frequent",
            f"figures/{title.lower().replace(' ', '_')}.svg",
            draw_counts(counts, title=f"{title}, the most frequent", x_label="times in the pairs"),
        )
        for title, counts in datasets.top_categories(statistics).items()
    ]


def _charts_of(context: Mapping[str, Any]) -> list[Chart]:
    of_training = [chart for run in context["training"] for chart in run["charts"]]
    of_scores = [*context["floor_charts"], *context["ablation_charts"], *context["cost_charts"]]
    return [*of_scores, *of_training, *context["data_charts"]]


def _tables_of(context: Mapping[str, Any]) -> list[Table]:
    return [
        *(context[name] for name in ("table_1", "table_5", "difference_table")),
        *context["ablation_tables"],
        *(
            context[name]
            for name in ("cost_table", "phase_table", "floor_table", "label_table", "strict_table")
        ),
        *(context[name] for name in ("category_table", "parameter_table", "stage_table")),
        *context["data_tables"],
    ]


def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("calico.reporting"),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["data_uri"] = _data_uri
    return environment


def _data_uri(content: str | bytes, media_type: str) -> str:
    encoded = base64.b64encode(content.encode() if isinstance(content, str) else content).decode("ascii")
    return f"data:{media_type};base64,{encoded}"
