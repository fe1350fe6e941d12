"""Changes in texts by lines, and in PNGs by chunks."""

from __future__ import annotations

import re
import zlib
from random import Random

from tests.fuzz.mutation import BIG, INTEGERS, STRINGS, Havoc, edit_list

__all__ = ["mutate_png", "mutate_text"]

_VALUES = (
    *("[" * BIG + "]" * BIG, "{a=" * BIG + "1" + "}" * BIG, "9" * BIG, "1" + "_0" * 40),
    *("[]", "{}", "[[1, 2], [3]]", '""', "''", '"""\n\n"""', '"\\ud800"', '"\\U0010FFFF"', '"\\x"'),
    *("nan", "-inf", "1e999", "+1", "0x" + "f" * 40, "true", "false"),
    *("1979-05-27", "1979-05-27T07:32:00Z", "07:32:00"),
    *("3d021e5b", "00000000", "7f800000", "ffffffff", "80000000", "0"),
    *("#804080", "#80408", "#fffffff"),
    *(f'"{text}"' for text in STRINGS if text.isprintable()),
    *(str(number) for number in INTEGERS),
)
_LINES = (
    *(".".join("a" * BIG) + " = 1", "[" + ".".join("a" * BIG) + "]", "[[x]]"),
    *("[device]", "[dynamic]", "a = {b.c = 1, b.d = 2}", "model", "model = ", "= 1", "\ufeff"),
    *(f"TRT-{name}" for name in ("100300-EntropyCalibration2", "8502-MinMaxCalibration", "9-x")),
    *("image: 3c8a1f04", "a: b: 3c8a1f04", ": 3c8a1f04", "(Unnamed Layer* 0) [x]: 3c8a1f04"),
    *("road #804080", "road", "0,road", "# x"),
)
_VALUE = re.compile(rb"(?<=[=: \[,])\s*([^\s=:,\[\]]+)")


def mutate_text(data: bytes, random: Random, havoc: Havoc) -> bytes:
    """Change lines and values in them; bytes as often."""
    if random.random() < 0.4:
        return havoc(data)
    lines = data.split(b"\n")
    for _ in range(random.choice((1, 1, 2, 4))):
        edit_list(lines, random, lambda: _line(random), lambda line: _changed(line, random, havoc))
    return b"\n".join(lines)


def _line(random: Random) -> bytes:
    return random.choice(_LINES).encode()


def _changed(line: bytes, random: Random, havoc: Havoc) -> bytes:
    values = list(_VALUE.finditer(line))
    if not values or random.random() < 0.2:
        return havoc(line)
    start, end = random.choice(values).span(1)
    value = random.choice((*_VALUES, *STRINGS)).encode("utf-8", "surrogatepass")
    return line[:start] + value + line[end:]


_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def mutate_png(data: bytes, random: Random, havoc: Havoc) -> bytes:
    """Change chunks of a PNG, whose checksums are mended, and bytes of other files."""
    if not data.startswith(_SIGNATURE) or random.random() < 0.1:
        return havoc(data)
    chunks = _chunks(data)
    edit_list(
        chunks,
        random,
        lambda: (random.choice((b"PLTE", b"tRNS", b"acTL", b"fdAT", b"IDAT", b"IEND")), b"\0" * 8),
        lambda chunk: (chunk[0], _changed_chunk(*chunk, random, havoc)),
    )
    return _SIGNATURE + b"".join(
        len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
        for kind, body in chunks
    )


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, at = [], len(_SIGNATURE)
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    return chunks


def _changed_chunk(kind: bytes, body: bytes, random: Random, havoc: Havoc) -> bytes:
    if kind != b"IHDR" or random.random() < 0.3:
        return havoc(body)
    at = random.choice((0, 4))
    side = random.choice((*INTEGERS[:24], 4096, 16384, 32000, 32768)) % (1 << 32)
    return body[:at] + side.to_bytes(4, "big") + body[at + 4 :]
