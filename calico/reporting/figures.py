"""Draw the report's charts as SVG: small panels that stack on a narrow screen."""

import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# One colour and marker a model, the same in every chart; Okabe and Ito's colours.
_STYLES = {
    "calico": ("#d55e00", "o"),
    "lisa": ("#0072b2", "s"),
    "glamm": ("#009e73", "^"),
}
_OTHER_STYLE = ("#6b7076", "D")
_STYLE_SHEET = {
    "svg.fonttype": "none",  # text stays text: sharp, searchable, in the page's font
    "svg.hashsalt": "calico",  # equal inputs give equal bytes
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa0a6",
    "axes.labelcolor": "#3c4043",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#e6e8eb",
    "axes.axisbelow": True,
    "xtick.color": "#5f6368",
    "ytick.color": "#5f6368",
    "text.color": "#202124",
}
_PANEL_INCHES = (4.0, 2.7)
_RING_COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7")


@dataclass(frozen=True)
class Estimate:
    """A number in percent with the ends of its 95 % interval, or None where there is none."""

    value: float
    interval: tuple[float, float] | None = None


def draw_curves(
    curves: Mapping[str, Sequence[tuple[float, float]]], *, title: str, titles: Mapping[str, str]
) -> str:
    """Draw one line a model.

    Args:
        curves: (optimizer step, value) points by model.
        title: what the value is.
        titles: the name to print of each model.

    Returns:
        An SVG document.
    """
    with matplotlib.rc_context(_STYLE_SHEET):
        figure, axes = _panel(title)
        for model, points in curves.items():
            colour, _ = _STYLES.get(model, _OTHER_STYLE)
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.6, label=titles[model])
        axes.set_xlabel("optimizer step")
        axes.set_ylim(bottom=0)
        if len(curves) > 1:
            axes.legend(frameon=False, loc="upper right")
        return _svg(figure)


def draw_estimates(
    estimates: Mapping[str, Estimate], *, title: str, x_label: str, titles: Mapping[str, str]
) -> str:
    """Draw one dot with its interval a row, models in colour and floors in grey.

    Args:
        estimates: by model or floor, top row first.
        titles: the name to print of each row.

    Returns:
        An SVG document.
    """
    with matplotlib.rc_context(_STYLE_SHEET):
        figure, axes = _panel(title)
        for row, (name, estimate) in enumerate(estimates.items()):
            colour, marker = _STYLES.get(name, _OTHER_STYLE)
            if estimate.interval is not None:
                axes.plot(estimate.interval, (row, row), color=colour, linewidth=2, solid_capstyle="round")
            axes.plot(estimate.value, row, color=colour, marker=marker, markersize=6)
        axes.set_yticks(range(len(estimates)), [titles[name] for name in estimates])
        axes.invert_yaxis()
        axes.set_xlim(-2, 102)
        axes.set_xlabel(x_label)
        axes.grid(visible=False, axis="y")
        return _svg(figure)


def draw_points(
    points: Mapping[str, tuple[float, float]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    titles: Mapping[str, str],
) -> str:
    """Draw one marker a model at (x, y), its name beside it.

    Returns:
        An SVG document.
    """
    with matplotlib.rc_context(_STYLE_SHEET):
        figure, axes = _panel(title)
        for model, (x, y) in points.items():
            colour, marker = _STYLES.get(model, _OTHER_STYLE)
            axes.plot(x, y, color=colour, marker=marker, markersize=8, linestyle="none")
            axes.annotate(titles[model], (x, y), xytext=(0, 8), textcoords="offset points", ha="center")
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.margins(0.25)
        return _svg(figure)


def draw_counts(counts: Mapping[str, int], *, title: str, x_label: str) -> str:
    """Draw one bar a name, in the given order.

    Returns:
        An SVG document.
    """
    with matplotlib.rc_context(_STYLE_SHEET):
        figure, axes = _panel(title)
        axes.barh(range(len(counts)), list(counts.values()), color="#56b4e9", height=0.7)
        axes.set_yticks(range(len(counts)), list(counts))
        axes.invert_yaxis()
        axes.set_xlabel(x_label)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.grid(visible=False, axis="y")
        figure.set_size_inches(_PANEL_INCHES[0], 0.9 + 0.2 * len(counts))
        return _svg(figure)


def draw_rings(counts: Mapping[str, Mapping[str, int]], *, title: str) -> str:
    """Draw a ring of groups inside a ring of their kinds, every piece with its share of the whole.

    Args:
        counts: number by group and kind.

    Returns:
        An SVG document.
    """
    total = max(1, sum(sum(kinds.values()) for kinds in counts.values()))
    colours = dict(zip(counts, itertools.cycle(_RING_COLOURS), strict=False))
    inner = [(group, sum(kinds.values()), colours[group]) for group, kinds in counts.items()]
    outer = [
        (f"{kind}\n{number / total:.0%}", number, colours[group])
        for group, kinds in counts.items()
        for kind, number in kinds.items()
    ]
    with matplotlib.rc_context(_STYLE_SHEET):
        figure, axes = _panel(title)
        figure.set_size_inches(_PANEL_INCHES[0], _PANEL_INCHES[0])
        for pieces, radius, alpha in ((inner, 0.7, 1.0), (outer, 1.0, 0.55)):
            labels, sizes, fills = zip(*pieces, strict=True)
            axes.pie(
                sizes,
                labels=[label if size else "" for label, size in zip(labels, sizes, strict=True)],
                colors=fills,
                radius=radius,
                labeldistance=0.62 if radius < 1 else 0.85,
                textprops={"ha": "center", "va": "center", "fontsize": 7},
                wedgeprops={"width": 0.3 if radius == 1.0 else radius, "edgecolor": "white", "alpha": alpha},
            )
        return _svg(figure)


def _panel(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_PANEL_INCHES, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    return figure, axes


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    return buffer.getvalue()
