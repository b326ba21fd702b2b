"""Commands in hostile environments: each is forked from one process that has loaded the libraries.

    python -m tests.hostile FOLDER COMMAND...

FOLDER is copied for each case; a line of JSON comes for each: environment, command, status, standard error, leftovers.
"""

import ctypes
import errno
import importlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import h5py

from bp_lcz import cli, files
from bp_lcz.errors import UserError
from bp_lcz.serving.client import Client

COMMANDS = {
    "score": ["score", "p.npz"],
    "split": ["split", "own", "--out", "new/split", "--by", "city"],
    "tile": ["tile", "--s1", "s1.tif", "--s2", "s2.tif", "--out", "new/tile", "--split", "none", "--s2-offset", "0"],
    "map": ["map", "model", "--s2", "s2.tif", "--s1", "radar.tif", "--s2-offset", "0", "--out", "new/map"],
    "predict": ["predict", "model", "own/testing.h5", "--out", "new/p.parquet"],
    "serve": ["serve", "./model", "--port", "0"],
    "releases": ["releases"],
    "download": ["download", "--release-file", "release.json", "--out", "own"],
    "workspace": ["workspace", "one", "--dataset", "own"],
    "simulate": ["simulate"],
    "validate": ["validate"],
    "pack": ["pack"],
    "prompts": ["prompts"],
    "models": ["models", "none"],
    "rollback": ["rollback", "none"],
}


def _no_home() -> None:
    for name in [name for name in os.environ if name == "HOME" or name.startswith("XDG_")]:
        del os.environ[name]


def _no_locks() -> None:
    def refuse(*_: object, **__: object) -> bool:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    files.lock_descriptor = refuse


def _read_only() -> None:
    for folder in (".", *(str(each) for each in Path().rglob("*") if each.is_dir())):
        Path(folder).chmod(0o555)
    if os.geteuid() == 0:  # root may write everywhere until it gives its capabilities up
        header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert ctypes.CDLL(None).capset(header, none) == 0


def _proxies() -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        os.environ[name] = "http://127.0.0.1:9"
    os.environ |= {"all_proxy": "socks5h://127.0.0.1:9", "NO_PROXY": "::1,[fe80::1]:80", "no_proxy": "::1,[fe80::1]:80"}


def _limit(which: int, most: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(which, (most, most))


def _little_memory() -> None:
    # Some threads of a library fit, so that Python itself does not stand still at the start of one; the work does not.
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + 2**25
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


HARMLESS: dict[str, Callable[[], object]] = {
    "plain": lambda: None,
    "no home": _no_home,
    "home read-only": lambda: os.environ.update(HOME="/proc/1"),
    "proxies": _proxies,
    "umask 077": lambda: os.umask(0o077),
    "no input": lambda: os.close(0),
}
"""In which a command that works elsewhere works, too."""
LIMITS: dict[str, Callable[[], object]] = {
    "no locks": _no_locks,
    "read-only": _read_only,
    "few open files": _limit(resource.RLIMIT_NOFILE, 12),
    "small files": _limit(resource.RLIMIT_FSIZE, 4096),
    "little memory": _little_memory,
    "no folder for temporary files": lambda: (tempfile.__dict__.update(tempdir=None), os.environ.update(TMPDIR="/no")),
}
"""In which it may also end with one line."""
UNSTEADY = ("little memory",)
"""In which what fails first, Python or any of the libraries, is left to chance."""


def run(environment: str, command: str, source: Path) -> tuple[str, str, int, str, list[str]]:
    """One command in a copy of a folder whose name is not ASCII."""
    folder = Path(tempfile.mkdtemp(prefix="dätä %41#"))
    copy = folder / "☃"
    shutil.copytree(source, copy, symlinks=True)
    child = os.fork()
    if not child:
        status = 99
        try:
            os.chdir(copy)
            for number, name in ((0, os.devnull), (1, str(folder / "stdout")), (2, str(folder / "stderr"))):
                os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), number)
            sys.argv = ["bp-lcz", *COMMANDS[command]]
            (HARMLESS | LIMITS)[environment]()
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    answered = command == "serve" and _ask(child, folder / "stdout", source / "own/testing.h5")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if command == "serve" and status == 128 + signal.SIGINT:  # as asked; without an answer it must have said why
        status = int(not answered)
    said = (folder / "stderr").read_text(errors="replace")
    left = sorted(str(path.relative_to(copy)) for path in copy.rglob("*") if ".part" in path.name)
    subprocess.run(["chmod", "-R", "u+w", str(folder)], check=True)
    shutil.rmtree(folder)
    return environment, command, status, said, left


def _ask(server: int, stdout: Path, patches: Path) -> bool:
    """Whether a server that starts gives the classes of a patch; then it is asked to end."""
    address = None
    while address is None and os.waitid(os.P_PID, server, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.02)
        address = re.search(r"http://\S+(?=\n)", stdout.read_text() if stdout.exists() else "")
    if address is None:
        return False
    try:
        with h5py.File(patches) as file:
            return Client(address[0], timeout=10).predict_proba(file["sen1"][:1], file["sen2"][:1]).shape == (1, 17)
    except UserError:
        return False
    finally:
        os.kill(server, signal.SIGINT)


def main() -> None:
    """Load what the commands load, so that each case costs no more than its work."""
    rooms = ("so2sat.download", "scenes.tile", "scenes.split", "maps.map", "scoring.score", "serving.server")
    for module in ("workspace", *rooms):
        importlib.import_module(f"bp_lcz.{module}")
    source, commands, environments = map(json.loads, sys.argv[1:])
    for command in commands:
        for environment in environments:
            print(json.dumps(run(environment, command, Path(source))), flush=True)


if __name__ == "__main__":
    main()
