"""A command of the flows ends with one line where the user or the system is at fault, and raises what is its own."""

import errno
import os
import sys
from pathlib import Path

import pytest

from bp_lcz.errors import BusyError
from flows import servers
from flows.ending import one_line


def test_an_error_is_one_line_with_the_status_of_its_type(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, one_line():
        raise BusyError("here", "held")
    assert end.value.code == BusyError.status
    assert capsys.readouterr().err == "error: here: held\n"


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EMFILE, errno.EFBIG])
def test_what_the_system_refuses_is_one_line(number: int) -> None:
    with pytest.raises(SystemExit, match=r"\Aerror: .+\Z"), one_line():
        raise OSError(number, os.strerror(number), "file")


def test_a_fault_stays_one() -> None:
    with pytest.raises(ZeroDivisionError), one_line():
        raise ZeroDivisionError


def test_a_server_that_may_leave_nothing_in_its_checkout_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "main_checkout", lambda _: Path("/sys"))  # where not even root can make a folder
    monkeypatch.setattr(sys, "argv", ["flows.servers", "start", "prefect"])
    with pytest.raises(SystemExit, match=r"\Aerror: /sys/\.servers: .+\Z"):
        servers.main()
