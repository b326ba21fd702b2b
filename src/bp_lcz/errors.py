"""The one exception that means "the input is wrong", as opposed to "the program is wrong"."""


class UserError(Exception):
    """Something that the user can mend; its text is one line that names the file and the cause.

    The command line prints it as ``error: <text>`` and exits with status 1, without a traceback.
    """
