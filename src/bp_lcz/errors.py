"""Exceptions that mean "the input or the machine is wrong", as opposed to "the program is wrong"."""

import errno

TEMPORARY_STATUS = 75
"""Exit status of a failure that may be gone in a moment (EX_TEMPFAIL of sysexits.h)."""


class UserError(Exception):
    """Something that the user can mend; its text is one line that names the file and the cause.

    The command line prints it as ``error: <text>`` and exits with status 1, without a traceback.
    """


class TemporaryError(UserError):
    """Something that may mend itself, such as a server that does not answer; the exit status is 75."""


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
