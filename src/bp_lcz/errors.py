"""Types of errors: errors that the user can fix, errors that may pass, and the exit status of each.

A stage runs in a process of its own. Its exit status tells the flow the kind of failure. The text is for people.
"""

import errno
import json
import os
import re
import resource
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any, get_args, get_origin

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

STATUS_FILE = "BP_LCZ_STATUS_FILE"
"""Environment variable with the file in which a stage's command leaves its `Ending` for the flow."""

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_LONGEST = 1500
"""Largest length of a message in characters. The middle of a longer message is left out."""

NO_ARRAY = (ValueError, EOFError, TypeError, RecursionError, TokenError, zipfile.BadZipFile)
"""Raised by NumPy for a file that holds no array: it reads the header as a Python literal, which fails in many ways."""

FAULT_STATUS = 70
"""Exit status of a fault of the program (EX_SOFTWARE of sysexits.h)."""


class UserError(Exception):
    """Something that the user can fix, unlike a fault of the program.

    The command line prints it as one line, ``error: <where>: <what>``, without a traceback.

    Attributes:
        where: the file, folder, option or key at fault.
        what: the cause and, if there is one, the remedy.
        status: exit status of the command.
    """

    status = 1

    def __init__(self, where: object, what: str) -> None:
        super().__init__(where, what)
        self.where, self.what = str(where), what

    def __str__(self) -> str:
        line = _CONTROLS.sub(" ", f"{self.where}: {self.what}")  # names in a file may hold any character, and be long
        return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} … {line[-_LONGEST // 3 :]}"


class UsageError(UserError):
    """Options that contradict each other, or a missing option. Mistakes on the command line have the same status."""

    status = 2


class TemporaryError(UserError):
    """A failure that may pass by itself, such as a server that does not answer (EX_TEMPFAIL)."""

    status = 75


class DeviceError(TemporaryError):
    """The device of a training is missing or lost, so all other work on it would fail, too (EX_OSERR)."""

    status = 71


class BusyError(UserError):
    """Another process holds what is needed; waiting helps (EX_UNAVAILABLE)."""

    status = 69


@dataclass(frozen=True)
class Ending:
    """How a stage's command ended. Its process writes this into a file, since DVC does not report exit statuses.

    Attributes:
        stage: name of the stage in dvc.yaml.
        status: exit status; None if it has not ended, or was killed.
        message: the error in one line.
    """

    stage: str
    status: int | None
    message: str

    @staticmethod
    def write(status: int | None, message: str = "") -> None:
        """Write the ending into the file that the flow asked for, if it did."""
        file, stage = os.environ.get(STATUS_FILE), os.environ.get("DVC_STAGE", "")
        if file and os.environ.get("LOCAL_RANK", "0") == "0":  # of processes that train together, the first writes
            with suppress(OSError):  # a full disk must not hide the error that is reported
                Path(file).write_text(json.dumps({"stage": stage, "status": status, "message": message}), "utf-8")

    @classmethod
    def read(cls, file: str | Path | None = None) -> "Ending | None":
        """The ending in a file, by default in that of this process; None if there is none."""
        try:
            return cls(**json.loads(Path(file or os.environ.get(STATUS_FILE, "")).read_text("utf-8")))
        except (OSError, ValueError):
            return None


def one_line(error: BaseException, most: int = 200) -> str:
    """The text of a library's exception as one line of at most so many characters."""
    return " ".join(str(error).split())[:most]


def first_mistake(error: "ValidationError", section: str = "", model: "type[BaseModel] | None" = None) -> str:
    """The first error of a pydantic model as ``section.key: cause``.

    With the model, an unknown key is followed by the known ones. A mistyped key gives two errors, an unknown and a
    missing key. The unknown key is the more helpful one.
    """
    unknown = ("extra_forbidden", "unexpected_keyword_argument")
    first = min(error.errors(include_url=False), key=lambda one: one["type"] not in unknown)
    parts = (str(part) for part in first["loc"] if part != "[key]")  # pydantic's mark of a refused name
    key = ".".join([section] * bool(section) + list(parts))
    told = {**dict.fromkeys(("model_type", "dict_type"), "expected a mapping"), **dict.fromkeys(unknown, "unknown key")}
    message = told.get(first["type"], first["msg"].removeprefix("Value error, "))
    if first["type"] == "literal_error":
        message = f"{first['input']!r}; expected {first['ctx']['expected']}"
    if first["type"] in ("float_type", "int_type"):
        message += _of_text(first["input"], is_whole=first["type"] == "int_type")
    if model and first["type"] in unknown and (known := _keys_at(model, first["loc"][:-1])):
        message += f"; known: {', '.join(known)}"
    return " ".join(": ".join(filter(None, [key, message])).split())


def _keys_at(model: "type[BaseModel]", place: tuple[int | str, ...]) -> list[str]:
    """The keys of a model, or of the model at this place in it; none where a choice of several models is on the way."""
    annotation: Any = model
    for part in place:
        is_container = get_origin(annotation) in (dict, list, tuple)
        annotation = _model_in(annotation) if is_container else _fields(annotation).get(str(part))
    return list(_fields(annotation))


def _fields(annotation: Any) -> dict[str, Any]:
    found = _model_in(annotation)
    return {field.alias or name: field.annotation for name, field in found.model_fields.items()} if found else {}


def _model_in(annotation: Any) -> Any:
    """The model that an annotation is or holds: that of an optional value, or of the values of a container."""
    if hasattr(annotation, "model_fields"):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


def _of_text(value: object, *, is_whole: bool) -> str:
    """How to write the number that a text means: YAML 1.1 takes ``2e-3`` for a text, and so do quotes in any file."""
    try:
        number = Decimal(value if isinstance(value, str) else "nan")
    except InvalidOperation:
        return ""
    if not number.is_finite() or abs(number.adjusted()) > 30:
        return ""
    power = re.sub(r"^(-?\d)e", r"\1.0e", f"{number:e} or ") if "e" in str(value).lower() and not is_whole else ""
    return f"; '{value}' was read as text, write {power}{number:f}"


def is_disk_full(error: BaseException | None) -> bool:
    """Whether a full disk or quota caused an exception, whatever library wrapped it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def limit_of(error: BaseException | None) -> str | None:
    """The limit of the machine that caused an exception, and its remedy, whatever library wrapped it."""
    if is_disk_full(error):
        return "no space left on the disk; free some and run again"
    while error is not None:
        number = errno.ENOMEM if _is_out_of_memory(error) else getattr(error, "errno", None)
        for limit, remedy in _LIMITS.items():
            if number == limit or os.strerror(limit) in str(error):
                return f"{os.strerror(limit).lower()}; {remedy}"
        error = error.__cause__ or error.__context__
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, SystemError):  # Python raises it if memory is limited and not even an exception can be made
        return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
    return isinstance(error, MemoryError) or any(text in str(error) for text in _NO_MEMORY)


_NO_MEMORY = (
    *("failed to map segment", "can't start new thread", "memory allocation failed"),
    *("could not create a primitive", "CUDA out of memory"),
)
"""Messages of the loader, Python, HDF5, oneDNN and torch."""

_LIMITS = {
    errno.EMFILE: "`ulimit -n` allows more",
    errno.ENFILE: "the machine has no more; run again later",
    errno.EFBIG: "`ulimit -f` allows larger ones",
    errno.ENOMEM: "free memory, or let `ulimit -v` and `ulimit -u` allow more",
}


def lost_device(error: BaseException | None) -> str | None:
    """The message of torch for a GPU that failed or is gone; None for other errors, such as faults of a kernel."""
    while error is not None:
        text = one_line(error)
        if "CUDA" in text and any(sign in text for sign in _LOST):
            return text.partition(" Search for")[0].partition(" CUDA kernel errors")[0]
        error = error.__cause__ or error.__context__
    return None


_LOST = (
    *("unspecified launch failure", "uncorrectable", "no CUDA-capable device", "busy or unavailable", "unknown error"),
    *("launch timed out", "No CUDA GPUs", "shutting down", "not yet initialized", "initialization failed"),
    *("context is destroyed", "hardware stack error", "driver error"),
)
"""Messages of CUDA for a device that cannot be used any more."""


def refusal_of(error: BaseException | None) -> str | None:
    """File and reason if the system does not let this user read or write; None for other errors."""
    if not isinstance(error, OSError) or error.filename is None:
        return None
    if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO):
        return None
    return f"{error.filename}: {(error.strerror or str(error)).lower()}"
