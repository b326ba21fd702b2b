"""The published releases of So2Sat LCZ42: files, checksums, labels and mirrors.

Only this module holds these facts. `data.dvc` repeats three checksums, since DVC cannot import them, and a test
compares them. Facts that were not published or measured are None.

Your own release (a private mirror, another data set) is a `Release` in a JSON file: see docs/data.md.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from bp_lcz.errors import UserError, first_mistake
from bp_lcz.params import SPLITS, Split

SO2SAT_V2 = "so2sat-v2"
"""Name of So2Sat LCZ42 v2, doi 10.14459/2018mp1483140."""
CULTURE_10 = "so2sat-v3-culture-10"
"""Name of the release whose testing split is validation and testing of v2 together."""

FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
MD5 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ReleaseFile(_Facts):
    """One file of a release on disk; a mirror may hold it gzipped.

    Attributes:
        name: file name without a folder.
        size: size in bytes, or None if it is not published.
        size_derived: whether the size was computed from the number of patches and not published.
        md5: published checksum, or None if there is none.
    """

    name: FileName
    size: Annotated[int, Field(gt=0)] | None = None
    size_derived: bool = False
    md5: MD5 | None = None


class Release(_Facts):
    """A published set of files.

    Attributes:
        name: name of the release for `bp-lcz download`.
        title: short description.
        doi: DOI, or the address of the record if there is no DOI.
        folder: folder below `data/` in which `bp-lcz download` puts the files by default.
        files: files in the order of the download.
        mirrors: folders on ftp, http, https or rsync servers, tried in this order.
        class_counts: number of patches of each of the 17 classes by split, or None if they are not known.
    """

    name: FileName
    title: str = ""
    doi: str = ""
    citation: str = ""
    licence: str = ""
    folder: FileName | None = None
    files: Annotated[tuple[ReleaseFile, ...], Field(min_length=1)]
    mirrors: tuple[str, ...] = ()
    class_counts: dict[str, list[int]] | None = None

    @property
    def size(self) -> int | None:
        """Size of all files in bytes, or None if the size of any file is unknown."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)


_CITATION = "Zhu et al. 2020, IEEE GRSM 8(3):76-89, doi 10.1109/MGRS.2020.2964708"
_LICENCE = "CC BY 4.0"

PROTOCOLS: Final[Mapping[str, str]] = {SO2SAT_V2: "v2 testing", CULTURE_10: "culture-10 joined"}
"""Evaluation protocol of each release. Numbers of different protocols are never compared."""

V2_CLASS_COUNTS = {
    "training": [
        *(5068, 24431, 31693, 8651, 16493, 35290, 3269, 39326, 13584, 11954),
        *(42902, 9514, 9165, 41377, 2392, 7898, 49359),
    ],
    "validation": [256, 1254, 2353, 849, 757, 1906, 474, 3395, 1914, 860, 2287, 382, 1202, 2747, 202, 672, 2609],
    "testing": [266, 1262, 2465, 857, 763, 1936, 503, 3496, 2013, 908, 2368, 433, 1166, 2435, 205, 572, 2540],
}
"""Number of patches of each class in So2Sat LCZ42 v2 (Zhu et al. 2020)."""


def _derived(name: str, patches: int, md5: str) -> ReleaseFile:
    """A file whose size is computed from its patches: 18 x 1024 pixels and 17 labels in float64, and a header.

    The formula gives the two published sizes of v2 exactly.
    """
    return ReleaseFile(name=name, size=patches * (18 * 1024 + 17) * 8 + 2048, size_derived=True, md5=md5)


V3_RANDOM_PATCHES: dict[Split, int] = {"training": 320_779, "testing": 79_894}
"""Number of patches of the random split of So2Sat LCZ42 v3."""

_V2_FILES = (
    ReleaseFile(name="training.h5", size=52_006_404_720, md5="702bc6a9368ebff4542d791e53469244"),
    ReleaseFile(name="validation.h5", size=3_559_773_496, md5="71cfa6795de3e22207229d06d6f8775d"),
    _derived("testing.h5", 24_188, "e81426102b488623a723beab52b31a8a"),
)


def _v3(
    variant: str, training: ReleaseFile, testing: ReleaseFile, class_counts: dict[str, list[int]] | None = None
) -> Release:
    name = f"so2sat-v3-{variant.replace('_', '-')}"
    return Release(
        name=name,
        title=f"So2Sat LCZ42 v3, {variant} split",
        doi="https://mediatum.ub.tum.de/1613658",
        citation=_CITATION,
        licence=_LICENCE,
        folder=name,
        files=(training, testing),
        # The server publishes user and password: both are the number of the record.
        mirrors=(
            f"ftp://m1613658:m1613658@dataserv.ub.tum.de/{variant}",
            f"rsync://m1613658:m1613658@dataserv.ub.tum.de/m1613658/{variant}",
        ),
        class_counts=class_counts,
    )


RELEASES: Final[Mapping[str, Release]] = {
    release.name: release
    for release in (
        Release(
            name=SO2SAT_V2,
            title="So2Sat LCZ42 v2, 42 cities for training, 10 others for validation and testing",
            doi="10.14459/2018mp1483140",
            citation=_CITATION,
            licence=_LICENCE,
            folder="so2sat",
            files=_V2_FILES,
            mirrors=(
                "ftp://m1483140:m1483140@dataserv.ub.tum.de",
                "rsync://m1483140:m1483140@dataserv.ub.tum.de/m1483140",
            ),
            class_counts=V2_CLASS_COUNTS,
        ),
        _v3(
            "random",
            _derived("training.h5", V3_RANDOM_PATCHES["training"], "94e2e2e667b406c2adf61e113b42204e"),
            _derived("testing.h5", V3_RANDOM_PATCHES["testing"], "1e15c425585ce816342d1cd779d453d8"),
        ),
        _v3(
            "block",
            ReleaseFile(name="training.h5", md5="a91d6150e8b059dac86105853f377a11"),
            ReleaseFile(name="testing.h5", md5="6414af1ec33ace417e879f9c88066d47"),
        ),
        _v3(
            "culture_10",
            _V2_FILES[0],
            _derived("testing.h5", 48_307, "58335ce34ca3a18424e19da84f2832fc"),
            # Its testing split is validation and testing of v2.
            {
                "training": V2_CLASS_COUNTS["training"],
                "testing": [
                    sum(pair) for pair in zip(V2_CLASS_COUNTS["validation"], V2_CLASS_COUNTS["testing"], strict=True)
                ],
            },
        ),
        Release(
            name="so2sat-v4",
            title="So2Sat LCZ42 v4, the files of v2 with the place of each patch",
            doi="https://mediatum.ub.tum.de/1836598",
            citation=_CITATION,
            licence=_LICENCE,
            folder="so2sat",  # so that data.dvc pins its three files of v2
            files=(
                *_V2_FILES,
                ReleaseFile(name="training_geo.h5"),
                ReleaseFile(name="validation_geo.h5"),
                ReleaseFile(name="testing_geo.h5"),
            ),
            mirrors=("https://huggingface.co/datasets/zhu-xlab/So2Sat-LCZ42/resolve/main/v4",),
            class_counts=V2_CLASS_COUNTS,
        ),
    )
}
"""The published releases by name."""

# With the class numbers of the scheme, which begin with 1: 17 10 9 17 8 13 3 3 12 11 6 6 1 14 14 14 11 7 8 17.
V2_FIRST_TESTING = [16, 9, 8, 16, 7, 12, 2, 2, 11, 10, 5, 5, 0, 13, 13, 13, 10, 6, 7, 16]
"""Classes 0..16 of the first patches of the testing split of v2."""


def release(class_counts: Mapping[str, Sequence[int]], testing: Sequence[int]) -> str | None:
    """The release to which these splits belong, recognised by the labels alone.

    Pixels are not checked, since 59 GB would have to be hashed. `bp_lcz.registry.naming` does that through DVC before a
    model gets the name of the official data. v4 has the labels of v2 and is recognised as v2. Culture-10 tests on
    validation and testing of v2, in this order, so a user of it must have split validation off its training.

    Args:
        class_counts: number of patches of each class in ``training``, ``validation`` and ``testing``.
        testing: class indices 0..16 of testing, in file order.

    Returns:
        ``SO2SAT_V2``, ``CULTURE_10``, or None for anything else.
    """
    training, validation, last = (list(class_counts[split]) for split in SPLITS)
    first = len(V2_FIRST_TESTING)
    if [training, validation, last] == [V2_CLASS_COUNTS[split] for split in SPLITS]:
        return SO2SAT_V2 if list(testing[:first]) == V2_FIRST_TESTING else None
    joined = RELEASES[CULTURE_10].class_counts
    assert joined is not None
    is_cut = all(sum(pair) <= most for *pair, most in zip(training, validation, joined["training"], strict=True))
    starts = 0, sum(V2_CLASS_COUNTS["validation"])
    is_known = last == joined["testing"] and V2_FIRST_TESTING in [list(testing[at : at + first]) for at in starts]
    return CULTURE_10 if is_cut and is_known else None


def is_random_split(patches: Mapping[Split, int]) -> bool:
    """Whether these are the patches of v3's random split, which is known to separate neighbours.

    It has only training and testing, so a user of it must have split validation off one of them. The number of patches
    of the other and the sum of all are unchanged.

    Args:
        patches: number of patches in ``training``, ``validation`` and ``testing``.
    """
    has_one = any(patches[split] == count for split, count in V3_RANDOM_PATCHES.items())
    return has_one and sum(patches.values()) == sum(V3_RANDOM_PATCHES.values())


def known_release(name: str) -> Release:
    """A published release by its name.

    Raises:
        UserError: if there is no release of that name.
    """
    if name not in RELEASES:
        raise UserError(name, f"no such release; known: {', '.join(RELEASES)}")
    return RELEASES[name]


def read_release(file: Path) -> Release:
    """Read a user's own release from a JSON file with the fields of `Release`.

    Raises:
        UserError: if the file is missing or does not describe a release.
    """
    try:
        found = Release.model_validate_json(file.read_bytes())
    except OSError as error:
        raise UserError(file, f"{error.strerror}") from None
    except ValidationError as error:
        raise UserError(file, f"{first_mistake(error)}; `bp-lcz releases --json` shows the form") from None
    names = [entry.name for entry in found.files]
    if len(set(names)) < len(names):
        raise UserError(file, "two files of the same name")
    if found.name in RELEASES:
        raise UserError(file, f"{found.name} is the name of a published release; give it another")
    return found


def releases_of(name: str, size: int, md5: str | None = None) -> list[str]:
    """Published releases that have this file, by its checksum, or by its size if no checksum is given."""
    return [
        release.name
        for release in RELEASES.values()
        for file in release.files
        if file.name == name and (file.size == size if md5 is None else file.md5 == md5)
    ]


def check_not_mixed(folder: Path) -> None:
    """Refuse a folder that holds official files of different releases, by their sizes.

    This reads no file; `bp-lcz download --verify` compares checksums.

    Raises:
        UserError: if releases are mixed. The text names the release of each file.
    """
    found = {}
    for name in ("training.h5", "validation.h5", "testing.h5"):
        file = folder / name
        if file.is_file() and (names := releases_of(name, file.stat().st_size)):
            found[name] = names
    if found and not set.intersection(*(set(names) for names in found.values())):
        said = "; ".join(f"{name} is of {' or '.join(names)}" for name, names in found.items())
        raise UserError(folder, f"files of different releases: {said}; keep one release in a folder")


def releases_table() -> str:
    """All releases as text for people: files, sizes, checksums, licence and mirrors."""
    lines: list[str] = []
    for entry in RELEASES.values():
        total = "size not published" if entry.size is None else gigabytes(entry.size)
        lines += [f"{entry.name}  {entry.title} ({total})"]
        for file in entry.files:
            size = "?" if file.size is None else f"{file.size:,}" + ("*" if file.size_derived else " ")
            lines.append(f"  {file.name:<18} {size:>16}  {file.md5 or 'no md5 published'}")
        if entry.class_counts:
            patches = ", ".join(f"{split} {sum(counts):,}" for split, counts in entry.class_counts.items())
            lines.append(f"  patches  {patches}")
        lines += [f"  record   {entry.doi}", f"  mirrors  {' '.join(map(without_password, entry.mirrors))}", ""]
    lines += [f"{_LICENCE}; cite {_CITATION}", "* derived from the number of patches, not published"]
    return "\n".join(lines)


def releases_json() -> list[dict[str, Any]]:
    """All releases in the form that `read_release` reads."""
    return [entry.model_dump(mode="json") for entry in RELEASES.values()]


def gigabytes(size: int) -> str:
    """A size in decimal units, like sizes of disks.

    Example:
        >>> gigabytes(59_136_135_560)
        '59.1 GB'
    """
    value, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.95 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def without_password(url: str) -> str:
    """An address without its password, for display."""
    return re.sub(r"^([a-z]+://[^/@:]*):[^/@]*@", r"\1@", url)
