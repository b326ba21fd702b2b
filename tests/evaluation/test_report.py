import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from bp_lcz.errors import UserError
from bp_lcz.evaluation.report import read_result, read_summary, write_report
from tests.evaluation.results import CELLS, write_results

PLAIN = {"eb_cnn-plain": CELLS["eb_cnn-plain"]}
TWO = {name: CELLS[name] for name in ("eb_cnn-plain", "eb_cnn-bgp")}
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Text, addresses and headings of a page; fails on tags that do not match."""

    def __init__(self, html):
        super().__init__()
        self.open, self.addresses, self.ids, self.text, self.images = [], [], set(), [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.addresses += [attributes[name] for name in ("src", "href") if name in attributes]
        self.ids.add(attributes.get("id"))
        if tag == "img":
            self.images.append(attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text.append(data)


def make_report(root: Path, cells=CELLS, **options) -> Path:
    write_results(root, cells, **options)
    out = root / "reports"
    out.mkdir()
    outputs = root / "outputs"
    summary = read_summary(outputs / "gate/summary.json")
    results = [read_result(outputs / "evaluations" / cell, outputs / "models" / cell) for cell in cells]
    write_report(out, summary=summary, results=results)
    return out


def text_of(out):
    return " ".join(" ".join(Page((out / "index.html").read_text()).text).split())


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return make_report(tmp_path_factory.mktemp("demo"), TWO)


def test_the_page_is_well_formed_and_needs_nothing_from_outside(demo):
    html = (demo / "index.html").read_text()
    page = Page(html)
    for address in page.addresses:
        assert address.startswith(("data:image/png;base64,", "#"))
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= page.ids
    assert "@import" not in html
    assert "url(" not in html
    assert all(image["alt"] for image in page.images)


def test_page_and_markdown_show_the_same_figures_and_no_file_is_left_over(demo):
    page, markdown = Page((demo / "index.html").read_text()), (demo / "report.md").read_text()
    linked = re.findall(r"!\[[^\]]+\]\((figures/[^)]+)\)", markdown)
    on_disk = {path.relative_to(demo).as_posix() for path in demo.glob("figures/*")}
    assert set(linked) == on_disk
    assert len(linked) == len(page.images) == len(on_disk) == 9
    assert {path.name for path in demo.iterdir()} == {"index.html", "report.md", "figures"}


def test_equal_inputs_give_equal_bytes(demo, tmp_path):
    again = make_report(tmp_path, TWO)
    files = [path.relative_to(demo) for path in demo.rglob("*") if path.is_file()]
    assert len(files) == 11
    for file in files:
        assert (demo / file).read_bytes() == (again / file).read_bytes(), file


def test_every_value_of_the_results_table_comes_from_the_evaluation(demo):
    evaluation = json.loads((demo.parent / "outputs/evaluations/eb_cnn-bgp/evaluation.json").read_text())
    row = next(line for line in (demo / "report.md").read_text().splitlines() if line.startswith("| eb_cnn-bgp"))
    shown = [float(number) for number in re.findall(r"\.\d+", row)]
    expected = []
    for name in ("oa", "aa", "kappa", "macro_f1"):
        expected += [evaluation[name], *evaluation["intervals"][name]]
    assert shown == pytest.approx(expected, abs=0.0005)


def test_simulated_data_are_headed_so_and_never_set_against_the_paper(demo):
    for text in (text_of(demo), (demo / "report.md").read_text()):
        head = text[: text.index("Overall accuracy" if "![" in text else "Results:")]
        assert "Simulated data: made by code, not measured." in head
        assert "never comparable with the paper" in " ".join(head.replace(">", "").split())
    assert "not accessible to this project" in text_of(demo)


def test_weak_labels_are_headed_so_with_the_words_of_the_files(tmp_path):
    out = make_report(tmp_path, PLAIN, kind="weak labels", unit="patch", absent=(0, 16), dataset="mine")
    text = text_of(out)
    assert "Weak labels, not ground truth." in text
    assert "weak labels: arg-max of Sen2LCZ on sen2" in text
    assert "†" in text
    assert "lower bound" in text
    assert "testing split of mine (weak labels), 600 patches" in text


def test_unstated_provenance_is_said_to_be_unstated(tmp_path):
    text = text_of(make_report(tmp_path, PLAIN, kind="unstated"))
    assert "Provenance not stated in the files." in text
    assert "McNemar" not in text  # nothing to compare with
    assert "Text encoder" not in text  # no cell has prompts


def test_a_single_block_is_said_to_give_no_intervals(tmp_path):
    text = text_of(make_report(tmp_path, PLAIN, blocks=1))
    assert "No intervals: all patches belong to one city" in text
    assert "In brackets" not in text


def test_cells_are_compared_with_the_plain_cell_of_their_own_backbone_and_seed(tmp_path):
    cells = {
        f"{variant}-{seed}": {"backbone": "eb_cnn", "variant": variant, "seed": seed}
        for seed in (1, 2)
        for variant in ("plain", "bgp")
    }
    out = make_report(tmp_path, cells, patches=200, groups=("RGB",))
    lines = (out / "report.md").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("**Differences"))
    rows = [[entry.strip() for entry in line.split("|")[1:-1]] for line in lines[start + 4 : start + 6]]
    assert [(row[0], row[-1]) for row in rows] == [("bgp-1", "plain-1"), ("bgp-2", "plain-2")]


def test_mean_and_deviation_are_shown_for_cells_that_differ_in_the_seed_alone(tmp_path):
    cells = {f"s{seed}": {"backbone": "eb_cnn", "variant": "plain", "seed": seed} for seed in (1, 2)}
    out = make_report(tmp_path, cells, patches=200)
    values = [
        json.loads((tmp_path / f"outputs/evaluations/{cell}/evaluation.json").read_text())["oa"] for cell in cells
    ]
    row = next(line for line in (out / "report.md").read_text().splitlines() if line.startswith("| eb_cnn plain"))
    mean, deviation = re.findall(r"\.\d+", row)[:2]
    assert float(mean) == pytest.approx(np.mean(values), abs=0.0005)
    assert float(deviation) == pytest.approx(np.std(values, ddof=1), abs=0.0005)


def test_expectations_that_are_not_met_are_listed(demo):
    for text in (text_of(demo), (demo / "report.md").read_text()):
        assert "1 of 2 expectations met; those not met:" in text
        assert "all classes: label lacks E" in text


def test_epochs_are_counted_from_one(demo):
    model = json.loads((demo.parent / "outputs/models/eb_cnn-plain/model.json").read_text())
    assert f"| {model['best_epoch'] + 1} of 12 |" in (demo / "report.md").read_text()


def test_one_seed_gives_no_table_of_seeds(demo):
    assert "over seeds" not in text_of(demo)


def test_markup_in_the_files_stays_text(tmp_path):
    root = tmp_path
    write_results(root, PLAIN, kind="weak labels", patches=100)
    path = root / "outputs/gate/summary.json"
    summary = json.loads(path.read_text())
    summary["source"] = "weak labels <script>alert(1)</script> *bold* [link](http://example.org)\nnew line"
    path.write_text(json.dumps(summary))
    out = root / "reports"
    out.mkdir()
    result = read_result(root / "outputs/evaluations/eb_cnn-plain", root / "outputs/models/eb_cnn-plain")
    write_report(out, summary=read_summary(path), results=[result])
    assert "<script" not in (out / "index.html").read_text()
    assert "<script>alert(1)</script> *bold* [link](http://example.org) new line" in text_of(out)
    markdown = (out / "report.md").read_text()
    assert r"\<script\>" in markdown
    assert r"\*bold\*" in markdown
    assert "](http" not in markdown.replace(r"\](", "")


def test_cells_evaluated_on_different_patches_are_refused(tmp_path):
    write_results(tmp_path / "a", TWO, patches=100)
    write_results(tmp_path / "b", TWO, patches=101)
    results = [
        read_result(tmp_path / root / "outputs/evaluations" / cell, tmp_path / root / "outputs/models" / cell)
        for root, cell in zip("ab", TWO, strict=True)
    ]
    summary = read_summary(tmp_path / "a/outputs/gate/summary.json")
    with pytest.raises(UserError, match=r"eb_cnn-plain and eb_cnn-bgp were evaluated on different patches"):
        write_report(tmp_path, summary=summary, results=results)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("evaluations/eb_cnn-plain/evaluation.json", None, r"evaluation\.json: not found; run `dvc repro`$"),
        ("evaluations/eb_cnn-plain/evaluation.json", b"{", r"evaluation\.json: unreadable: "),
        (
            "evaluations/eb_cnn-plain/evaluation.json",
            b"[]",
            r"evaluation\.json: unreadable: expected a JSON object",
        ),
        ("evaluations/eb_cnn-plain/evaluation.json", b"{}", r"evaluation\.json: lacks cell, "),
        (
            "evaluations/eb_cnn-plain/predictions.npz",
            b"no",
            r"predictions\.npz: unreadable: not a NumPy \.npz",
        ),
        ("models/eb_cnn-plain/history.csv", b"epoch\n1\n", r"history\.csv: lacks training_loss"),
        ("models/eb_cnn-plain/history.csv", b"epoch\nx\n", r"history\.csv: unreadable: could not convert"),
        ("models/eb_cnn-plain/history.csv", b"epoch,a\n1\n", r"history\.csv: unreadable: "),
        ("models/eb_cnn-plain/timings.json", b"\xff", r"timings\.json: unreadable: "),
    ],
)
def test_unusable_result_files_are_named(tmp_path, file, content, message):
    write_results(tmp_path, PLAIN, patches=50)
    outputs = tmp_path / "outputs"
    if content is None:
        (outputs / file).unlink()
    else:
        (outputs / file).write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_result(outputs / "evaluations/eb_cnn-plain", outputs / "models/eb_cnn-plain")
    assert "\n" not in str(error.value)
