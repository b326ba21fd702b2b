"""Patches and probabilities as bodies of requests and answers: plain arrays, whose size is known in advance."""

import io
import math
import re

import numpy as np

from bp_lcz.errors import UserError

NPY = "application/x-npy"
"""Content type of concatenated `.npy` files, as `numpy.save` writes them."""

_MOST_HEADER = 1024
"""Most bytes of a header; NumPy writes 128."""
_FIXED = 10
"""Bytes of a header before its description of the array."""
_HEAD = re.compile(
    rb"\x93NUMPY\x01\x00(?P<length>..)\{ *'descr': *'(?P<kind>[<>|=]\w{1,9})',"
    rb" *'fortran_order': *(?P<is_fortran>True|False),"
    rb" *'shape': *\((?P<shape>\d{1,18}(?:, *\d{1,18})*),? *\),? *\} *\n",
    re.DOTALL,
)
"""Description in a header of format 1.0. NumPy itself would evaluate it as a Python literal."""


def encode_arrays(*arrays: np.ndarray) -> bytes:
    """Arrays of numbers as concatenated `.npy` files, with one copy."""
    return b"".join(npy_parts(*arrays))


def npy_parts(*arrays: np.ndarray) -> list[memoryview]:
    """The bytes of `encode_arrays` in parts. Contiguous arrays are not copied."""
    parts = []
    for array in map(np.ascontiguousarray, arrays):
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(array))
        parts += [head.getbuffer(), array.data]
    return parts


def decode_arrays(body: bytes | bytearray | memoryview, **shapes: tuple[int, ...]) -> list[np.ndarray]:
    """The arrays of a body, as views of it. So headers cannot make it allocate memory.

    Args:
        body: concatenated `.npy` files of float32 or float64 in C order, and nothing after the last.
        shapes: shapes of the arrays by name, in their order, without the first axis, which may have any length.

    Raises:
        UserError: if the body is anything else; `where` is the name of the array at fault.
    """
    arrays, start = [], 0
    for key, expected in shapes.items():
        head = _HEAD.match(bytes(body[start : start + _MOST_HEADER]))
        if head is None or head.end() != _FIXED + int.from_bytes(head["length"], "little"):
            raise UserError(key, f"no .npy file of format 1.0 at byte {start:,}")
        kind, is_fortran = head["kind"].decode(), head["is_fortran"] == b"True"
        if kind not in ("<f4", "<f8") or is_fortran:
            order = " in Fortran order" if is_fortran else ""
            raise UserError(key, f"holds {kind}{order}; expected <f4 or <f8, rows first")
        shape = tuple(map(int, head["shape"].replace(b",", b" ").split()))
        if shape[1:] != expected:
            raise UserError(key, f"shape {shape}; expected ({', '.join(map(str, ('N', *expected)))})")
        dtype, count, first = np.dtype(kind), math.prod(shape), start + head.end()
        start = first + count * dtype.itemsize
        if start > len(body):
            raise UserError(key, f"its header promises {start - first:,} bytes; {len(body) - first:,} follow")
        arrays.append(np.frombuffer(body, dtype, count, first).reshape(shape))
    if start < len(body):
        raise UserError(key, f"{len(body) - start:,} bytes follow it that belong to no array")
    return arrays
