"""Files that differ from a good one as damage, other programs and attackers make them differ."""

import struct

import numpy as np

_NUMBERS = (0, 1, 2**31 - 1, 2**32 - 1, 2**62, 2**64 - 1)
_WORDS = (
    *(b"null", b"true", b"NaN", b"1e999", b"-1", b"0", b"0.0", b"9" * 400, b'""', b"[]", b"{}", b"[[[]]]", b"~"),
    *(b"[" * 20_000, b'{"a":' * 20_000, b"&a [*a]", b"!!python/object:os.system", b"2025-02-30", b"\xff\xfe", b"\0"),
    *(b"\xef\xbb\xbf", b"\t", b"<<: *x", b"1_0", b"0o17", b".inf", b"models", b"../..", b"\\u0000", b"\\ud800"),
)


def mutant(content: bytes, random: np.random.Generator, is_text: bool) -> bytes:
    """The content after one to three changes, words among them where it is text."""
    found = bytearray(content)
    for _ in range(random.integers(1, 4)):
        # Headers decide more than values: half of the changes are among the first kilobytes.
        span = len(found) if random.random() < 0.5 else min(len(found), 4096)
        start = int(random.integers(span + 1))
        length = int(2 ** random.integers(0, 10))
        match random.integers(14 if is_text else 6):
            case 0:
                found[start : start + 1] = bytes([random.integers(256)])
            case 1:
                number = _NUMBERS[random.integers(len(_NUMBERS))]
                found[start : start + 8] = struct.pack("<Q", number)[: (1, 2, 4, 8)[random.integers(4)]]
            case 2:
                del found[start:]
            case 3:
                del found[start : start + length]
            case 4:
                found[start:start] = found[start : start + length]
            case 5:
                found[start : start + length] = random.bytes(length)
            case _:
                end = start
                while end < len(found) and found[end] not in b" \n,:]}":
                    end += 1
                found[start:end] = _WORDS[random.integers(len(_WORDS))]
    return bytes(found)
