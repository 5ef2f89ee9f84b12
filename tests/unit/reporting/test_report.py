import html
import re
import shutil
from html.parser import HTMLParser

import pytest

from calico.config import ReportSection
from calico.core.files import write_json
from calico.errors import DataError
from calico.reporting.report import build_report, name_images
from tests.unit.reporting.conftest import make_ablation_metrics

SECTION = ReportSection(num_gallery_pairs=2, num_extreme_pairs=1, seed=61)
SETTINGS = {"runtime": {"device": "cpu"}, "report": {"seed": 61}}


def build(artifacts_path, output_path, ablations_path=None):
    """Return what the report consists of, for MLflow."""
    return build_report(
        SECTION,
        artifacts_path=artifacts_path,
        output_path=output_path,
        profile="tiny",
        settings=SETTINGS,
        ablations_path=ablations_path,
    )


@pytest.fixture(scope="module")
def report_path(run_path, tmp_path_factory):
    path = tmp_path_factory.mktemp("report")
    build(run_path, path)
    return path


class Page(HTMLParser):
    """Collects attributes and checks that every element is closed."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.addresses, self.ids, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(report_path):
    return Page((report_path / "report.html").read_text())


def test_page_is_well_formed(page):
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)


def test_page_asks_for_nothing_outside_itself(page, report_path):
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert all(address[1:] in page.ids for address in page.addresses if address.startswith("#"))
    assert not re.search(r"url\(|@import|<script", (report_path / "report.html").read_text())


def test_page_has_every_part(report_path):
    text = (report_path / "report.html").read_text()
    for words in (
        "layout of Table 1", "layout of Table 5", "layout of Table 4", "Most frequent answer",
        "True categories, usual parts", "Alignment", "Finetuning", "Pairs by source", "finetune/lisa",
        "commit", "what mIoU is", "device: cpu", "18 test pairs of 6 drawn scenes",
    ):  # fmt: skip
        assert words in text, words


def test_generated_text_cannot_break_the_page(report_path):
    text = (report_path / "report.html").read_text()
    assert "<b>more</b>" not in text
    assert "&lt;b&gt;more&lt;/b&gt;" in text
    assert "<mark" in text


def test_markdown_shows_files_that_exist(report_path):
    text = (report_path / "report.md").read_text()
    paths = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert len(paths) == 3 + 6 + 2 + 2 + 6 + 5
    assert all((report_path / path).is_file() for path in paths)


def test_markdown_tables_have_equal_rows(report_path):
    lines = (report_path / "report.md").read_text().splitlines()
    widths = {}
    for number, line in enumerate(lines):
        if line.startswith("|"):
            before = widths.get(number - 1)
            widths[number] = line.count("|")
            assert before in (None, widths[number]), line
    assert len(widths) > 50


def test_report_is_the_same_twice(run_path, report_path, tmp_path):
    again = tmp_path / "again"
    build(run_path, again)
    files = sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert len(files) == 3 + 3 + 6 + 2 + 2 + 6 + 5
    for path in files:
        assert (again / path).read_bytes() == (report_path / path).read_bytes(), path


def test_every_table_is_exported_everywhere(run_path, tmp_path):
    exports = build(run_path, tmp_path)
    assert len(exports.tables) == 15
    assert all(rows for rows in exports.tables.values())
    latex = (tmp_path / "tables.tex").read_text()
    captions = re.findall(r"\\caption{(.*)}", latex)
    markdown, page = ((tmp_path / name).read_text() for name in ("report.md", "report.html"))
    assert len(captions) == latex.count(r"\end{table}") == len(exports.tables)
    for caption in captions:
        title = caption.replace("\\&", "&").replace("\\%", "%")
        assert f"### {title}\n" in markdown
        assert html.escape(title) in page
    assert all(path.is_file() for path in exports.files)
    assert {path.suffix for path in exports.files} == {".html", ".md", ".tex", ".svg", ".jpg"}


def test_extreme_pairs_can_be_browsed(report_path):
    page, markdown = ((report_path / name).read_text() for name in ("report.html", "report.md"))
    for task in ("Common objects", "Common parts", "Unique parts"):
        for end in ("best", "worst"):
            assert f"<summary>{task}, {end} pairs</summary>" in page
            assert f"- {end}, {task.lower()}: " in markdown


def test_ablations_are_a_section_where_they_are_asked_for(run_path, report_path, tmp_path):
    write_json(tmp_path / "ablations" / "metrics.json", make_ablation_metrics())
    exports = build(run_path, tmp_path / "report", tmp_path / "ablations")
    page, markdown = ((tmp_path / "report" / name).read_text() for name in ("report.html", "report.md"))
    assert Page(page).open == []
    assert '<section id="ablations">' in page
    assert '<section id="ablations">' not in (report_path / "report.html").read_text()
    assert "\n## Ablations\n" in markdown
    for name in ("ablations_layout_of_table_2", "what_each_module_is_worth"):
        assert len(exports.tables[name]) in (4 * 4, 3)
    for metric in ("AP50", "mIoU", "Recall", "SS", "S-IoU"):
        assert f"figures/cams_{metric}.svg" in markdown
        assert (tmp_path / "report" / "figures" / f"cams_{metric}.svg").is_file()


def test_photographs_are_not_called_drawn():
    assert name_images({"difficulty": 0.3}) == "drawn scenes"
    assert name_images({"files": {}}) == "photographs"


@pytest.mark.parametrize("path", ["evaluate/metrics.json", "sources/manifest.json"])
def test_a_missing_input_is_an_error_that_names_it(run_path, tmp_path, path):
    copy = shutil.copytree(run_path, tmp_path / "run")
    (copy / path).unlink()
    with pytest.raises(DataError, match=f"{path}: no such file"):
        build(copy, tmp_path / "report")
    assert not (tmp_path / "report").exists()
