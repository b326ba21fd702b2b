"""Every code block of the documentation is run, or its commands are checked and the test that runs them is named."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, create_autospec

import pytest
import yaml
from typer.testing import CliRunner

from bp_lcz.cli import app
from bp_lcz.params import Params, backbone_names
from bp_lcz.report.claims import load_paper
from bp_lcz.so2sat.releases import Release
from bp_lcz.workspace import merge_profile
from tests.conftest import ROOT
from tests.documentation.blocks import SHELLS, Block, block_at, blocks, exists, inline_commands, shape
from tests.documentation.commands import check, check_mentioned
from tests.scenes.rasters import optical, write_tif

BLOCKS = blocks()
HERE = "tests/documentation/test_blocks.py"
DEPLOYED = "tests/end_to_end/test_deployments.py::test_a_deployment_is_run_by_a_worker_and_watched_to_its_end"
REPRODUCED = "tests/end_to_end/test_reproduce.py::test_make_reproduce_"
PROMOTED = "tests/registry/test_promote.py::test_a_champion_is_replaced_only_by_a_sure_lead_and_rollbacks_walk_back"
TEAM = "tests/so2sat/test_pinned.py::test_a_team_lets_dvc_keep_the_files"
MATRIX = "tests/end_to_end/test_matrix.py::test_each_trial_runs_once_and_a_lost_machine_loses_nothing"

ELSEWHERE = {
    "bp-lcz --help": "tests/test_cli.py::test_help_lists_every_stage_and_loads_no_torch",
    "bp-lcz aa": "tests/report/test_aa.py::test_the_command_takes_the_trials_of_a_run",
    "bp-lcz download": "tests/so2sat/test_pinned.py::test_a_team_lets_dvc_keep_the_files",
    "bp-lcz map models/sen2lcz-mf --s2 june_2024": "tests/maps/test_change.py::test_only_what_exceeds_two_maps_of_one_year_is_more_than_noise",
    "bp-lcz map models/sen2lcz-mf --s2": "tests/maps/test_from_download.py::test_three_commands_lead_from_a_download_to_a_map",
    "bp-lcz map models:/": "tests/registry/test_serve.py::test_the_champion_is_served_over_http_with_the_probabilities_of_the_checkpoint",
    "bp-lcz models": "tests/registry/test_connection.py::test_only_what_mlflow_does_not_know_is_said_not_to_exist",
    "bp-lcz predict models:/": "tests/registry/test_serve.py::test_code_that_was_put_into_the_artifact_store_runs_neither_in_promote_nor_in_predict",
    "bp-lcz pretrained": "tests/model/test_pretrained.py::test_weights_come_from_a_server_or_a_file_and_make_the_same_checkpoint",
    "bp-lcz promote": PROMOTED,
    "bp-lcz promote bp-lcz-berlin --map": "tests/registry/test_promote.py::test_maps_of_one_city_decide_in_the_place_of_the_testing_split",
    "bp-lcz prove": "tests/serving/test_prove.py::test_real_patches_are_proven_by_the_published_weights_which_are_kept",
    "bp-lcz rollback": PROMOTED,
    "bp-lcz serve": "tests/registry/test_serve.py::test_the_champion_is_served_over_http_with_the_probabilities_of_the_checkpoint",
    "bp-lcz split /data/parts": "tests/scenes/test_split.py::test_several_files_of_several_folders_make_one_data_set",
    "bp-lcz split data/so2sat": "tests/scenes/test_split.py::test_files_can_be_testing_as_they_are_and_validation_then_comes_from_cities_of_training",
    "bp-lcz tile --s2 S2A_MSIL1C": "tests/scenes/test_areas.py::test_a_scene_is_cut_to_the_cells_that_the_area_touches",
    "bp-lcz validate": "tests/stages/test_validate.py::test_the_gate_is_written_where_dvc_expects_it",
    "bp-lcz verify": "tests/stages/test_verify.py::test_comparable_claims_that_hold_pass",
    "bp-lcz workspace": "tests/test_workspace.py::test_the_dataset_is_relative_to_the_callers_folder",
    "dvc push": TEAM,
    "dvc remote": TEAM,
    "dvc repro": "tests/end_to_end/test_smoke.py::test_dvc_alone_agrees_that_nothing_is_left_to_do",
    "make deploy": DEPLOYED,
    "make install": "tests/test_makefile.py::test_the_environment_is_made_by_a_python_that_is_there",
    "make paper": "tests/end_to_end/test_paper.py::test_one_command_brings_data_says_hours_and_shows_a_table_after_the_first_trial",
    "make reproduce": f"{REPRODUCED}ends_with_a_registered_demo_model",
    "make reproduce DATASET": f"{REPRODUCED}on_real_patches_ends_with_a_registered_model",
    "make server": "tests/integration/test_servers.py::test_a_prefect_server_is_started_once_and_stopped",
    "make worker": DEPLOYED,
    "make worker POOL": MATRIX,
    "prefect deployment run map-region": "tests/end_to_end/test_region.py::test_a_killed_worker_s_tile_is_finished_by_the_other_with_equal_bytes",
    "prefect deployment run train-bp-lcz": DEPLOYED,
    "prefect deployment run train-matrix": MATRIX,
    "prefect deployment schedule": DEPLOYED,
    "python -m benchmarks.fine_tuning": "tests/benchmarks/test_fine_tuning.py::test_each_start_is_compared_with_nothing_at_each_number_of_patches",
    "python -m flows.map_region": "tests/integration/test_region.py::test_an_unreadable_tile_fails_the_run_by_its_name_when_the_others_are_done",
    "python -m flows.train_bp_lcz": "tests/end_to_end/test_smoke.py::test_the_flow_ends_with_a_table_a_report_and_a_registered_model",
    "python -c": f"{HERE}::test_patches_go_to_a_server_by_every_way",
}
"""Commands that are not run here, by how they begin, the longest that fits, and a test that runs each."""

PYTHON = {
    "docs/backbone.md": "tests/model/backbones/test_backbones.py::test_the_example_of_the_documentation_is_a_backbone",
    "docs/day-by-day.md": "tests/registry/test_register.py::test_the_registered_model_gives_the_probabilities_of_the_checkpoint_in_a_fresh_process",
    "docs/map.md": f"{HERE}::test_a_composite_by_a_script_of_the_page_is_taken",
    "docs/servers.md": f"{HERE}::test_users_are_made_by_calls_that_mlflow_has",
    "docs/serving.md": f"{HERE}::test_patches_go_to_a_server_by_every_way",
}
"""The test that runs the Python of a page."""

TEXTS = {
    "docs/design.md": f"{HERE}::test_the_drawing_of_the_design_has_every_stage",
    "docs/performance.md": f"{HERE}::test_the_plan_of_the_paper_is_shown_as_it_is_printed",
    "docs/statistics.md": f"{HERE}::test_the_table_of_false_verdicts_is_shown_as_it_is_printed",
    "README.md": f"{HERE}::test_the_citation_is_that_of_the_file",
}
"""The test that holds what a block of a page without commands says."""


def run_by(words: list[str]) -> str | None:
    """The test that runs a command elsewhere, or None of one that is run here."""
    line = " ".join(words)
    fitting = [begin for begin in ELSEWHERE if line.startswith(begin)]
    return ELSEWHERE[max(fitting, key=len)] if fitting else None


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_is_checked(block: Block) -> None:
    if block.language in SHELLS:
        check_shell(block)
    elif block.language == "python":
        compile(block.text, str(block), "exec")
        assert exists(PYTHON[block.page])
    elif block.language in ("yaml", "json"):
        check_data(block)
    elif not block.language.startswith("{"):  # those are Sphinx's, and `make docs` runs them
        assert exists(TEXTS[block.page])


def check_shell(block: Block) -> None:
    for command in [block.text] if block.language != "console" else block.typed:
        subprocess.run(["bash", "-n"], input=command, text=True, check=True, capture_output=True)
    assert block.commands or block.language == "sh" or "stages      12 ran" in block.text
    for words in block.commands:
        check(words)
        test = run_by(words)
        assert test is None or exists(test), test
        assert words[0] != "make" or test, f"{words}: neither run here nor named in ELSEWHERE"
        named = [word for word in words if re.match("(deploy|docs|benchmarks|profiles)/", word)]
        assert not [word for word in named if not (ROOT / word).exists()]


def check_data(block: Block) -> None:
    if block.language == "json":
        Release.model_validate_json(re.sub("<md5sum [^>]*>", "0" * 32, block.text))
        return
    content = yaml.safe_load(block.text)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    if "matrix" not in content and "backbones" not in content:  # the two others are run as they stand, see below
        Params.model_validate(params | {key: {**params[key], **value} for key, value in content.items()})


def runnable(block: Block) -> list[list[str]]:
    return [words for words in block.commands if words[0] == "bp-lcz" and run_by(words) is None]


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if runnable(block) and " s2.tif" not in block.text], ids=str
)
def test_cheap_commands_run_and_print_what_the_page_shows(
    block: Block, desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a copy of the files that the pages name; absolute folders lie in it."""
    folder = shutil.copytree(desk, tmp_path / "desk", copy_function=os.link)
    monkeypatch.chdir(folder)
    printed = ""
    for words in runnable(block):
        if "…" in words:
            words.remove("…")
        here = [re.sub("^/(data|disk)/", rf"{folder}/\1/", word) for word in words[1:]]
        result = CliRunner().invoke(app, here, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        printed += result.stdout
    if block.printed and "cat map.json" not in block.text:
        assert shapes(block.printed) == shapes(printed.splitlines())


def shapes(lines: list[str]) -> list[str]:
    """Printed lines without their numbers; zones and places of cells are as they are found."""
    found = [re.sub(r"^(\w+) [A-Z].* 0 km2 0 %$", "a zone", shape(line)) for line in lines]
    found = [re.sub("mapped 0 %.*", "shares", line) for line in found]
    return [line for number, line in enumerate(found) if line != found[number - 1]]


@pytest.mark.parametrize(("tool", "level"), [("import ee", "L1C"), ("import odc.stac", "L2A")])
def test_a_composite_by_a_script_of_the_page_is_taken(
    tool: str, level: str, desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The libraries of the scripts ask servers; here they answer anything, and the bands have the names of the script."""
    stand_ins = ("ee", "odc", "odc.stac", "pystac_client", "rioxarray")
    for name in stand_ins:
        monkeypatch.setitem(sys.modules, name, MagicMock())
    script: dict[str, Any] = {}
    exec(block_at("docs/map.md", tool).text, script)  # noqa: S102
    write_tif(tmp_path / "s2.tif", optical(), names=script["bands"])
    (words,) = block_at("docs/map.md", "--s2 s2.tif", level).commands
    (tmp_path / "models").symlink_to(desk / "models")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, words[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def test_users_are_made_by_calls_that_mlflow_has(monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow.server
    from mlflow.server.auth.client import AuthServiceClient

    users = create_autospec(AuthServiceClient, instance=True)
    monkeypatch.setattr(
        mlflow.server, "get_app_client", create_autospec(mlflow.server.get_app_client, return_value=users)
    )
    exec(block_at("docs/servers.md", "get_app_client").text, {})  # noqa: S102
    assert users.create_user.called


def test_patches_go_to_a_server_by_every_way(desk: Path, scoring: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.serving.test_server import SEN1, SEN2

    monkeypatch.chdir(desk)
    for start, count in (("from bp_lcz.serving.client", len(SEN1)), ("import io", 64)):
        script = {"sen1": SEN1, "sen2": SEN2}
        exec(block_at("docs/serving.md", start).text.replace("127.0.0.1:5001", scoring), script)  # noqa: S102
        assert script["probability"].shape == (count, 17)
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    curl = block_at("docs/serving.md", "curl localhost:5001/health")
    program = "\n".join(["set -e", *curl.typed]).replace("localhost:5001", scoring).replace("curl ", "curl -sS ")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "no_proxy": "*"}
    done = subprocess.run(["bash", "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert len(json.loads(done.stdout.splitlines()[-1])["predictions"][0]) == 17


def test_the_profile_of_the_page_makes_a_matrix(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles/mine.yaml").write_text(block_at("docs/paper.md", "profiles/mine.yaml", "matrix:").text)
    merged = merge_profile(tmp_path, yaml.safe_load((ROOT / "params.yaml").read_text()), "mine")
    assert len(Params.model_validate(merged).trials) == 3 * 4


def test_variables_of_servers_are_known_to_them() -> None:
    import mlflow.environment_variables
    from prefect.settings import Settings

    known = (ROOT / "flows/servers.py").read_text() + (ROOT / "deploy/compose.yaml").read_text()
    known += " ".join(Settings().to_environment_variables()) + " ".join(dir(mlflow.environment_variables))
    named = {
        variable
        for block in BLOCKS
        if block.language == "sh"
        for variable in re.findall(r"^([A-Z_]+)=", block.text, re.MULTILINE)
        if not variable.startswith("AWS_")
    }
    assert len(named) > 10
    assert not [variable for variable in named if variable not in known]


def test_the_drawing_of_the_design_has_every_stage() -> None:
    drawing = block_at("docs/design.md", "simulate").text
    assert not [stage for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"] if stage not in drawing]


def test_the_plan_of_the_paper_is_shown_as_it_is_printed() -> None:
    from flows.plan import plan_lines

    params = Params.model_validate(merge_profile(ROOT, yaml.safe_load((ROOT / "params.yaml").read_text()), "paper"))
    paper = load_paper(ROOT / "paper.yaml", backbone_names())
    printed = [shape(line) for line in plan_lines(params, paper, dict.fromkeys(params.trials, 0.5), 0.25)]
    shown = [shape(line) for line in block_at("docs/performance.md", "order of results").text.splitlines()]
    assert not [line for line in shown if line not in (*printed, "...")]


def test_the_table_of_false_verdicts_is_shown_as_it_is_printed() -> None:
    result = CliRunner().invoke(app, ["aa", str(ROOT / "docs/seeds.csv"), "--draws", "100"])
    shown = block_at("docs/statistics.md", "false verdicts").text.splitlines()
    assert [shape(line) for line in result.stdout.splitlines()] == [shape(line) for line in shown]


def test_the_citation_is_that_of_the_file() -> None:
    text = block_at("README.md", "@inproceedings").text.replace("{", "").replace("}", "")
    paper = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert re.search(r"title += (.*),", text)[1] in str(paper)  # type: ignore[index]
    assert re.search(r"doi += (.*)", text)[1] in str(paper)  # type: ignore[index]


@pytest.mark.parametrize("program", ["bp-lcz", "make"])
def test_commands_within_sentences_exist(program: str) -> None:
    found = inline_commands(program)
    assert found
    for _, words in found:
        check_mentioned(words)
