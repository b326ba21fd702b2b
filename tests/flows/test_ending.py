"""A command of the flows ends with one line where the user or the system is at fault, and raises what is its own."""

import errno
import os
import signal
import sys
from pathlib import Path

import pytest

from bp_lcz.errors import BusyError
from flows import here, servers
from flows.ending import one_line
from flows.here import keep_interrupts


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


@pytest.mark.parametrize("is_of_a_command", [True, False])
def test_a_flow_takes_sigterm_back_from_prefect_only_in_a_command(is_of_a_command: bool) -> None:
    """Prefect's handler asks a server that the same signal may have ended; a worker's runs are Prefect's own."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if is_of_a_command:
            signal.signal(signal.SIGINT, here._interrupted)
        keep_interrupts()
        assert (signal.getsignal(signal.SIGTERM) is here._interrupted) == is_of_a_command
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
