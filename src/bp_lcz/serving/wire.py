"""Patches and probabilities as the body of a request or an answer: plain arrays, whose size is known beforehand."""

import io
import math

import numpy as np

from bp_lcz.errors import UserError

NPY = "application/x-npy"
"""Content type of `.npy` files one after the other, as `numpy.save` writes them."""

_MOST_HEADER = 1024
"""Bytes of a header that are looked at; NumPy writes 128."""


def encode_arrays(*arrays: np.ndarray) -> bytes:
    """Arrays of numbers as `.npy` files one after the other, in one copy."""
    return b"".join(npy_parts(*arrays))


def npy_parts(*arrays: np.ndarray) -> list[memoryview]:
    """The bytes of `encode_arrays` in parts, without a copy of arrays whose rows lie one after the other."""
    parts = []
    for array in map(np.ascontiguousarray, arrays):
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(array))
        parts += [head.getbuffer(), array.data]
    return parts


def decode_arrays(body: bytes | bytearray, **shapes: tuple[int, ...]) -> list[np.ndarray]:
    """The arrays of a body, as views of it: nothing is allocated, whatever their headers say.

    Args:
        body: `.npy` files one after the other, float32 or float64, rows first, and nothing behind the last.
        shapes: of the arrays in their order, by name and without the first axis, whose length is free.

    Raises:
        UserError: if the body is anything else; `where` is the name of the array at fault.
    """
    arrays, start = [], 0
    for key, expected in shapes.items():
        head = io.BytesIO(body[start : start + _MOST_HEADER])
        try:
            if np.lib.format.read_magic(head) != (1, 0):
                raise ValueError
            shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(head, max_header_size=_MOST_HEADER)
        except Exception:  # NumPy evaluates the header as a Python literal, which fails in many ways
            raise UserError(key, f"no .npy file of format 1.0 at byte {start:,}") from None
        if dtype not in (np.dtype("<f4"), np.dtype("<f8")) or is_fortran:
            order = " in Fortran order" if is_fortran else ""
            raise UserError(key, f"holds {dtype.str}{order}; expected <f4 or <f8, rows first")
        if not shape or shape[0] < 0 or shape[1:] != expected:
            raise UserError(key, f"shape {shape}; expected ({', '.join(map(str, ('N', *expected)))})")
        count, first = math.prod(shape), start + head.tell()
        start = first + count * dtype.itemsize
        if start > len(body):
            raise UserError(key, f"its header promises {start - first:,} bytes; {len(body) - first:,} follow")
        arrays.append(np.frombuffer(body, dtype, count, first).reshape(shape))
    if start < len(body):
        raise UserError(key, f"{len(body) - start:,} bytes follow it that belong to no array")
    return arrays
