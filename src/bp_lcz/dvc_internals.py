"""All uses of DVC beyond its documented API and commands, in one place.

`pyproject.toml` bounds DVC's version for this file. As a program, it runs one action of DVC in a process of its own,
and reports errors by type where `dvc` reports them only as text:

    python -m bp_lcz.dvc_internals repro train@eb_cnn-plain
"""

import json
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from bp_lcz.errors import FAULT_STATUS, BusyError, Ending, TemporaryError, UserError, is_disk_full, one_line

UP_TO_DATE, RESTORED, RAN = "up to date", "restored from the cache", "ran"


def stage_graph(workspace: Path, target: str) -> tuple[dict[str, set[str]], set[str]]:
    """The stages that a target needs, and which of them are up to date.

    Returns:
        Each stage with its direct predecessors, in an order in which they can run; and the stages that need not run,
        of which there are none while another DVC process holds the lock.

    Raises:
        UserError: if dvc.yaml cannot be read or has no such stage.
    """
    import networkx
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo, lock_repo

    try:
        with Repo(str(workspace)) as repo:
            graph = repo.index.graph
            last = next((stage for stage in graph if getattr(stage, "name", None) == target), None)
            if last is None:
                raise UserError(workspace / "dvc.yaml", f"no stage {target}")
            needed = graph.subgraph([last, *networkx.descendants(graph, last)])
            # Stages without a command are files that DVC tracks.
            order = [s for s in networkx.lexicographical_topological_sort(needed.reverse(), _rank(graph)) if s.cmd]
            before = {stage.name: {each.name for each in needed[stage] if each.cmd} for stage in order}
            current = set[str]()
            with suppress(LockError), lock_repo(repo):
                for stage in order:
                    if before[stage.name] <= current and not stage.status():
                        current.add(stage.name)
    except DvcException as error:
        raise UserError(workspace, one_line(error)) from None
    return before, current


def _rank(stages: Iterable[Any]) -> Callable[[Any], tuple[int, int]]:
    """Sort key: the order of dvc.yaml, but with all stages of a trial together, so that results come trial by trial."""
    place = {stage: number for number, stage in enumerate(stages)}
    first = dict[str, int]()
    for stage, number in place.items():
        first.setdefault(_trial(stage), number)
    return lambda stage: (first[_trial(stage)], place[stage])


def _trial(stage: Any) -> str:
    name = str(stage.addressing)
    return name.partition("@")[2] or name


def mend(workspace: Path) -> Iterator[str]:
    """Remove half-written files, which DVC leaves if it is killed or the disk is full.

    No work is lost with ``dvc.lock``: DVC's run cache restores outputs without running the stages.

    Returns:
        A line for each file.
    """
    from dvc.rwlock import SCHEMA as RWLOCK
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA as LOCKFILE

    locks, record = workspace / ".dvc/tmp/rwlock", workspace / "dvc.lock"
    if not _is_whole(locks, json.loads, RWLOCK):
        time.sleep(0.5)  # a living DVC may be writing it just now
        if not _is_whole(locks, json.loads, RWLOCK):
            locks.unlink()
            yield f"{locks}: was half-written; removed"
    if not _is_whole(record, yaml.safe_load, LOCKFILE):
        record.replace(workspace / ".dvc/tmp/dvc.lock.damaged")
        yield f"{record}: was half-written; moved to .dvc/tmp, and stages are restored from DVC's run cache"


def have_md5(workspace: Path, md5s: Mapping[Path, str]) -> bool:
    """Whether files have these md5. Files that DVC hashed before and that did not change are not read again."""
    from dvc.repo import Repo
    from dvc_data.hashfile.hash import hash_file
    from dvc_objects.fs.local import LocalFileSystem

    local = LocalFileSystem()
    with Repo(str(workspace)) as repo:
        return all(hash_file(str(file), local, "md5", repo.state)[1].value == md5 for file, md5 in md5s.items())


def remember_md5(checkout: Path, md5s: Mapping[Path, str]) -> None:
    """Tell DVC known md5 of files, so that it does not hash them."""
    from dvc.repo import Repo
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_objects.fs.local import LocalFileSystem

    with Repo(str(checkout)) as repo:
        for file, md5 in md5s.items():
            repo.state.save(str(file), LocalFileSystem(), HashInfo("md5", md5))


def cache_folder(checkout: Path) -> str:
    """Folder of a checkout's DVC cache."""
    from dvc.config import Config

    configured = Config(str(checkout / ".dvc"), validate=False).get("cache", {}).get("dir")
    return str(configured) if configured else str(checkout / ".dvc/cache")


def _is_whole(file: Path, parse: Callable[[str], Any], schema: Callable[[Any], Any]) -> bool:
    from voluptuous import Invalid

    try:
        schema(parse(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return True
    except (ValueError, yaml.YAMLError, Invalid):
        return False
    return True


def _act(action: str, targets: list[str]) -> str:
    """Run one action of DVC on the repository of the current folder.

    Returns:
        Outcome of a stage; an empty text for other actions.

    Raises:
        UserError, BusyError, TemporaryError: by the cause, unless the stage's own command failed.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo
    from dvc.ui import ui
    from dvc.utils.serialize import _yaml

    # DVC reads dvc.lock in a way that keeps comments, of which it has none. With a hundred trials, that takes half
    # of the time that DVC adds to a stage.
    _yaml.parse_yaml_for_update = _yaml.parse_yaml
    ui.enable()
    try:
        with Repo() as repo:
            if action != "repro":
                getattr(repo, action)(targets, run_cache=True)
                return ""
            is_changed = repo.reproduce(targets[-1], single_item=True, pull="--pull" in targets)
    except (DvcException, OSError) as error:
        chain = list(_chain(error))
        for each in chain:
            if isinstance(each, LockError):
                raise BusyError(Path.cwd(), f"another DVC process is at work: {one_line(each)}") from None
        stage = Ending.read()
        if stage is not None and stage.status is None:
            advice = "killed from outside, e.g. for lack of memory; run again, training goes on from its last epoch"
            raise TemporaryError(stage.stage, advice) from None
        if is_disk_full(error):
            raise UserError(Path.cwd(), "no space left on the disk; free some and run again") from None
        if not isinstance(error, DvcException):
            raise
        raise UserError(f"dvc {action}", one_line(chain[-1])) from None
    if not is_changed:
        return UP_TO_DATE
    return RESTORED if Ending.read() is None else RAN


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def main() -> None:
    """Run the action of the command line and write its ending, unless the stage's own command has written an error."""
    action, *targets = sys.argv[1:]
    try:
        Ending.write(0, _act(action, targets))
    except UserError as error:
        own = Ending.read()
        status = own.status if own else None
        if status:
            sys.exit(status)
        print(f"error: {error}", file=sys.stderr)
        Ending.write(error.status, str(error))
        sys.exit(error.status)
    except Exception as error:
        traceback.print_exc()
        Ending.write(FAULT_STATUS, f"{type(error).__name__}: {one_line(error)}")
        sys.exit(FAULT_STATUS)


if __name__ == "__main__":
    main()
