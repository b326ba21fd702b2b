"""Errors as types: what the user can mend, what may mend itself, and the exit status of each.

A stage runs in a process of its own; its exit status tells the flow which kind of failure it was. The text is for
people.
"""

import errno

FAULT_STATUS = 70
"""Exit status of a fault of the program (EX_SOFTWARE of sysexits.h)."""


class UserError(Exception):
    """Something that the user can mend, as opposed to a fault of the program.

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
        return f"{self.where}: {self.what}"


class TemporaryError(UserError):
    """Something that may mend itself, such as a server that does not answer (EX_TEMPFAIL)."""

    status = 75


class BusyError(UserError):
    """Another process holds what is needed; waiting for it helps (EX_UNAVAILABLE)."""

    status = 69


def one_line(error: BaseException, most: int = 200) -> str:
    """The text of an exception of a library, which may have several lines, in one of at most so many characters."""
    return " ".join(str(error).split())[:most]


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an exception comes from a disk or quota without space, whatever library has wrapped it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def is_refused_by_system(error: OSError) -> bool:
    """Whether the system does not let this user write or read here, as opposed to a mistake of the program."""
    return error.filename is not None and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO)
