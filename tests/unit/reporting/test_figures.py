from xml.etree import ElementTree

import pytest

from calico.reporting.figures import Estimate, draw_counts, draw_curves, draw_estimates, draw_rings

TITLES = {"calico": "CALICO", "lisa": "LISA", "majority": "Most frequent answer"}
CHARTS = {
    "curves": lambda: draw_curves(
        {"calico": [(1, 2.0), (9, 1.0)], "lisa": [(1, 3.0), (9, 2.0)]}, title="text loss", titles=TITLES
    ),
    "estimates": lambda: draw_estimates(
        {"calico": Estimate(60, (55, 65)), "majority": Estimate(10)},
        title="Common parts",
        x_label="Recall, percent",
        titles=TITLES,
    ),
    "counts": lambda: draw_counts({"head & neck": 7, "tail": 2}, title="Parts", x_label="instances"),
    "rings": lambda: draw_rings(
        {"paco": {"objects": 6, "parts": 2}, "ade": {"objects": 2, "parts": 0}}, title="Pairs by source"
    ),
}


@pytest.mark.parametrize("chart", CHARTS)
def test_charts_are_svg_and_the_same_every_time(chart):
    svg = CHARTS[chart]()
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert CHARTS[chart]() == svg


@pytest.mark.parametrize(
    ("chart", "words"),
    [
        ("curves", ["text loss", "optimizer step", "CALICO", "LISA"]),
        ("estimates", ["Common parts", "Recall, percent", "Most frequent answer"]),
        ("counts", ["Parts", "head & neck"]),
        ("rings", ["Pairs by source", "paco", "ade", "objects", "60%", "20%"]),
    ],
)
def test_charts_carry_their_words_as_text(chart, words):
    texts = {element.text for element in ElementTree.fromstring(CHARTS[chart]()).iter() if element.text}
    assert set(words) <= texts
