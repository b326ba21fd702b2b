import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from bp_lcz.records import GateSummary
from bp_lcz.report.claims import check_claims, load_paper
from bp_lcz.report.page import write_report
from bp_lcz.report.references import load_references
from bp_lcz.scoring.results import Matrix, read_result
from bp_lcz.scoring.score import fraction
from tests.records import small_manifest
from tests.refusals import refuses
from tests.scoring.results import PATCHES_PNG, ROOT, TRIALS, write_results

PLAIN = {"eb_cnn-plain": TRIALS["eb_cnn-plain"]}
TWO = {name: TRIALS[name] for name in ("eb_cnn-plain", "eb_cnn-bgp")}
BACKBONES = ("eb_cnn", "exvit")
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


def read(root: Path, trials=TRIALS) -> Matrix:
    outputs = root / "outputs"
    results = [
        read_result(
            outputs / "evaluations" / name,
            outputs / "models" / name,
            {f"{part}.{k}": v for part, values in trial.get("overrides", {}).items() for k, v in values.items()},
        )
        for name, trial in trials.items()
    ]
    return Matrix(GateSummary.read(outputs / "gate/summary.json"), results)


def write(out: Path, matrix: Matrix, **options) -> None:
    paper = load_paper(ROOT / "paper.yaml", BACKBONES)
    outcomes = check_claims(paper, matrix.summary, matrix.results)
    references = load_references(ROOT / "references.yaml")
    shown = {
        "outcomes": outcomes,
        "references": references,
        "paper": paper,
        "manifest": small_manifest(),
        "patches": PATCHES_PNG,
        "profile": None,
        "command": "make reproduce",
    }
    write_report(out, matrix, **shown | options)


def make_report(root: Path, trials=TRIALS, **options) -> Path:
    write_results(root, trials, **options)
    out = root / "reports"
    out.mkdir()
    write(out, read(root, trials))
    return out


def text_of(out):
    return " ".join(" ".join(Page((out / "index.html").read_text()).text).split())


@pytest.fixture
def without_figures(monkeypatch):
    """For tests of words: drawing takes nearly all of a report's time."""
    monkeypatch.setattr("bp_lcz.report.page._plan", lambda *_: [])


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
    assert len(linked) == len(page.images) == len(on_disk) == 11
    assert {path.name for path in demo.iterdir()} == {"index.html", "report.md", "figures"}


def test_figures_and_tables_are_numbered_in_the_order_of_the_page_and_of_the_markdown(demo):
    for text in (text_of(demo), (demo / "report.md").read_text()):
        for kind, count in (("Figure", 11), ("Table", 13)):
            numbers = [int(number) for number in re.findall(rf"{kind} (\d+)\.", text)]
            assert numbers == list(range(1, count + 1)), kind


@pytest.mark.usefixtures("without_figures")
def test_the_answer_stands_first_and_the_profile_in_the_title(demo, tmp_path):
    oa = of(demo.parent, "eb_cnn-plain", "oa")
    assert f"finds the zone of {fraction(oa, 3)} of the 600 test patches (95 % interval [" in text_of(demo)[:200]
    write(tmp_path, read(demo.parent, TWO), profile="tables")
    assert "<h1>BP-LCZ on demo: tables</h1>" in (tmp_path / "index.html").read_text()


def test_all_but_the_answer_is_folded_and_what_to_cite_is_told(demo):
    html = (demo / "index.html").read_text()
    open_part, folded = html[: html.index("<details>")], html[html.index("<details>") :]
    assert open_part.count("<table") == open_part.count("<figure") == 1
    assert "Claims of the paper" not in open_part
    assert "Claims of the paper" in folded
    assert "doi:10.1109/ICASSP49660.2025.10889549" in folded


def test_equal_inputs_give_equal_bytes(demo, tmp_path):
    again = make_report(tmp_path, TWO)
    files = [path.relative_to(demo) for path in demo.rglob("*") if path.is_file()]
    assert len(files) == 13
    for file in files:
        assert (demo / file).read_bytes() == (again / file).read_bytes(), file


def test_every_value_of_the_results_table_comes_from_the_evaluation(demo):
    evaluation = json.loads((demo.parent / "outputs/evaluations/eb_cnn-bgp/evaluation.json").read_text())
    [_, row] = table(demo, "All scores")
    shown = [float(number) for entry in row for number in re.findall(r"(?<!\d)\.\d+", entry)]
    expected = []
    for name in ("oa", "aa", "kappa", "macro_f1"):
        expected += [evaluation[name], *evaluation["intervals"][name]]
    assert shown == pytest.approx(expected, abs=0.0005)


def test_simulated_data_are_headed_so_and_never_set_against_the_paper(demo):
    for text in (text_of(demo), (demo / "report.md").read_text()):
        head = text[: text.index("Results, with 95 % intervals")]
        assert "Made by code, not measured: " in head
        assert "never comparable with the paper" in " ".join(head.replace(">", "").split())
    assert "not accessible to this project" in text_of(demo)


@pytest.mark.usefixtures("without_figures")
def test_weak_labels_are_headed_so_with_the_words_of_the_files(tmp_path):
    out = make_report(tmp_path, PLAIN, kind="weak labels", unit="patch", absent=(0, 16), dataset="mine")
    text = text_of(out)
    assert "Weak labels. Not ground truth: " in text
    assert "weak labels: arg-max of Sen2LCZ on sen2" in text
    assert "†" in text
    assert "lower bound" in text
    assert "testing split of mine (weak labels), 600 patches" in text


@pytest.mark.usefixtures("without_figures")
def test_every_table_of_splits_that_overlap_is_marked(tmp_path):
    leakage = {"status": "overlap", "pairs": 1234, "distance": 100.0}
    out = make_report(tmp_path, PLAIN, kind="So2Sat", release="so2sat-v2", leakage=leakage)
    text = text_of(out)
    assert "Leaky split. Patches of two splits show the same ground (1,234 pairs, nearest 100.0 m apart)" in text
    assert "testing split of demo (leaky split, So2Sat LCZ42), 600 patches" in text
    assert "may be compared with published ones" not in text
    captions = [line for line in (out / "report.md").read_text().splitlines() if "testing split of demo (" in line]
    assert len(captions) > 1
    assert all("(leaky split, " in line for line in captions)


@pytest.mark.usefixtures("without_figures")
def test_unstated_provenance_is_said_to_be_unstated(tmp_path):
    text = text_of(make_report(tmp_path, PLAIN, kind="unstated"))
    assert "Provenance not stated. Nothing in the files tells" in text
    assert "McNemar" not in text  # nothing to compare with
    assert "Text encoder" not in text  # no trial has prompts


@pytest.mark.usefixtures("without_figures")
def test_a_single_block_is_said_to_give_no_intervals(tmp_path):
    text = text_of(make_report(tmp_path, PLAIN, blocks=1))
    assert "No intervals: all patches belong to one city" in text
    assert "In brackets" not in text


def table(out, start):
    """Rows of the Markdown table whose caption begins so."""
    lines = (out / "report.md").read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if re.match(rf"\*\*Table \d+\. {start}", line)) + 4
    last = next(i for i in range(first, len(lines)) if not lines[i].startswith("|"))
    return [[entry.strip() for entry in line.split("|")[1:-1]] for line in lines[first:last]]


def of(root, name, key):
    return json.loads((root / f"outputs/evaluations/{name}/evaluation.json").read_text())[key]


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Two variants with two seeds each, and an override of one of them."""
    trials = {
        f"{variant}-s{seed}": {"backbone": "eb_cnn", "variant": variant, "seed": seed}
        for seed in (2, 1)
        for variant in ("plain", "bgp")
    }
    for seed in (1, 2):
        overrides = {"model": {"alpha": 0.05}}
        trials[f"bgp-low-s{seed}"] = {"backbone": "eb_cnn", "variant": "bgp", "seed": seed, "overrides": overrides}
    return make_report(tmp_path_factory.mktemp("seeds"), trials, patches=200, groups=("RGB",))


def test_mean_and_deviation_are_shown_for_trials_that_differ_in_the_seed_alone(seeds):
    rows = table(seeds, "All scores")
    assert [row[0] for row in rows] == ["plain", "bgp", "bgp-low"]
    values = [of(seeds.parent, f"bgp-s{seed}", "oa") for seed in (1, 2)]
    mean, deviation = re.findall(r"\.\d+", rows[1][1])[:2]
    assert float(mean) == pytest.approx(np.mean(values), abs=0.0005)
    assert float(deviation) == pytest.approx(np.std(values, ddof=1), abs=0.0005)
    assert [row[5] for row in rows] == ["2", "2", "2"]
    assert rows[2][-1] == "alpha .05"


def test_prompting_is_compared_with_its_controls(tmp_path, without_figures):
    trials = {name: {"backbone": "eb_cnn", "variant": name, "seed": 1} for name in ("plain", "encoder", "bgp", "msm")}
    for source in ("random", "permuted"):
        trials[source] = {
            "backbone": "eb_cnn",
            "variant": "bgp",
            "seed": 1,
            "overrides": {"prompts": {"source": source}},
        }
    rows = table(make_report(tmp_path, trials, patches=200, groups=("RGB",)), "Differences")
    pairs = [(row[0], row[-1]) for row in rows]
    against = {name: [other for group, other in pairs if group == name] for name in trials}
    assert against["bgp"] == ["plain", "encoder", "random", "permuted"]
    assert all(against[name] == ["plain"] for name in ("encoder", "msm", "random", "permuted"))


def test_a_backbone_is_compared_with_the_one_that_the_matrix_names_first(tmp_path, without_figures):
    first, second = "eb_cnn", "resnet"
    names = [f"{backbone}-{variant}" for backbone in (first, second) for variant in ("plain", "bgp")]
    trials = {name: {"backbone": name.split("-")[0], "variant": name.split("-")[1], "seed": 1} for name in names}
    trials["resnet-low"] = trials["resnet-bgp"] | {"overrides": {"model": {"alpha": 0.05}}}
    rows = table(make_report(tmp_path, trials, patches=200, groups=("RGB",)), "Differences")
    assert {(row[0], row[-1]) for row in rows if row[0].split("-")[0] != row[-1].split("-")[0]} == {
        (f"{second}-plain", f"{first}-plain"),
        (f"{second}-bgp", f"{first}-bgp"),
    }


def test_differences_are_those_of_equal_seeds_averaged(seeds):
    rows = table(seeds, "Differences")
    assert [(row[0], row[-1]) for row in rows] == [("bgp", "plain"), ("bgp-low", "plain")]
    expected = np.mean(
        [of(seeds.parent, f"bgp-s{seed}", "oa") - of(seeds.parent, f"plain-s{seed}", "oa") for seed in (1, 2)]
    )
    assert float(rows[0][1].split()[0]) == pytest.approx(expected, abs=0.0005)
    assert len(rows[0][5].split(",")) == 2, "McNemar's p of each seed"


def test_the_ablation_is_grouped_by_factor_around_its_default(seeds):
    rows = table(seeds, "Ablation")
    assert [row[:2] for row in rows] == [["eb_cnn bgp: alpha", ".1"], ["eb_cnn bgp: alpha", ".05"]]
    assert rows[0][4] == rows[0][5] == "default"
    assert re.fullmatch(r"[+-]?\.\d{3} \[.*\]", rows[1][4])


def test_every_trial_is_in_the_table_of_single_trials_and_of_cost(seeds):
    names = {path.name for path in (seeds.parent / "outputs/models").iterdir()}
    assert {row[0] for row in table(seeds, "Each trial")} == names
    assert {row[0] for row in table(seeds, "Cost")} == names


def test_the_report_shows_every_claim_and_how_it_is_made_again(seeds):
    paper = load_paper(ROOT / "paper.yaml", BACKBONES)
    tested, others = (
        [row[0] for row in table(seeds, title)] for title in ("Claims of the paper", "Claims and numbers")
    )
    assert tested
    assert sorted(tested + others) == sorted(claim.claim for claim in paper.claims.values())
    for text in (text_of(seeds), (seeds / "report.md").read_text()):
        assert "fresh clone of the same commit: " in text
        assert re.search(r"SHA-256 `?\s?[0-9a-f]{64}", text)


def test_a_missing_seed_is_named(tmp_path):
    trials = {
        **{f"plain-s{seed}": {"backbone": "eb_cnn", "variant": "plain", "seed": seed} for seed in (1, 2)},
        "bgp-s1": {"backbone": "eb_cnn", "variant": "bgp", "seed": 1},
    }
    with refuses("params.yaml", "trials: bgp-s1", "seed 2"):
        make_report(tmp_path, trials, patches=50)


def test_the_same_trial_under_two_names_is_refused(tmp_path):
    trials = {name: {"backbone": "eb_cnn", "variant": "plain", "seed": 1} for name in ("a", "b")}
    with refuses("params.yaml", "trials: a and b"):
        make_report(tmp_path, trials, patches=50)


@pytest.mark.usefixtures("without_figures")
def test_official_data_are_not_called_unstated(tmp_path):
    text = text_of(make_report(tmp_path, PLAIN, kind="So2Sat", release="so2sat-v2", patches=100))
    assert "Provenance not stated" not in text
    assert "The labels are those of So2Sat LCZ42: these" in text


def test_expectations_that_are_not_met_are_listed(demo):
    for text in (text_of(demo), (demo / "report.md").read_text()):
        assert "1 of 2 expectations met; those not met:" in text
        assert "all classes: label lacks E" in text


def test_the_report_tells_calibration_and_the_coverage_of_each_city(demo):
    markdown = (demo / "report.md").read_text()
    [row] = [line for line in markdown.splitlines() if line.startswith("| eb_cnn-plain | .125 |")]
    assert row.endswith("| 1.250 | .875 | .700 (Bonn) | 2.2 |")
    assert any(line.startswith("| Aachen | 30 | .950 |") for line in markdown.splitlines())
    assert "Coverage by patch alone is optimistic" in markdown


def test_the_epoch_kept_is_that_of_the_model_description(demo):
    model = json.loads((demo.parent / "outputs/models/eb_cnn-plain/model.json").read_text())
    assert f"| {model['best_epoch']} of 12 |" in (demo / "report.md").read_text()


def test_one_seed_gives_no_deviations_and_no_second_table(demo):
    assert "±" not in text_of(demo)
    assert "Each trial" not in text_of(demo)


@pytest.mark.usefixtures("without_figures")
def test_markup_in_the_files_stays_text(tmp_path):
    root = tmp_path
    write_results(root, PLAIN, kind="weak labels", patches=100)
    path = root / "outputs/gate/summary.json"
    summary = json.loads(path.read_text())
    summary["source"] = "weak labels <script>alert(1)</script> *bold* [link](http://example.org)\nnew line"
    path.write_text(json.dumps(summary))
    out = root / "reports"
    out.mkdir()
    write(out, read(root, PLAIN))
    assert "<script" not in (out / "index.html").read_text()
    assert "<script>alert(1)</script> *bold* [link](http://example.org) new line" in text_of(out)
    markdown = (out / "report.md").read_text()
    assert r"\<script\>" in markdown
    assert r"\*bold\*" in markdown
    assert "](http" not in markdown.replace(r"\](", "")


@pytest.mark.parametrize(
    ("key", "value", "where"), [("oa", "high", "oa"), ("confusion", [[1] * 17] * 16 + [[1] * 16], "confusion.16")]
)
def test_a_damaged_value_of_an_evaluation_is_named(tmp_path, key, value, where):
    write_results(tmp_path, PLAIN, patches=50)
    evaluation = tmp_path / "outputs/evaluations/eb_cnn-plain"
    content = json.loads((evaluation / "evaluation.json").read_text())
    (evaluation / "evaluation.json").write_text(json.dumps(content | {key: value}))
    with refuses(evaluation / "evaluation.json", f"damaged: {where}"):
        read_result(evaluation, tmp_path / "outputs/models/eb_cnn-plain", {})


def test_trials_evaluated_on_different_patches_are_refused(tmp_path):
    write_results(tmp_path / "a", TWO, patches=100)
    write_results(tmp_path / "b", TWO, patches=101)
    one, other = (read(tmp_path / root, TWO) for root in "ab")
    mixed = Matrix(one.summary, [one.results[0], other.results[1]])
    with refuses("eb_cnn-bgp", "eb_cnn-plain", "`dvc repro`"):
        write(tmp_path, mixed)


@pytest.mark.parametrize(
    ("file", "content", "fact"),
    [
        ("evaluations/eb_cnn-plain/evaluation.json", None, "not found"),
        ("evaluations/eb_cnn-plain/evaluation.json", b"{", "line 1"),
        ("evaluations/eb_cnn-plain/evaluation.json", b"[]", "JSON object"),
        ("evaluations/eb_cnn-plain/evaluation.json", b"{}", "format unknown"),
        ("evaluations/eb_cnn-plain/predictions.npz", b"no", ".npz"),
        ("models/eb_cnn-plain/history.csv", b"epoch\n1\n", "training_loss"),
        ("models/eb_cnn-plain/history.csv", b"epoch\nx\n", "'x'"),
        ("models/eb_cnn-plain/history.csv", b"epoch,a\n1\n", "unreadable"),
        ("models/eb_cnn-plain/timings.json", b"\xff", "damaged"),
    ],
)
def test_unusable_result_files_are_named(tmp_path, file, content, fact):
    write_results(tmp_path, PLAIN, patches=50)
    outputs = tmp_path / "outputs"
    if content is None:
        (outputs / file).unlink()
    else:
        (outputs / file).write_bytes(content)
    with refuses(outputs / file, fact):
        read_result(outputs / "evaluations/eb_cnn-plain", outputs / "models/eb_cnn-plain", {})
