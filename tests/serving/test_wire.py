"""Arrays as a body: what was written comes back, and nothing else is an array."""

import io
import tracemalloc

import numpy as np
import pytest

from bp_lcz.errors import UserError
from bp_lcz.serving.wire import decode_arrays, encode_arrays
from tests.refusals import refuses

ONE = np.random.default_rng(1).random((3, 2, 4)).astype(np.float32)
TWO = np.random.default_rng(2).random((3, 5))
FORM = {"one": (2, 4), "two": (5,)}
BODY = encode_arrays(ONE, TWO)


def saved(*arrays: np.ndarray, **options: bool) -> bytes:
    out = io.BytesIO()
    for array in arrays:
        np.save(out, array, **options)
    return out.getvalue()


def with_header(text: str) -> bytes:
    """A file with this header and no values."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def test_arrays_come_back_as_they_were_and_numpy_writes_the_same() -> None:
    assert saved(ONE, TWO) == BODY
    for body in (BODY, bytearray(BODY)):
        one, two = decode_arrays(body, **FORM)
        assert (one.dtype, two.dtype) == (np.float32, np.float64)
        np.testing.assert_array_equal(one, ONE)
        np.testing.assert_array_equal(two, TWO)
    [none] = decode_arrays(encode_arrays(ONE[:0]), one=(2, 4))
    assert none.shape == (0, 2, 4)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "one"),
        (b"PK\x03\x04 a zip file", "one"),
        (BODY[:-1], "two"),
        (BODY + b"\0", "two"),
        (encode_arrays(ONE), "two"),
        (encode_arrays(ONE, TWO, TWO), "two"),
        (encode_arrays(TWO, ONE), "one"),
        (saved(ONE.astype(">f4"), TWO), "one"),
        (saved(ONE.astype(np.float16), TWO), "one"),
        (saved(ONE.astype(int), TWO), "one"),
        (saved(np.asfortranarray(ONE), TWO), "one"),
        (saved(ONE, np.array(["a", {}], object), allow_pickle=True), "two"),
        (saved(np.zeros((3, 2, 4), [("a", "<f4")]), TWO), "one"),
        (BODY.replace(b"(3, 2, 4), }", b"(-3, 2, 4),}"), "one"),
        (BODY.replace(b"(3, 2, 4), }", b"(3, 2, 4, 0)"), "one"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 800 + ", 2, 4)}\n"), "one"),
        (with_header("(" * 900 + "\n"), "one"),
        (with_header("{'descr': __import__('os').abort(), 'fortran_order': False, 'shape': (3, 2, 4)}\n"), "one"),
        (BODY.replace(b"NUMPY\x01", b"NUMPY\x02"), "one"),
    ],
)
def test_what_is_no_array_of_the_form_is_refused(body: bytes, where: str) -> None:
    with refuses(where):
        decode_arrays(body, **FORM)


def test_no_header_does_anything_but_describe_the_array() -> None:
    """Each byte of the header as each of some others."""
    for position in range(128):
        for byte in b"\x00\xff('9-,":
            spoiled = bytearray(BODY)
            spoiled[position] = byte
            try:
                one, _ = decode_arrays(spoiled, **FORM)
            except UserError:
                continue
            assert one.shape[1:] == FORM["one"]


def test_a_header_that_promises_much_takes_no_memory() -> None:
    body = with_header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({10**12}, 5)}}\n") + bytes(1000)
    tracemalloc.start()
    with refuses("two", "40,000,000,000,000", "1,000"):
        decode_arrays(body, two=(5,))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000
