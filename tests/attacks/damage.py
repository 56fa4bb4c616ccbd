"""Damage that a bad day does to a file: cut to half, one bit flipped, gone, or other content."""

from collections.abc import Callable
from pathlib import Path
from random import Random


def half(data: bytes, draw: Random) -> bytes:
    return data[: len(data) // 2]


def bit(data: bytes, draw: Random) -> bytes:
    if not data:
        return b"\x01"
    place = draw.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :]


def gone(data: bytes, draw: Random) -> None:
    return None


def other(data: bytes, draw: Random) -> bytes:
    others = (b"[1, 2]", b"null", b"{}", b"", b"\xff\xfe\n", b"[" * 100_000, b'{"sha256": 1}')
    return draw.choice(others)


DAMAGES = (half, bit, gone, other)
Damage = Callable[[bytes, Random], bytes | None]


def spoil(path: Path, damage: Damage, draw: Random) -> None:
    changed = damage(path.read_bytes(), draw)
    path.unlink() if changed is None else path.write_bytes(changed)
