"""The page and the Markdown: whole in one file, nothing from outside, no name taken for code, no empty sections."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from accel.cli import BAD_INPUT
from accel.errors import UserError
from reports.build import Document, MOST_PAGE_bytes, document, write_report
from reports.markdown import markdown
from reports.sources import Source, file_source, run_source
from reports.web import embedded_json, html
from tests.accel.cli_case import accel

Report = dict[str, Any]
VOID = {"meta", "link", "input", "br", "path", "use", "rect"}


class Page(HTMLParser):
    """Ids, links and open elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [found["id"] or ""] if "id" in found else []
        target = found.get("href") or ""
        if tag == "a":
            self.targets.append(target)
        elif tag in ("link", "img", "script", "iframe"):
            self.fetched.append(found.get("src") or target)


@pytest.fixture(scope="module")
def page(everything: Document) -> str:
    return html(everything)


def test_it_is_whole_and_small(page: str) -> None:
    assert len(page.encode()) <= MOST_PAGE_bytes
    found = Page(page)
    assert not [target for target in found.fetched if target and not target.startswith("data:")]
    assert not re.findall(r"url\((?!#)|@import", page)
    assert {target.split(":")[0] for target in found.targets if ":" in target} <= set()
    assert len(found.ids) == len(set(found.ids))
    anchors = {target[1:] for target in found.targets if target.startswith("#")}
    assert anchors <= set(found.ids)


def test_only_our_script_may_run(page: str) -> None:
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    (allowed,) = re.findall(r"script-src '([^']+)'", page)
    assert allowed == "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert not re.search(r"\son[a-z]+=", re.sub(r"<script>.*?</script>", "", page, flags=re.S))


def test_every_row_names_its_source_and_command(page: str, everything: Document) -> None:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    data = json.loads(text)
    rows = re.findall(r'<tr data-source="([^"]+)" data-path="([^"]*)" data-command="([^"]+)"', page)
    assert len(rows) > 100
    for name, path, command in rows:
        value = data[name]["json"]
        for key in path.split("/") if path else []:
            value = value[int(key)] if isinstance(value, list) else value[key]
        assert value
        assert command.startswith("accel ")
    assert set(data) == {source.name for source in everything.sources}


def test_names_are_never_code(stored: Path, every_source: list[Source]) -> None:
    evil = '</script><img src=x onerror="alert(1)">{{ 7 * 7 }}|`*'
    run = json.loads(json.dumps(run_source(stored).data))
    run["workload"]["name"] = evil
    source = run_source(stored)._replace(data=run, label=f"{evil} on tiny")
    made = document([source], evil, title=evil)
    text = html(made)
    assert "<img" not in text
    assert "49" not in re.findall(r"<h1>(.*?)</h1>", text)[0]
    assert text.count("</script>") == 2
    lines = [line for line in markdown(made).splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1, "a name does not add cells"


def test_sections_are_there_only_with_data(every_source: list[Source], everything: Document) -> None:
    assert [section.name for section in everything.sections] == [
        "runs", "benchmarks", "limits", "rivals", "topk", "zoo", "crossover", "proof"
    ]  # fmt: skip
    only = document([source for source in every_source if source.kind == "verify"], "accel report")
    assert [section.name for section in only.sections] == ["proof"]
    with pytest.raises(UserError, match="nothing to report"):
        document([], "accel report")


def test_benchmarks_of_either_form(every_source: list[Source]) -> None:
    (bench,) = (source for source in every_source if source.kind == "bench")
    other = json.loads(json.dumps(bench.data))
    other["figures"] = other.pop("reproduction")
    for row in other["rows"]:
        counts = row.pop("counts")
        row["dram_bytes"] = {"moved": sum(counts["dram_read_bytes"].values()) + counts["dram_write_bytes"]}
        row["ratio"] = row.pop("dram_reduction")
    texts = [
        markdown(document([bench._replace(data=data)], "accel report")).replace("figures/", "reproduction/")
        for data in (bench.data, other)
    ]
    assert texts[0] == texts[1]
    assert "6 published figures: 3 of ours are within 0.9 to 1.1 of them (2 of these were calibrated to be" in texts[0]
    assert "1 could not be measured" in texts[0]


def test_cells_of_top_k_engines_only_where_they_were_synthesised(every_source: list[Source]) -> None:
    (topk,) = (source for source in every_source if source.kind == "topk")
    said = markdown(document([topk], "accel report"))
    (head,) = (line for line in said.splitlines() if "flip-flops" in line)
    assert "memory, bits" in head
    assert "critical path" not in head, "without a library there is none"
    assert sum(line.startswith("| batcher sorter |") and "24,576" in line for line in said.splitlines()) == 2
    none = topk._replace(data={**topk.data, "synthesis": []})
    assert "flip-flops" not in markdown(document([none], "accel report"))


def test_differences_are_not_hidden(every_source: list[Source]) -> None:
    (verify,) = (source for source in every_source if source.kind == "verify")
    wrong = json.loads(json.dumps(verify.data))
    wrong["boundaries"]["scores"]["values"] = 3
    text = html(document([verify._replace(data=wrong)], "accel report"))
    assert "3 differences" in text
    assert "3 values, 0 cycles differ" in text
    assert "nothing differs" not in text


def test_data_that_does_not_fit_is_left_beside_the_page(everything: Document, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = sum(len(figure.svg) for section in everything.sections for figure in section.figures)
    others = sum(len(json.dumps(source.data)) for source in everything.sources if source.kind != "zoo")
    monkeypatch.setattr("reports.web.MOST_PAGE_bytes", figures + 250_000 + round(1.1 * others))
    text, fitting = embedded_json(everything)
    data = json.loads(text)
    (zoo,) = (source.name for source in everything.sources if source.kind == "zoo")
    assert zoo not in fitting
    assert data[zoo].keys() == {"hash", "code", "command"}
    assert len(fitting) == len(everything.sources) - 1


def test_everything_that_is_named_is_written(everything: Document, tmp_path: Path) -> None:
    paths = write_report(everything, tmp_path / "out")
    page = Page((tmp_path / "out" / "index.html").read_text())
    files = [target for target in page.targets if not target.startswith("#")]
    assert files
    assert all((tmp_path / "out" / target).is_file() for target in files)
    text = (tmp_path / "out" / "report.md").read_text()
    assert all((tmp_path / "out" / target).is_file() for target in re.findall(r"\]\(([^)]+)\)", text))
    assert {path.suffix for path in paths} == {".html", ".md", ".json", ".svg"}
    again = [path.read_bytes() for path in paths]
    write_report(everything, tmp_path / "out")
    assert [path.read_bytes() for path in paths] == again
    run = next(source for source in everything.sources if source.kind == "run")
    assert run_source(tmp_path / "out" / "data" / f"{run.name}.json").data == run.data, "a run can be reported again"


def test_the_command(stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = accel(capsys, "report", str(stored), "-o", str(tmp_path / "out"))
    assert done.code == 0
    assert "figures, 1 files of data" in done.out
    printed = accel(capsys, "report", str(stored), "-o", "-")
    assert printed.out.startswith("# accel report: tiny\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "not a report"),
        ("{", "no JSON"),
        ('{"kind": "zoo", "format": 1, "rows": []}', "its kind is zoo, not bench"),
        ('{"kind": "bench", "format": 9}', "format 9"),
        ('{"kind": "bench", "format": 1, "rows": 3}', "no list of rows"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bench.json"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        file_source(path, "bench")
    done = accel(capsys, "report", "--bench", str(path), "-o", str(tmp_path / "out"))
    assert (done.code, done.err.count("\n")) == (BAD_INPUT, 1)
    assert not (tmp_path / "out").exists()
