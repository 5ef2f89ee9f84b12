"""The report's tables for other programs: LaTeX for a paper, rows for MLflow."""

from collections.abc import Iterator, Mapping, Sequence

from calico.reporting.tables import Cell, Table

_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\N{EN DASH}": "--",
}
_HEAD = "% Tables of the report; \\usepackage{booktabs} before \\begin{document}.\n"


def as_latex(tables: Sequence[Table]) -> str:
    r"""Write tables as LaTeX floats, one after the other; they need the package booktabs."""
    return _HEAD + "\n".join(_latex_table(table) for table in tables)


def as_rows(table: Table) -> list[dict[str, str]]:
    """Return a table's rows, each column by a name of its own: its title after its span's, if there is one.

    The interval of a cell stands in a column beside it where any cell of the column has one.
    """
    names = _column_names(table)
    has_detail = [
        any(row.cells[index].detail for group in table.groups for row in group.rows)
        for index in range(len(names))
    ]
    rows = []
    for group in table.groups:
        for row in group.rows:
            values = {"group": group.title, table.row_title: row.title}
            for name, cell, with_detail in zip(names, row.cells, has_detail, strict=True):
                values[name] = cell.text
                if with_detail:
                    values[f"{name}, range"] = cell.detail
            rows.append(values)
    return rows


def file_name(table: Table) -> str:
    """Return the title as a name for a file: lower case, words joined by underscores."""
    words = "".join(character if character.isalnum() else " " for character in table.title.casefold())
    return "_".join(words.split())


def _column_names(table: Table) -> list[str]:
    if not table.spans:
        return [column.title for column in table.columns]
    spans = [title for title, width in table.spans for _ in range(width)]
    return [f"{span}: {column.title}" for span, column in zip(spans, table.columns, strict=True)]


def _latex_table(table: Table) -> str:
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{_escape(table.title)}}}",
            rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
            r"\toprule",
            *_latex_rows(table),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _latex_rows(table: Table) -> Iterator[str]:
    if table.spans:
        spans = " & ".join(
            rf"\multicolumn{{{width}}}{{c}}{{{_escape(title)}}}" for title, width in table.spans
        )
        yield rf" & {spans} \\"
    yield _line([_escape(table.row_title), *(_escape(column.title) for column in table.columns)])
    for group in table.groups:
        yield r"\midrule"
        if group.title:
            yield rf"\multicolumn{{{len(table.columns) + 1}}}{{l}}{{\textit{{{_escape(group.title)}}}}} \\"
        for row in group.rows:
            yield _line([_escape(row.title), *map(_latex_cell, row.cells)])


def _latex_cell(cell: Cell) -> str:
    text = _escape(cell.text)
    bold = rf"\textbf{{{text}}}" if cell.is_best else text
    return rf"{bold} {{\scriptsize ({_escape(cell.detail)})}}" if cell.detail else bold


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _escape(text: str, special: Mapping[str, str] = _SPECIAL) -> str:
    return "".join(special.get(character, character) for character in text)
