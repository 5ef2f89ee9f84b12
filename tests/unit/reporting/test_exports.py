import re

import pytest

from calico.reporting.exports import as_latex, as_rows, file_name
from calico.reporting.tables import Cell, Column, Row, RowGroup, Table

PLAIN = Table(
    title="Names & counts, 100 % of them",
    row_title="Part_name",
    columns=(Column("IoU"), Column("Masks")),
    groups=(RowGroup("", (Row("dog's {head}", (Cell("61.0", "58.0 to 64.0", is_best=True), Cell("12"))),)),),
)
SPANNED = Table(
    title="By task",
    row_title="Method",
    columns=(Column("mIoU"), Column("SS"), Column("mIoU"), Column("SS")),
    groups=(
        RowGroup("Parts", (Row("CALICO", (Cell("1.0"), Cell("2.0"), Cell("3.0"), Cell("\N{EN DASH}"))),)),
        RowGroup("Objects", (Row("LISA", (Cell("4.0"), Cell("5.0"), Cell("6.0"), Cell("7.0"))),)),
    ),
    spans=(("Ours", 2), ("Paper", 2)),
)


def test_latex_by_hand():
    assert as_latex([PLAIN]) == (
        "% Tables of the report; \\usepackage{booktabs} before \\begin{document}.\n"
        "\\begin{table}\n"
        "\\caption{Names \\& counts, 100 \\% of them}\n"
        "\\begin{tabular}{lrr}\n"
        "\\toprule\n"
        "Part\\_name & IoU & Masks \\\\\n"
        "\\midrule\n"
        "dog's \\{head\\} & \\textbf{61.0} {\\scriptsize (58.0 to 64.0)} & 12 \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
        "\\end{table}\n"
    )


def columns_of(line):
    """Return how many columns of a tabular a line fills."""
    spanned = sum(int(width) for width in re.findall(r"\\multicolumn{(\d+)}", line))
    return line.count(" & ") + 1 - line.count(r"\multicolumn") + spanned


def test_every_line_of_latex_fills_the_columns():
    text = as_latex([PLAIN, SPANNED])
    for tabular, width in zip(
        re.findall(r"\\toprule\n(.*?)\\bottomrule", text, re.DOTALL), (3, 5), strict=True
    ):
        lines = [line for line in tabular.splitlines() if line != r"\midrule"]
        assert all(line.endswith(r" \\") for line in lines)
        assert {columns_of(line) for line in lines} == {width}
    assert r" & \multicolumn{2}{c}{Ours} & \multicolumn{2}{c}{Paper} \\" in text
    assert r"\multicolumn{5}{l}{\textit{Parts}} \\" in text
    assert "3.0 & --" in text


@pytest.mark.parametrize(
    ("label", "written"),
    [
        ("left & right", r"left \& right"),
        ("50% #1 $2", r"50\% \#1 \$2"),
        ("side_lamp {old}", r"side\_lamp \{old\}"),
        ("a~b^c", r"a\textasciitilde{}b\textasciicircum{}c"),
        (r"back\slash", r"back\textbackslash{}slash"),
        ("<b>|</b>", r"\textless{}b\textgreater{}\textbar{}\textless{}/b\textgreater{}"),
    ],
)
def test_latex_shows_a_label_as_it_stands(label, written):
    table = Table("t", "r", (Column("c"),), (RowGroup("", (Row(label, (Cell("1"),)),)),))
    assert rf"{written} & 1 \\" in as_latex([table]).splitlines()


def test_rows_by_hand():
    assert as_rows(PLAIN) == [
        {
            "group": "",
            "Part_name": "dog's {head}",
            "IoU": "61.0",
            "IoU, range": "58.0 to 64.0",
            "Masks": "12",
        }
    ]


def test_rows_name_every_column_once():
    first, second = as_rows(SPANNED)
    assert list(first) == ["group", "Method", "Ours: mIoU", "Ours: SS", "Paper: mIoU", "Paper: SS"]
    assert (second["group"], second["Method"], second["Paper: SS"]) == ("Objects", "LISA", "7.0")


def test_file_names_are_words():
    assert file_name(PLAIN) == "names_counts_100_of_them"
