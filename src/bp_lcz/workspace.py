"""Workspaces: git worktrees under ``.workspaces`` in which anything but the committed parameters is run.

A workspace has its own ``params.yaml``, ``dvc.lock`` and outputs, and shares the DVC cache of the main
checkout: the main tree stays clean, and what was computed once is restored everywhere. Its ``params.yaml`` is
written anew whenever the workspace is renewed:

    committed params.yaml  <-  profiles/<profile>.yaml  <-  dataset.root from --dataset, train.start from --start

A profile is merged key by key: mappings merge, everything else (numbers, text, lists, null) replaces the
value below it. The one exception is ``trials``: a profile that has it names all trials, and the committed ones
are gone. In its place a profile may have a ``matrix`` (``bp_lcz.matrix``), which is written out here.
``profile`` is set to the profile's name, so that the report can say how it was made. The file that a profile names as
``rule`` must be committed and becomes its SHA-256; a workspace that was begun with another rule is not renewed.

A start becomes name and hash in ``train.start``; its files lie in the workspace from then on. Where no profile names
trials, the committed ones take the start's backbone with its options.
"""

import errno
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from configparser import ConfigParser
from contextlib import ExitStack
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from bp_lcz.dvc_internals import cache_folder
from bp_lcz.errors import UserError
from bp_lcz.files import locked, staged_file, staged_folder
from bp_lcz.matrix import Matrix
from bp_lcz.params import PARAMS_FILE, SPLITS, Params, Start, load_params
from bp_lcz.paths import STARTS, start_folder
from bp_lcz.records import Checkpoint
from bp_lcz.sections import parse_section, read_sections

WORKSPACES = Path(".workspaces")
PROFILES = Path("profiles")
LOCK_FILE = Path("dvc.lock")
FLOW_LOCK = Path(".dvc/tmp/flow.lock")
"""Lock that a flow run holds while it works in a checkout or workspace."""

_RULE = re.compile(r"^rule: ([0-9a-f]{64})$", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Brought(NamedTuple):
    """A checkpoint with which training begins.

    Attributes:
        start: its name and digest.
        folder: folder with its two files.
        check: raises UserError if trials of some parameters cannot begin with it; returns cautions as lines.
    """

    start: Start
    folder: Path
    check: Callable[[Params], list[str]]


def make_workspace(
    name: str, profile: str | None = None, dataset: Path | None = None, start: Brought | None = None
) -> Path:
    """Make a workspace at the commit that the main checkout is on, or renew an existing one.

    Renewing moves the workspace to that commit and writes its ``params.yaml`` again, without a profile or data set that
    is no longer asked for. Its ``dvc.lock`` and outputs stay, so only what changed runs again. The function waits for
    other processes that make or renew that workspace, and for a flow run in it.

    Args:
        name: folder under ``.workspaces``: a letter or digit, then letters, digits, ``.``, ``_`` and ``-``.
        profile: name of a file in the main checkout's ``profiles``, committed or not.
        dataset: folder with So2Sat files, relative to the current folder; becomes ``dataset.root``.
        start: checkpoint that the trials begin with; becomes ``train.start``.

    Returns:
        Absolute path of the workspace.

    Raises:
        UserError: if the name is not a folder name, the profile is unknown or does not fit, the folder lacks a file,
            trials cannot begin with the start, this is not a git repository, the workspace holds edits that renewing
            would lose, or its study began with another rule.
    """
    if not _NAME.fullmatch(name):
        raise UserError(
            f"workspace '{name}'",
            "a name begins with a letter or digit and is made of at most 100 letters, digits, '.', '_' and '-'",
        )
    main = main_checkout(Path.cwd())
    if "\n" in str(main):
        raise UserError(main, "has a line break in its path, which DVC's settings cannot hold; move the checkout")
    commit = git(main, "log", "-1", "--no-show-signature", "--format=%H")
    folder = main / WORKSPACES / name
    text = _merged_params(main, commit, profile, dataset, start)
    changed = _changed(main, f":!{LOCK_FILE}", f":!{PROFILES}")
    if changed:
        print(
            f"note: uncommitted changes of {_some(changed)} are not part of workspace {name} "
            f"(it is at commit {commit[:10]})",
            file=sys.stderr,
        )
    say = partial(print, file=sys.stderr)
    with ExitStack() as locks:
        file = main / f".dvc/tmp/workspace-{name}.lock"
        locks.enter_context(locked(file, f"workspace {name} is being made or renewed", tell=say))
        is_new = not folder.exists()
        if not is_new:
            _check_renewable(main, folder)
            _check_rule(folder / PARAMS_FILE, text)
            locks.enter_context(locked(folder / FLOW_LOCK, f"another run is at work in {folder}", tell=say))
            _check_renewable(main, folder)  # again, since files may have been edited meanwhile
        try:
            if is_new:
                git(main, "worktree", "prune")  # forget worktrees whose folders were removed by hand
                git(main, "worktree", "add", "--quiet", "--detach", str(folder), commit)
                if git(folder, "config", "--type=bool", "--default=false", "core.sparseCheckout") == "true":
                    git(folder, "sparse-checkout", "disable")  # the stages need the whole commit
            else:
                _move_to(folder, commit)
            share_dvc_settings(main, folder)
            if start is not None:
                with staged_folder(start_folder(folder / STARTS, start.start.sha256)) as copy:
                    shutil.copytree(start.folder, copy, dirs_exist_ok=True)
            with staged_file(folder / PARAMS_FILE) as file:
                file.write_text(text, encoding="utf-8")
        except BaseException:
            if is_new:
                shutil.rmtree(folder, ignore_errors=True)
                git(main, "worktree", "prune")
            raise
    return folder


def main_checkout(folder: Path) -> Path:
    """The checkout to which a folder belongs; for a folder in a workspace, the one that has the workspace.

    It is found by its root and not by git's folder, which is elsewhere in a submodule or beside a bare repository.

    Raises:
        UserError: if the folder is not in a git repository, or git is missing.
    """
    root = Path(git(folder, "rev-parse", "--show-toplevel"))
    is_workspace = root.parent.name == str(WORKSPACES) and (root / ".git").is_file()
    return root.parent.parent if is_workspace else root


def git(folder: Path, *arguments: str) -> str:
    """Output of a git command in a folder, without the last line end.

    Raises:
        UserError: with git's own last line, if the command fails.
    """
    # Inside a git hook these variables would point every command at the hook's repository.
    environment = {key: value for key, value in os.environ.items() if key not in _HOOK_VARIABLES}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            check=True,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",  # file names and contents are any bytes
            env=environment,
        )
    except FileNotFoundError:
        raise UserError("git", "command not found; BP-LCZ runs inside a git checkout") from None
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"git {arguments[0]}: exit status {error.returncode}"]
        if os.strerror(errno.ENOSPC) in error.stderr:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from None
        if "dubious ownership" in lines[0]:
            raise UserError(folder, f"belongs to another user; if you trust it, `{lines[-1].strip()}`") from None
        advice = (
            "; run this in a git clone of BP-LCZ, not in an unpacked archive" if "not a git rep" in lines[-1] else ""
        )
        causes = [f" ({line[7:]})" for line in lines[:-1] if line.startswith("error: ")][:1]
        raise UserError(folder, "".join([lines[-1].removeprefix("fatal: "), *causes, advice])) from None
    return done.stdout.rstrip("\n")


_HOOK_VARIABLES = frozenset(
    {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX"}
)


def _merged_params(main: Path, commit: str, profile: str | None, dataset: Path | None, start: Brought | None) -> str:
    """Text of the workspace's ``params.yaml``, checked."""
    sources = [f"{PARAMS_FILE} of the commit"]
    committed = git(main, "show", f"{commit}:{PARAMS_FILE}")
    params = read_sections(committed.encode("utf-8", "surrogateescape"), sources[0])
    committed_trials = params.get("trials")
    if profile is not None:
        params = merge_profile(main, params, profile)
        sources.append(f"{PROFILES}/{profile}.yaml")
        if params.get("rule"):
            params["rule"] = _hash_of_rule(main, commit, str(params["rule"]), sources[-1])
    if dataset is not None:
        params = _merge(params, {"dataset": {"root": str(_dataset_folder(dataset))}})
        sources.append("the folder given as --dataset")
    if start is not None:
        params = _begun(params, start, has_own_trials=params["trials"] != committed_trials)
        sources.append("the model given as --start")
    header = f"# Written by `bp-lcz workspace` from {', '.join(sources)}; renewed with the workspace.\n"
    text = header + yaml.safe_dump(params, sort_keys=False, allow_unicode=True, width=110)
    with tempfile.TemporaryDirectory() as scratch:
        merged = Path(scratch) / PARAMS_FILE
        merged.write_text(text, encoding="utf-8")
        try:
            checked = load_params(merged)
        except UserError as error:
            raise UserError(" + ".join(sources), error.what) from None
    for line in start.check(checked) if start else ():
        print(f"note: {line}", file=sys.stderr)
    return text


def _begun(params: dict[str, Any], brought: Brought, *, has_own_trials: bool) -> dict[str, Any]:
    form = Checkpoint.read(brought.folder / "model.json")
    params = _merge(params, {"train": {"start": brought.start.model_dump()}})
    if not has_own_trials:
        variants = {trial["variant"]: trial for trial in params["trials"].values()}
        params["trials"] = {
            f"{form.backbone}-{variant}": trial | {"backbone": form.backbone} for variant, trial in variants.items()
        }
        params["backbones"] = params["backbones"] | {form.backbone: form.backbone_options}
    return params


def merge_profile(main: Path, params: dict[str, Any], profile: str) -> dict[str, Any]:
    """Merge a checkout's profile into the sections of ``params.yaml``, and expand its matrix; unchecked.

    Raises:
        UserError: if the profile is unknown or its matrix is not valid.
    """
    overrides = _read_profile(main, profile)
    below = params | ({"trials": {}} if "trials" in overrides else {})
    return _merge(below, {**overrides, "profile": profile})


def _hash_of_rule(main: Path, commit: str, file: str, profile: str) -> str:
    try:
        return sha256(git(main, "show", f"{commit}:{file}").encode("utf-8", "surrogateescape")).hexdigest()
    except UserError:
        raise UserError(profile, f"rule: {file} is not committed; a rule stands before its results") from None


def _check_rule(params: Path, renewed: str) -> None:
    """Refuse to decide a study by another rule than the one with which it began."""
    kept = params.read_text(encoding="utf-8", errors="replace") if params.exists() else ""
    begun, now = _RULE.search(kept), _RULE.search(renewed)
    if begun and (now is None or now[1] != begun[1]):
        raise UserError(
            params,
            f"the study here was begun with another rule (sha256 {begun[1][:16]}); "
            "finish it at its commit, or give the new one a workspace of another name",
        )


def _read_profile(main: Path, profile: str) -> dict[str, Any]:
    file = PROFILES / f"{profile}.yaml"
    known = sorted(path.stem for path in (main / PROFILES).glob("*.yaml"))
    if profile not in known:
        raise UserError(file, f"no such profile; known: {', '.join(known) or 'none'}")
    sections = read_sections((main / file).read_bytes(), str(file))
    if "matrix" in sections:
        if "trials" in sections:
            raise UserError(file, "has trials beside its matrix; single ones are rows of the matrix")
        trials = parse_section(Matrix, sections.pop("matrix"), "matrix", str(file)).trials()
        sections["trials"] = dict(trials)
        if len(sections["trials"]) < len(trials):
            twice = next(name for name, count in Counter(name for name, _ in trials).items() if count > 1)
            raise UserError(file, f"matrix: names trial {twice} twice")
    return sections


def _dataset_folder(dataset: Path) -> Path:
    # Not resolve(): the name of a linked folder is the name of the data set.
    folder = Path(os.path.abspath(dataset))  # noqa: PTH100
    if not folder.is_dir():
        raise UserError(dataset, "no such folder")
    for split in SPLITS:
        if not (folder / f"{split}.h5").is_file():
            raise UserError(
                dataset, f"has no {split}.h5; a data set is a folder with {', '.join(f'{each}.h5' for each in SPLITS)}"
            )
    return folder


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _check_renewable(main: Path, folder: Path) -> None:
    listed = git(main, "worktree", "list", "--porcelain").splitlines()
    if f"worktree {folder}" not in listed:
        raise UserError(folder, "exists but is not a workspace of this checkout; move it away")
    edited = _changed(folder, f":!{PARAMS_FILE}", f":!{LOCK_FILE}")
    if edited:
        raise UserError(
            folder,
            f"{_some(edited)} edited in the workspace; renewing would lose that, "
            "so commit it in the main checkout or discard it",
        )


def _move_to(folder: Path, commit: str) -> None:
    """Move an existing workspace to a commit and keep its ``dvc.lock``, even if this is interrupted."""
    current, kept = folder / LOCK_FILE, folder / ".dvc/tmp/dvc.lock.kept"
    if current.exists() and not kept.exists():
        with staged_file(kept) as file:
            shutil.copyfile(current, file)
    git(folder, "reset", "--quiet", "--hard", commit)
    if kept.exists():
        kept.replace(current)


def share_dvc_settings(main: Path, folder: Path) -> None:
    """Give a folder the main checkout's own DVC settings, such as a remote, and its cache."""
    settings = ConfigParser(interpolation=None)
    settings.read(main / ".dvc/config.local", encoding="utf-8")
    cache = cache_folder(main)
    # DVC reads text after "#" as a comment, and text with "," as a list.
    quote = ("'" if '"' in cache else '"') if set("#,\"'") & set(cache) else ""
    settings.read_dict({"cache": {"dir": f"{quote}{cache}{quote}"}})
    with (folder / ".dvc/config.local").open("w", encoding="utf-8") as file:
        settings.write(file)


def _changed(folder: Path, *left_out: str) -> list[str]:
    """Tracked files with uncommitted changes, without .gitignore files, to which DVC adds lines by itself."""
    patterns = (".", ":!.gitignore", ":!**/.gitignore", *left_out)
    return git(folder, "diff", "--name-only", "HEAD", "--", *patterns).splitlines()


def _some(files: list[str]) -> str:
    shown = ", ".join(files[:3])
    return shown if len(files) <= 3 else f"{shown} and {len(files) - 3} more"
