"""Workspaces in a small git repository that has this project's parameters."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from dvc.config import Config

from bp_lcz.errors import UserError
from bp_lcz.model.checkpoint import write_checkpoint
from bp_lcz.params import SPLITS, Params, Start, load_params
from bp_lcz.paths import STARTS, start_folder
from bp_lcz.workspace import Brought, main_checkout, make_workspace
from tests.model.networks import SMALL, network_of, trial_of
from tests.records import described
from tests.refusals import refuses
from tests.so2sat.patches import write_dataset

ROOT = Path(__file__).parents[1]
PROFILE = "train:\n  epochs: 3\nsimulate:\n  patches: {testing: 77}\n"
BAD = "profiles/bad.yaml"
TOGETHER = f"params.yaml of the commit + {BAD}"


def run_git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=T", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path) -> str:
    run_git(folder, "add", "--all")
    run_git(folder, "commit", "--quiet", "--message", "state")
    return run_git(folder, "rev-parse", "HEAD")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "checkout"
    (folder / ".dvc").mkdir(parents=True)
    (folder / "profiles").mkdir()
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / ".gitignore").write_text("/.workspaces/\n/outputs/\n")
    (folder / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (folder / ".dvc/config").write_text("[core]\n    analytics = false\n")
    (folder / "dvc.lock").write_text("schema: '2.0'\n")
    (folder / "code.py").write_text("first = 1\n")
    (folder / "profiles/quick.yaml").write_text(PROFILE)
    run_git(tmp_path, "init", "--quiet", str(folder))
    commit(folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "patches"
    folder.mkdir()
    for split in SPLITS:
        (folder / f"{split}.h5").touch()
    return folder


def test_a_workspace_is_a_worktree_at_the_commit_of_the_main_checkout(checkout: Path) -> None:
    workspace = make_workspace("one")
    assert workspace == checkout / ".workspaces/one"
    assert run_git(workspace, "rev-parse", "HEAD") == run_git(checkout, "rev-parse", "HEAD")
    assert load_params(workspace / "params.yaml") == load_params(checkout / "params.yaml")
    assert run_git(checkout, "status", "--porcelain") == ""


def test_a_profile_is_merged_key_by_key(checkout: Path) -> None:
    committed = load_params(checkout / "params.yaml")
    merged = load_params(make_workspace("one", profile="quick") / "params.yaml")
    assert merged.train == committed.train.model_copy(update={"epochs": 3})
    assert merged.simulate.patches == committed.simulate.patches.model_copy(update={"testing": 77})
    assert merged.trials == committed.trials


def test_lists_and_scalars_of_a_profile_replace_what_is_below(checkout: Path) -> None:
    (checkout / "profiles/narrow.yaml").write_text("backbones: {eb_cnn: {widths: [4, 8]}}\n")
    assert load_params(make_workspace("one", profile="narrow") / "params.yaml").backbones["eb_cnn"] == {
        "widths": [4, 8]
    }


def test_the_trials_of_a_profile_replace_the_committed_ones(checkout: Path) -> None:
    trials = "{only-s2: {backbone: eb_cnn, variant: plain, seed: 2}}"
    (checkout / "profiles/other.yaml").write_text(f"trials: {trials}\n")
    merged = load_params(make_workspace("one", profile="other") / "params.yaml")
    assert list(merged.trials) == ["only-s2"]
    assert merged.train == load_params(checkout / "params.yaml").train


def test_a_matrix_is_every_backbone_in_every_variant_and_other_rows_with_every_seed(checkout: Path) -> None:
    (checkout / "profiles/other.yaml").write_text(
        "matrix:\n"
        "  seeds: [1, 4]\n"
        "  backbones: {eb_cnn: eb_cnn, small: vit}\n"
        "  variants: [plain, bgp]\n"
        "  rows: {early: {backbone: eb_cnn, variant: plain, overrides: {train: {epochs: 1}}}}\n"
    )
    trials = load_params(make_workspace("one", profile="other") / "params.yaml").trials
    rows = ["eb_cnn-plain", "eb_cnn-bgp", "small-plain", "small-bgp", "early"]
    assert list(trials) == [f"{row}-s{seed}" for row in rows for seed in (1, 4)]
    small, early = trials["small-bgp-s4"], trials["early-s1"]
    assert (small.backbone, small.variant, small.seed) == ("vit", "bgp", 4)
    assert (early.variant, early.seed, early.overrides.train) == ("plain", 1, {"epochs": 1})


def test_a_matrix_may_name_what_comes_first(checkout: Path) -> None:
    (checkout / "profiles/other.yaml").write_text(
        "matrix:\n"
        "  seeds: [1, 2, 3]\n"
        "  backbones: {eb_cnn: eb_cnn}\n"
        "  variants: [plain, bgp, msm]\n"
        "  order:\n"
        "    - {rows: [eb_cnn-msm, eb_cnn-plain], seeds: [1, 2]}\n"
        "    - {rows: [eb_cnn-plain], seeds: [2, 3]}\n"
    )
    names = list(load_params(make_workspace("one", profile="other") / "params.yaml").trials)
    first = ["msm-s1", "plain-s1", "msm-s2", "plain-s2", "plain-s3", "bgp-s1", "bgp-s2", "bgp-s3", "msm-s3"]
    assert names == [f"eb_cnn-{name}" for name in first]


def test_the_parameters_say_from_which_profile_they_are(checkout: Path) -> None:
    assert load_params(checkout / "params.yaml").profile is None
    assert load_params(make_workspace("one", profile="quick") / "params.yaml").profile == "quick"
    assert load_params(make_workspace("one") / "params.yaml").profile is None


def test_equal_calls_write_equal_parameters(checkout: Path, dataset: Path) -> None:
    texts = {(make_workspace(name, profile="quick", dataset=dataset) / "params.yaml").read_bytes() for name in "ab"}
    assert len(texts) == 1


def test_the_dataset_is_relative_to_the_callers_folder(
    checkout: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkout / "profiles")
    workspace = make_workspace("one", dataset=Path("../../patches"))
    assert load_params(workspace / "params.yaml").dataset.root == str(dataset)


def test_a_start_that_does_not_fit_is_told_before_there_is_a_workspace(checkout: Path, brought: Brought) -> None:
    def refuse(params: Params) -> list[str]:
        raise UserError(next(iter(params.trials)), "no")

    with refuses("sen2lcz_mf-plain"):
        make_workspace("one", start=brought._replace(check=refuse))
    assert not (checkout / ".workspaces/one").exists()


@pytest.fixture
def brought(tmp_path: Path) -> Brought:
    """A start as it was brought; its weights are only copied here."""
    folder = tmp_path / "brought"
    folder.mkdir()
    described(trial_of("sen2lcz_mf")).write(folder / "model.json")
    (folder / "model.safetensors").write_bytes(b"weights")
    return Brought(Start(name="models:/mine/3", sha256="ab" * 32), folder, lambda _: [])


def test_a_start_is_named_by_its_hash_and_lies_in_the_workspace(checkout: Path, brought: Brought) -> None:
    workspace = make_workspace("one", start=brought)
    params = load_params(workspace / "params.yaml")
    assert params.train.start == brought.start
    assert list(params.trials) == ["sen2lcz_mf-plain", "sen2lcz_mf-bgp", "sen2lcz_mf-bp-lcz"]
    assert {trial.backbone for trial in params.trials.values()} == {"sen2lcz_mf"}
    assert params.backbones["sen2lcz_mf"] == SMALL["sen2lcz_mf"]
    copy = start_folder(workspace / STARTS, brought.start.sha256)
    assert (copy / "model.safetensors").read_bytes() == b"weights"
    assert make_workspace("one", start=brought) == workspace
    assert load_params(make_workspace("one") / "params.yaml").train.start is None


def test_the_trials_of_a_profile_stay_with_a_start(checkout: Path, brought: Brought) -> None:
    (checkout / "profiles/other.yaml").write_text(
        "trials:\n  tuned: {backbone: eb_cnn, variant: plain, seed: 2}\n"
        "  new: {backbone: eb_cnn, variant: plain, seed: 2, overrides: {train: {start: null}}}\n"
    )
    params = load_params(make_workspace("one", profile="other", start=brought) / "params.yaml")
    assert [params.trial(name).train.start for name in params.trials] == [brought.start, None]
    assert [trial.backbone for trial in params.trials.values()] == ["eb_cnn", "eb_cnn"]


def test_a_linked_dataset_keeps_its_name(checkout: Path, dataset: Path) -> None:
    link = dataset.with_name("linked")
    link.symlink_to(dataset)
    workspace = make_workspace("one", dataset=link)
    assert load_params(workspace / "params.yaml").dataset.root == str(link)


def test_the_cache_of_the_main_checkout_is_shared(checkout: Path) -> None:
    workspace = make_workspace("one")
    assert f"dir = {checkout / '.dvc/cache'}\n" in (workspace / ".dvc/config.local").read_text()


@pytest.mark.parametrize("name", ["no #1", "a,b", "it's", '5" of rain', "50 %"])
def test_the_cache_is_that_of_the_main_checkout_whatever_its_path(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    moved = checkout.rename(checkout.with_name(name))
    monkeypatch.chdir(moved)
    assert Config(str(make_workspace("one") / ".dvc"))["cache"]["dir"] == str(moved / ".dvc/cache")


def test_a_cache_folder_that_the_main_checkout_chose_is_shared(checkout: Path, tmp_path: Path) -> None:
    (checkout / ".dvc/config.local").write_text("[cache]\n    dir = ../../big_disk\n")
    workspace = make_workspace("one")
    assert f"dir = {tmp_path / 'big_disk'}\n" in (workspace / ".dvc/config.local").read_text()


def test_a_remote_of_the_main_checkout_alone_is_shared(checkout: Path) -> None:
    remote = "[core]\n    remote = disk\n['remote \"disk\"']\n    url = /mnt/disk\n"
    (checkout / ".dvc/config.local").write_text(remote)
    workspace = make_workspace("one")
    shown = subprocess.run(
        [sys.executable, "-m", "dvc", "config", "--list"], cwd=workspace, capture_output=True, text=True, check=True
    )
    assert "core.remote=disk" in shown.stdout.splitlines()
    assert "remote.disk.url=/mnt/disk" in shown.stdout.splitlines()
    assert f"cache.dir={checkout / '.dvc/cache'}" in shown.stdout.splitlines()


def test_renewing_moves_to_the_new_commit_and_keeps_lock_and_outputs(checkout: Path) -> None:
    workspace = make_workspace("one", profile="quick")
    (workspace / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    (workspace / "outputs").mkdir()
    (workspace / "outputs/model").write_text("trained")
    (checkout / "code.py").write_text("second = 2\n")
    (checkout / "dvc.lock").write_text("schema: '2.0' # of the main checkout\n")
    new = commit(checkout)

    assert make_workspace("one", profile="quick") == workspace
    assert run_git(workspace, "rev-parse", "HEAD") == new
    assert (workspace / "code.py").read_text() == "second = 2\n"
    assert (workspace / "dvc.lock").read_text() == "schema: '2.0'\nstages: {}\n"
    assert (workspace / "outputs/model").read_text() == "trained"


MAKER = """
import sys
from pathlib import Path
import bp_lcz.workspace
share = bp_lcz.workspace.share_dvc_settings
def stop_in_the_middle(main: Path, folder: Path) -> None:
    share(main, folder)
    print("in the middle", flush=True)
    sys.stdin.read()
bp_lcz.workspace.share_dvc_settings = stop_in_the_middle
print(bp_lcz.workspace.make_workspace("one", profile="quick"))
"""
RENEWER = "from bp_lcz.workspace import make_workspace; print(make_workspace('one', profile='quick'))"


@contextmanager
def running(script: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that is killed at the end of the block."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script], cwd=folder, text=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def test_two_processes_make_a_workspace_one_after_the_other(checkout: Path) -> None:
    workspace = checkout / ".workspaces/one"
    with running(MAKER, checkout) as first:
        assert first.stdout.readline() == "in the middle\n"
        with running(RENEWER, checkout) as second:
            waits = f"workspace one is being made or renewed (process {first.pid}); waiting until it ends\n"
            assert second.stderr.readline() == waits
            assert not (workspace / "params.yaml").read_text().startswith("# Written")
            for process in (first, second):
                assert process.communicate(timeout=60)[0] == f"{workspace}\n"
    assert load_params(workspace / "params.yaml").profile == "quick"
    assert run_git(workspace, "status", "--porcelain") == "M params.yaml"
    assert run_git(checkout, "status", "--porcelain") == ""


def test_a_maker_that_is_killed_does_not_keep_others_waiting(checkout: Path) -> None:
    with running(MAKER, checkout) as first:
        assert first.stdout.readline() == "in the middle\n"
    assert load_params(make_workspace("one", profile="quick") / "params.yaml").profile == "quick"


@contextmanager
def flow_run(workspace: Path) -> Iterator[None]:
    """What others see of a flow run at work in the workspace."""
    (workspace / ".dvc/tmp").mkdir(exist_ok=True)
    with (workspace / ".dvc/tmp/flow.lock").open("w") as held:
        held.write("4711")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def test_renewing_waits_for_a_flow_run_in_the_workspace(checkout: Path) -> None:
    workspace = make_workspace("one")
    before = (workspace / "params.yaml").read_bytes()
    with ExitStack() as renewing:
        with flow_run(workspace):
            renewal = renewing.enter_context(running(RENEWER, checkout))
            line = renewal.stderr.readline()
            assert line == f"another run is at work in {workspace} (process 4711); waiting until it ends\n"
            assert (workspace / "params.yaml").read_bytes() == before
            (workspace / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")  # by a stage of the run
        assert renewal.communicate(timeout=60)[0] == f"{workspace}\n"
    assert load_params(workspace / "params.yaml").profile == "quick"
    assert (workspace / "dvc.lock").read_text() == "schema: '2.0'\nstages: {}\n"


def test_renewing_keeps_what_was_edited_while_it_waited(checkout: Path) -> None:
    workspace = make_workspace("one")
    with ExitStack() as renewing:
        with flow_run(workspace):
            renewal = renewing.enter_context(running(RENEWER, checkout))
            assert "waiting" in renewal.stderr.readline()
            (workspace / "code.py").write_text("edited = 3\n")
        assert f"UserError: {workspace}: code.py " in renewal.communicate(timeout=60)[1]
    assert (workspace / "code.py").read_text() == "edited = 3\n"


def test_renewing_finishes_a_renewal_that_was_killed(checkout: Path) -> None:
    workspace = make_workspace("one")
    (workspace / ".dvc/tmp").mkdir(exist_ok=True)
    (workspace / ".dvc/tmp/dvc.lock.kept").write_text("schema: '2.0' # kept\n")  # dvc.lock was just reset
    make_workspace("one")
    assert (workspace / "dvc.lock").read_text() == "schema: '2.0' # kept\n"
    assert not (workspace / ".dvc/tmp/dvc.lock.kept").exists()


def test_renewing_takes_over_a_changed_and_a_removed_profile(checkout: Path, dataset: Path) -> None:
    workspace = make_workspace("one", profile="quick", dataset=dataset)
    (checkout / "profiles/quick.yaml").write_text("train: {epochs: 5}\n")
    make_workspace("one", profile="quick")
    renewed = load_params(workspace / "params.yaml")
    assert renewed.train.epochs == 5
    assert renewed.dataset.root == "data/demo"

    make_workspace("one")
    assert load_params(workspace / "params.yaml") == load_params(checkout / "params.yaml")


def study(checkout: Path, rule: str) -> None:
    (checkout / "rule.md").write_text(rule)
    (checkout / "profiles/study.yaml").write_text("rule: rule.md\n")
    commit(checkout)


def test_a_study_keeps_the_rule_that_it_was_begun_with(checkout: Path) -> None:
    study(checkout, "the best of five seeds")
    begun = load_params(make_workspace("study", "study") / "params.yaml").rule
    (checkout / "code.py").write_text("second = 2\n")
    commit(checkout)
    assert load_params(make_workspace("study", "study") / "params.yaml").rule == begun
    study(checkout, "the best of one seed")
    for profile in ("study", "quick"):
        with refuses(checkout / ".workspaces/study/params.yaml", "rule", begun[:16] if begun else None):
            make_workspace("study", profile)
    assert load_params(checkout / ".workspaces/study/params.yaml").rule == begun
    assert load_params(make_workspace("other", "study") / "params.yaml").rule != begun


def test_a_rule_that_is_not_committed_is_refused(checkout: Path) -> None:
    (checkout / "profiles/study.yaml").write_text("rule: rule.md\n")
    (checkout / "rule.md").write_text("whatever comes out\n")
    with refuses("profiles/study.yaml", "rule.md", "committed"):
        make_workspace("study", "study")
    assert not (checkout / ".workspaces/study").exists()


def test_renewing_does_not_throw_away_edits(checkout: Path) -> None:
    workspace = make_workspace("one")
    (workspace / "code.py").write_text("edited = 3\n")
    with refuses(workspace, "code.py"):
        make_workspace("one")
    assert (workspace / "code.py").read_text() == "edited = 3\n"


def test_a_workspace_removed_by_hand_can_be_made_again(checkout: Path) -> None:
    shutil.rmtree(make_workspace("one"))
    assert (make_workspace("one") / "params.yaml").exists()


def test_a_workspace_can_be_made_from_inside_another(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_workspace("one"))
    assert main_checkout(Path.cwd()) == checkout
    assert make_workspace("two") == checkout / ".workspaces/two"


def test_uncommitted_changes_are_named(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_workspace("one")
    assert capsys.readouterr().err == ""
    (checkout / "code.py").write_text("changed = 1\n")
    workspace = make_workspace("two")
    message = capsys.readouterr().err
    head = run_git(checkout, "rev-parse", "HEAD")[:10]
    assert message == (f"note: uncommitted changes of code.py are not part of workspace two (it is at commit {head})\n")
    assert (workspace / "code.py").read_text() == "first = 1\n"


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "_x", "a b", ".hidden", "a" * 101])
def test_a_bad_name_is_refused(checkout: Path, name: str) -> None:
    with refuses(f"workspace '{name}'", 100):
        make_workspace(name)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("berlin", "berlin"),
        ("my patches", "my_patches"),
        ("_mine", "data_mine"),
        (".mine", "data.mine"),
        ("-mine", "data-mine"),
        ("Zürich", "Z__rich"),
        ("Ürümqi", "data__r__mqi"),
        ("a" * 150, "a" * 100),
        ("_" * 100, "data" + "_" * 96),
    ],
)
def test_make_reproduce_names_a_workspace_after_any_folder(
    checkout: Path, dataset: Path, folder: str, name: str
) -> None:
    dataset = dataset.rename(dataset.with_name(folder))
    done = make_reproduce(checkout, f"DATASET={dataset}")
    workspace = checkout / ".workspaces" / name
    assert done.stdout == f"-m flows.train_bp_lcz --workspace {workspace}\n", done.stderr
    assert load_params(workspace / "params.yaml").dataset.root == str(dataset)


def test_make_reproduce_begins_with_a_model(checkout: Path, tmp_path: Path) -> None:
    start, dataset = tmp_path / "start", write_dataset(tmp_path / "patches")
    start.mkdir()
    write_checkpoint(start, network_of("sen2lcz_mf"), described(trial_of("sen2lcz_mf")))
    done = make_reproduce(checkout, f"DATASET={dataset}", f"START={start}")
    workspace = checkout / ".workspaces/patches"
    assert done.stdout == f"-m flows.train_bp_lcz --workspace {workspace}\n", done.stderr
    begun = load_params(workspace / "params.yaml").train.start
    assert begun is not None
    assert begun.name == "start"
    assert (start_folder(workspace / STARTS, begun.sha256) / "model.safetensors").is_file()


def test_a_start_without_data_is_told_to_need_them(checkout: Path) -> None:
    done = make_reproduce(checkout, "START=somewhere")
    assert done.returncode != 0
    assert "DATASET" in done.stderr.splitlines()[0]


def make_reproduce(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`make reproduce` in a checkout whose flow only prints how it was called."""
    commands = checkout / ".venv/bin"
    commands.mkdir(parents=True)
    (commands / "bp-lcz").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bp_lcz.cli "$@"\n')
    (commands / "python").write_text('#!/bin/sh\necho "$@"\n')
    for command in commands.iterdir():
        command.chmod(0o755)
    shutil.copy(ROOT / "Makefile", checkout)
    # The last is the newest: nothing to install.
    for file in ("pyproject.toml", "constraints.txt", "constraints-runtime.txt", ".venv/.installed"):
        (checkout / file).touch()
    outer = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")  # of the make that runs the tests
    return subprocess.run(
        ["make", "reproduce", *arguments],
        env={key: value for key, value in os.environ.items() if key not in outer},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_unknown_profile_is_refused_with_the_known_ones(checkout: Path) -> None:
    with refuses("profiles/fast.yaml", "no such profile", "quick"):
        make_workspace("one", profile="fast")
    assert not (checkout / ".workspaces").exists()


@pytest.mark.parametrize(
    ("profile", "where", "facts"),
    [
        ("train: {epochs: 0}", TOGETHER, ["train.epochs", 0]),
        ("trian: {epochs: 1}", TOGETHER, ["trian: unknown key"]),
        ("train: [", BAD, ["YAML"]),
        ("[1, 2]", BAD, ["mapping"]),
        ("trials:\n  a: {seed: 1}\n  a: {seed: 2}\n", BAD, ["duplicate key a in line 3"]),
        ("cells: {}", TOGETHER, ["cells", "trials"]),
        ("matrix: {seed: [1]}", BAD, ["matrix.seed: unknown key"]),
        ("matrix: {seeds: [1], order: [{row: [a]}]}", BAD, ["matrix.order.0.row: unknown key; known: rows"]),
        ("matrix: [1]", BAD, ["matrix: expected a mapping"]),
        ("matrix: {seeds: [1]}\ntrials: {}", BAD, ["trials beside"]),
        ("matrix: {seeds: [1]}", TOGETHER, ["trials", 1]),
        ("matrix: {seeds: [1], rows: {a: {variant: plain}}}", TOGETHER, ["trials.a-s1.backbone"]),
        (
            "matrix: {seeds: [1, 2], backbones: {a: vit}, variants: [bgp], rows: {a-bgp: {}}}",
            BAD,
            ["matrix", "a-bgp-s1 twice"],
        ),
        (
            "matrix: {seeds: [1], backbones: {a: vit}, variants: [bgp], order: [{rows: [a-bgp], seeds: [1, 2]}]}",
            BAD,
            ["matrix", "order", "a-bgp-s2"],
        ),
        ("train: {epochs: 1} # \udcfc", BAD, ["UTF-8"]),
    ],
)
def test_a_profile_that_does_not_fit_is_refused(checkout: Path, profile: str, where: str, facts: list[object]) -> None:
    (checkout / "profiles/bad.yaml").write_text(profile, encoding="utf-8", errors="surrogateescape")
    with refuses(where, *facts):
        make_workspace("one", profile="bad")
    assert not (checkout / ".workspaces").exists()


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"train: [", "YAML"),
        (b"train: 1\ntrain: 2\n", "duplicate key train in line 2"),
        (b"train: \xfc", "UTF-8"),
        (b"", "mapping"),
    ],
)
def test_committed_parameters_that_cannot_be_read_are_refused(checkout: Path, content: bytes, fact: str) -> None:
    (checkout / "params.yaml").write_bytes(content)
    commit(checkout)
    with refuses("params.yaml of the commit", fact):
        make_workspace("one")


def test_a_folder_without_a_data_set_is_refused(checkout: Path, dataset: Path) -> None:
    with refuses("nowhere", "no such folder"):
        make_workspace("one", dataset=Path("nowhere"))
    (dataset / "training.h5").unlink()
    with refuses(dataset, "training.h5"):
        make_workspace("one", dataset=dataset)
    assert not (checkout / ".workspaces").exists()


def test_a_folder_that_is_no_workspace_is_left_alone(checkout: Path) -> None:
    (checkout / ".workspaces/one").mkdir(parents=True)
    with refuses(checkout / ".workspaces/one", "is not a workspace"):
        make_workspace("one")


def test_a_disk_that_is_full_for_git_is_told_as_that(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "error: unable to write file code.py: No space left on device\nfatal: Could not reset index file"
    (tmp_path / "git").write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 128\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        make_workspace("one")


def test_a_failure_leaves_nothing_half_made(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(main: Path) -> str:
        raise OSError("disk full")

    monkeypatch.setattr("bp_lcz.workspace.cache_folder", fail)
    with pytest.raises(OSError, match="disk full"):
        make_workspace("one")
    assert not (checkout / ".workspaces/one").exists()
    assert len(run_git(checkout, "worktree", "list").splitlines()) == 1


@pytest.mark.parametrize("profile", sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml")))
def test_every_profile_of_the_project_fits_its_parameters(checkout: Path, profile: str) -> None:
    for folder in ("profiles", "docs"):  # a study's rule is a committed file of docs
        shutil.copytree(ROOT / folder, checkout / folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("images"))
    commit(checkout)
    merged = load_params(make_workspace("one", profile=profile) / "params.yaml")
    assert merged != load_params(checkout / "params.yaml")


# ---- other forms of a git checkout


def beside_bare(tmp_path: Path, source: Path) -> Path:
    run_git(tmp_path, "clone", "--quiet", "--bare", str(source), "project.git")
    run_git(tmp_path / "project.git", "worktree", "add", "--quiet", str(tmp_path / "trees/main"))
    return tmp_path / "trees/main"


def separate_folder(tmp_path: Path, source: Path) -> Path:
    run_git(tmp_path, "clone", "--quiet", "--separate-git-dir", str(tmp_path / "elsewhere"), str(source), "mine")
    return tmp_path / "mine"


def submodule(tmp_path: Path, source: Path) -> Path:
    run_git(tmp_path, "init", "--quiet", "thesis")
    run_git(tmp_path / "thesis", "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(source), "part")
    return tmp_path / "thesis/part"


def sparse(tmp_path: Path, source: Path) -> Path:
    """Without any folder, not even DVC's settings; the workspace needs the whole commit."""
    run_git(tmp_path, "clone", "--quiet", "--no-checkout", str(source), "mine")
    run_git(tmp_path / "mine", "sparse-checkout", "set", "--cone", "profiles")
    run_git(tmp_path / "mine", "checkout", "--quiet")
    return tmp_path / "mine"


@pytest.mark.parametrize("form", [beside_bare, separate_folder, submodule, sparse])
def test_a_workspace_of_any_form_of_checkout_lies_in_it(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Callable[[Path, Path], Path]
) -> None:
    here = form(tmp_path, checkout)
    monkeypatch.chdir(here)
    workspace = make_workspace("one", profile="quick")
    assert workspace == here / ".workspaces/one"
    assert load_params(make_workspace("one") / "params.yaml").profile is None
    assert main_checkout(here) == main_checkout(workspace) == here
    assert f"dir = {here / '.dvc/cache'}\n" in (workspace / ".dvc/config.local").read_text()
    monkeypatch.chdir(workspace)
    assert make_workspace("two") == here / ".workspaces/two"


def test_a_clone_below_a_folder_of_that_name_is_one_by_itself(checkout: Path, tmp_path: Path) -> None:
    run_git(tmp_path, "clone", "--quiet", str(checkout), str(tmp_path / ".workspaces/clone"))
    assert main_checkout(tmp_path / ".workspaces/clone") == tmp_path / ".workspaces/clone"


def test_an_unpacked_archive_is_one_line_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with refuses(tmp_path, "git clone", "unpacked archive"):
        make_workspace("one")


def test_a_path_that_dvcs_settings_cannot_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mi\nne").mkdir()
    run_git(tmp_path / "mi\nne", "init", "--quiet")
    monkeypatch.chdir(tmp_path / "mi\nne")
    with refuses(tmp_path / "mi\nne", "line break"):
        make_workspace("one")


def test_a_repository_without_a_commit_is_said_to_be_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_git(tmp_path, "init", "--quiet")
    monkeypatch.chdir(tmp_path)
    with refuses(tmp_path, "commits"):
        make_workspace("one")


def test_the_flows_say_so_too(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "flows", tmp_path / "flows")
    command = [sys.executable, "-m", "flows.train_bp_lcz"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path}/flows: ")
    assert done.stderr.count("\n") == 1


def test_a_checkout_of_another_user_is_told_with_the_remedy(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with refuses(checkout, f"`git config --global --add safe.directory {checkout}`"):
        main_checkout(checkout)
