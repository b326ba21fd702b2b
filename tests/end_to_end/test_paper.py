"""`make paper` in a fresh checkout up to its first results, on a small release of the official form from an FTP server."""

import hashlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
import yaml

from bp_lcz.so2sat.releases import Release, ReleaseFile
from flows.screen import LOG
from tests.end_to_end.test_smoke import Checkout
from tests.integration.test_flow import wait_for
from tests.so2sat.patches import write_dataset
from tests.so2sat.servers import ftp_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PATCHES = {"training": 136, "validation": 68, "testing": 68}
RUN = """
import sys
from flows import paper
from bp_lcz.so2sat.releases import SO2SAT_V2, Release

if __name__ == "__main__":
    paper.RELEASES = {SO2SAT_V2: Release.model_validate_json(open(sys.argv.pop(1)).read())}
    paper.main()
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout whose paper runs for seconds on a CPU, and whose data.dvc pins the small release."""
    folder = tmp_path_factory.mktemp("paper")
    files = write_dataset(folder / "files", patches=PATCHES, cities=dict.fromkeys(PATCHES, 4), source="a test")
    for file in files.glob("*_geo.h5"):
        file.rename(folder / file.name)
    release = Release(
        name="small",
        files=tuple(
            ReleaseFile(
                name=file.name,
                size=file.stat().st_size,
                md5=hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest(),
            )
            for file in sorted(files.iterdir())
        ),
    )
    (folder / "release.json").write_text(release.model_dump_json())
    made = Checkout(folder / "checkout")
    profile = yaml.safe_load((made.folder / "profiles/paper.yaml").read_text())
    profile["train"] |= {"epochs": 2, "batch_size": 16, "threads": 1, "device": "cpu", "precision": "32-true"}
    first = {"rows": ["eb_cnn-bp-lcz", "eb_cnn-plain"], "seeds": [1]}
    profile["matrix"] = {
        "seeds": [1, 2],
        "backbones": {"eb_cnn": "eb_cnn"},
        "variants": ["plain", "bp-lcz"],
        "order": [first],
    }
    (made.folder / "profiles/paper.yaml").write_text(yaml.safe_dump(profile, sort_keys=False))
    pins = {
        "outs": [{"md5": f.md5, "size": f.size, "hash": "md5", "path": f"data/so2sat/{f.name}"} for f in release.files]
    }
    (made.folder / "data.dvc").write_text(yaml.safe_dump(pins))
    (made.folder / "run.py").write_text(RUN)
    git = ["git", "-C", str(made.folder), "-c", "user.name=Test", "-c", "user.email=test@example.org"]
    subprocess.run([*git, "commit", "--quiet", "--all", "--message", "A small release"], check=True)
    return made


@pytest.fixture
def mirror(checkout: Checkout) -> Iterator[str]:
    with ftp_server(checkout.folder.parent / "files", breaks=2) as (address, _):
        yield address


def test_one_command_brings_data_says_hours_and_shows_a_table_after_the_first_trial(
    checkout: Checkout, mirror: str
) -> None:
    shown = checkout.folder.parent / "log"

    def printed() -> str:
        return shown.read_text(errors="replace")

    command = [sys.executable, "-W", "ignore", "run.py", "../release.json", "--mirror", mirror, "--concurrency", "1"]
    with shown.open("wb") as file:
        run = subprocess.Popen(
            command, cwd=checkout.folder, env=checkout.environment, stdout=file, stderr=file, start_new_session=True
        )
    try:
        wait_for(lambda: "so far, testing split" in printed(), run, seconds=900)
    finally:
        os.killpg(run.pid, signal.SIGINT)
        run.wait(60)
    text = printed()
    said = [
        "into data/so2sat",
        "/s measured, so it takes about",
        "no proof",
        "order of results",
        "a table after each",
        "so far, testing split",
    ]
    places = [text.index(words) for words in said]
    assert places == sorted(places)
    assert re.search(r"together \d+\.\d h at most", text)
    assert re.search(r"^.*eb_cnn-bp-lcz +1 +\.\d{3}", text, re.MULTILINE)
    log = (checkout.folder / ".workspaces/paper" / LOG).read_text()
    before = log[: log.index("so far, testing split")]
    assert "eb_cnn-bp-lcz-s1: epoch 2/2" in before
    assert "eb_cnn-plain-s1: epoch" not in before, "a result comes before the next training"
