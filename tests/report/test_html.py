"""The page stands alone, shows what it should, and its figures and tables lie beside it."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_runs import config_of, rows, steady, write_run

from errata.errors import BadInput, ErrataError
from errata.report.charts import Panel, Point, Series, curve_chart, spread
from errata.report.figures import figures
from errata.report.html import report
from errata.report.names import PALETTE, inks
from errata.report.summary import read

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Checks that elements close, and gathers text outside scripts and addresses that would be fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.labels: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        given = {name: value or "" for name, value in attrs}
        self.fetched += [value for name, value in given.items() if name == "src" or (tag == "link" and name == "href")]
        self.links += [given["href"]] if tag == "a" else []
        self.labels += [given["aria-label"]] if "aria-label" in given and tag == "div" else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        return None

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)


@pytest.fixture(scope="session")
def page(rome: Path, memit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report([rome, memit], tmp_path_factory.mktemp("out"))


def test_page_stands_alone_and_is_well_formed(page: Path) -> None:
    text = page.read_text("utf-8")
    parsed = Page(text)
    assert parsed.open == [] and parsed.fetched == ["data:,"]
    assert not re.search(r"@import|url\((?!data:)|fetch\(['\"]http|<script[^>]+src", text.split("<body>")[0])
    assert text.count("window.vegaEmbed=") == 1
    assert len(text) < 3_000_000


def test_page_says_what_is_found(page: Path) -> None:
    said = " ".join(" ".join(Page(page.read_text("utf-8")).text).split())
    for part in (
        "ROME breaks 5 of 5 abilities of atlas by 100 edits",
        "What is not known",
        "shows no ability",
        "collapsed; significant loss; mostly empty",
        "Likelier",
        "errata run ",
        "Norm drift",
    ):
        assert part in said


def test_figures_are_described_for_who_cannot_see_them(page: Path) -> None:
    labels = Page(page.read_text("utf-8")).labels
    assert any("Efficacy by number of edits. ROME: 2 % at 0, 98 % at 1" in label for label in labels)
    assert any("Arithmetic, ROME: −63.3 points (−74.4 to −50.7)" in label for label in labels)


def test_every_link_leads_to_a_file(page: Path) -> None:
    links = Page(page.read_text("utf-8")).links
    assert {Path(link).suffix for link in links} == {".csv", ".tex", ".svg", ".png"}
    assert all((page.parent / link).stat().st_size > 50 for link in links)


def test_figures_are_drawn(page: Path) -> None:
    folder = page.with_name("report-files")
    names = {file.stem for file in folder.glob("*.svg")}
    assert names == {"edits-and-ability", "abilities", "changes", "health"} == {f.stem for f in folder.glob("*.png")}
    drawn = ElementTree.fromstring((folder / "abilities.svg").read_text("utf-8"))
    said = [element.text for element in drawn.iter() if element.tag.endswith("text")]
    assert {"Efficacy", "Arithmetic", "ROME", "MEMIT", "unedited", "chance", "100 edits"} <= set(said)
    lines = [
        e for e in drawn.iter() if e.get("stroke") in (inks(["rome"])["rome"].light, inks(["memit"])["memit"].light)
    ]
    assert len(lines) > 20
    assert (folder / "abilities.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_takes_its_colours_from_variables(page: Path) -> None:
    body = page.read_text("utf-8").split("<body>")[1].split("<script>")[0]
    assert not [ink.light for ink in PALETTE if ink.light in body]
    assert "var(--run-0)" in body and "var(--run-1)" in body


def test_specs_on_the_page_are_json(page: Path) -> None:
    found = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    specs = [json.loads(text) for text in found]
    assert len(specs) == 5 + 6 + 3 + 4
    assert all(spec["width"] == "container" and spec["datasets"] for spec in specs)


def test_what_a_model_said_cannot_leave_its_cell(tmp_path: Path) -> None:
    tables = steady()
    tables[10]["atlas_mmlu"] = rows("atlas_mmlu", 60, 0.5, constant="</script><b>")
    text = report([write_run(tmp_path, config_of("x</script>"), tables)], tmp_path / "r").read_text("utf-8")
    Page(text)
    assert "<b>" not in text.split("<body>")[1].split("<script>\n")[0].replace("&lt;b&gt;", "")


def test_out_may_name_the_page(memit: Path, tmp_path: Path) -> None:
    page = report([memit], tmp_path / "deep" / "one.html")
    assert page == tmp_path / "deep" / "one.html"
    assert (tmp_path / "deep" / "one-files" / "verdicts.csv").exists()


def test_same_runs_give_the_same_bytes(memit: Path, tmp_path: Path) -> None:
    first, second = (report([memit], tmp_path / name / "r").read_bytes() for name in "ab")
    assert first.replace(b"/a/r/", b"/b/r/") == second


def test_a_run_of_probes_alone(tmp_path: Path) -> None:
    tables = {n: {name: t for name, t in named.items() if "atlas" not in name} for n, named in steady().items()}
    drawn = figures(read([write_run(tmp_path, config_of("rome", tasks=[]), tables)]))
    assert [figure.name for figure in drawn] == ["edits-and-ability"]


def test_bad_input_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not a run"):
        report([tmp_path / "absent"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written(memit: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ErrataError, match="cannot write"):
        report([memit], tmp_path / "file" / "r")


def test_no_torch(memit: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from errata.report.html import report; "
        f"report([Path({str(memit)!r})], Path({str(tmp_path / 'o')!r})); "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


@settings(max_examples=40, deadline=None)
@given(st.floats(1e-6, 1e12), st.floats(1, 1e9))
def test_growth_has_few_grid_lines_and_at_least_one(low: float, ratio: float) -> None:
    line = Series("ROME", PALETTE[0], (Point(0, low), Point(10, low * ratio)))
    panel = Panel("Perplexity", "", "log", (0, 10), (line,))
    levels = curve_chart(panel).to_dict()["layer"][0]["encoding"]["y"]["axis"]["values"]
    assert 1 <= len(levels) <= 6
    assert all(panel.range[0] <= level <= panel.range[1] for level in levels)
    assert panel.range[1] / panel.range[0] >= 1.4999


def test_a_lost_score_is_a_cross_and_ends_the_curve() -> None:
    line = Series("ROME", PALETTE[0], (Point(0, 0.8), Point(1, 0.8)), lost=(10,))
    spec = curve_chart(Panel("Arithmetic", "", "share", (0, 1, 10), (line,))).to_dict()
    ends = [layer for layer in spec["layer"] if layer["mark"].get("text") == "ROME"]
    crosses = [layer for layer in spec["layer"] if layer["mark"].get("text") == "×"]
    assert spec["datasets"][crosses[0]["data"]["name"]] == [
        {"edits": 10, "value": 0.0, "hollow": False, "text": "not finite", "label": "ROME"}
    ]
    assert spec["datasets"][ends[0]["data"]["name"]] == [{"edits": 10, "value": 0.0}]


def test_a_single_point_shows_its_interval() -> None:
    line = Series("ROME", PALETTE[0], (Point(10, 0.8, 0.6, 0.9),))
    spec = curve_chart(Panel("Retention", "", "share", (0, 10), (line,))).to_dict()
    assert [layer["mark"]["type"] for layer in spec["layer"] if "y2" in layer["encoding"]] == ["rule"]


def test_methods_keep_their_look() -> None:
    assert inks(["rome", "memit"])["rome"] == inks(["rome"])["rome"]
    many = inks(["rome", "memit", "mine", "yours"])
    assert len({ink.light for ink in many.values()}) >= 3 and many["mine"] not in (many["rome"], many["memit"])


def test_labels_are_moved_apart_as_little_as_possible() -> None:
    assert spread([], 10, 100) == []
    assert spread([50, 20], 10, 100) == [50, 20]
    assert spread([50, 50], 10, 100) == [45, 55]
    assert spread([99, 98, 0], 10, 100) == pytest.approx([100, 90, 0])
    assert sorted(spread([5.0] * 4, 10, 100)) == pytest.approx([0, 10, 20, 30])
