"""Names of the registered models of data sets. Models of different data sets never share a name."""

import re
from pathlib import Path

from bp_lcz.dvc_internals import have_md5
from bp_lcz.so2sat import releases
from bp_lcz.so2sat.layout import dataset_name

SO2SAT_V2 = {file.name: (file.size, file.md5) for file in releases.RELEASES[releases.SO2SAT_V2].files}
"""Bytes and published md5 of the files of So2Sat LCZ42 v2, doi 10.14459/2018mp1483140."""


def model_name(workspace: Path, root: str) -> str:
    """``bp-lcz`` for So2Sat LCZ42 v2 itself, recognised by its bytes; ``bp-lcz-<data set>`` for all other data.

    Args:
        workspace: checkout or workspace, to which a relative root refers.
        root: folder of the data set.
    """
    if is_so2sat_v2(workspace, root):
        return "bp-lcz"
    return "bp-lcz-" + re.sub(r"[^A-Za-z0-9._-]+", "-", dataset_name(workspace / root)).strip("-")


def is_so2sat_v2(workspace: Path, root: str) -> bool:
    """Whether a folder holds the three official files.

    One file is not enough: culture_10 of v3 has the same training file as v2.
    """
    files = [(workspace / root / name, size, md5) for name, (size, md5) in SO2SAT_V2.items()]
    if not all(file.is_file() and file.stat().st_size == size for file, size, _ in files):
        return False
    # DVC remembers the md5 of files that `dvc repro` has hashed, so 59 GB are not read again.
    return have_md5(workspace, {file: md5 for file, _, md5 in files})
