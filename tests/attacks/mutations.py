"""Messages with something changed in them: one value of their JSON, its shape, or a few bytes."""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from random import Random
from typing import Any

from client.errors import RefusedError
from mama.errors import MamaError
from tests.attacks.campaign import cases

COUNT = cases(10_000)
EVIL = "EVIL\x1b[2J\r\n"
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 3, 2**31, 2**63, 2**64, 10**400, 0.5, -0.0, 1e308, 1e-320),
    *(float("nan"), float("inf"), "", "0", "yes", "null", EVIL, "\ud800", "\0", "x" * 5000),
    *("../../etc/passwd", "/dev/zero", "0" * 64, "ab" * 48, "alder", "train", "ok"),
    *([], {}, [[]], [None], {EVIL: EVIL}, {"sha256": 1}, [1] * 300),
)
PIECES = (b"\0", b"\xff", b"\xed\xa0\x80", b'"', b"{", b"}", b"[" * 3000, b"1e999", b"9" * 5000)


def changed_texts(text: str, count: int, seed: int) -> Iterator[str]:
    """Changed copies of a JSON text, the same for each seed."""
    draw = Random(seed)
    for _ in range(count):
        if draw.random() < 0.25:
            yield changed_bytes(text.encode(errors="surrogatepass"), draw).decode(
                errors="surrogateescape"
            )
        else:
            yield _changed_json(text, draw)


def changed_bytes(data: bytes, draw: Random) -> bytes:
    """A copy with bytes flipped, cut out, put in or repeated."""
    for _ in range(draw.choice((1, 1, 2, 5))):
        place = draw.randrange(len(data) + 1)
        end = min(len(data), place + draw.choice((1, 2, 8, 64, len(data))))
        match draw.randrange(4):
            case 0 if place < len(data):
                data = (
                    data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :]
                )
            case 1:
                data = data[:place] + data[end:]
            case 2:
                data = data[:place] + draw.choice(PIECES) + data[place:]
            case _:
                data = data[:end] + data[place:]
    return data


def _changed_json(text: str, draw: Random) -> str:
    whole = [json.loads(text)]
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        _change(whole, draw)
    return json.dumps(whole[0])


def _change(whole: list[Any], draw: Random) -> None:
    """Change one place anywhere in the tree; `whole` holds its root."""
    place: Any = whole
    key: Any = 0
    while isinstance(place[key], dict | list) and place[key] and draw.random() < 0.8:
        place = place[key]
        key = draw.choice(list(place)) if isinstance(place, dict) else draw.randrange(len(place))
    match draw.randrange(8):
        case 0 if place is not whole:
            del place[key]
        case 1 if isinstance(place[key], dict):
            place[key][draw.choice((EVIL, "site", "sha256", "alder"))] = deepcopy(
                draw.choice(VALUES)
            )
        case 2 if isinstance(place[key], list):
            place[key] *= draw.choice((2, 50))
        case 3 if isinstance(place[key], str) and place[key]:
            place[key] = changed_bytes(place[key].encode(errors="surrogatepass"), draw).decode(
                errors="replace"
            )
        case 4 if isinstance(place[key], int | float):
            place[key] *= draw.choice((-1, 2, 10**9))
        case 5:
            place[key] = [place[key]]
        case _:
            place[key] = deepcopy(draw.choice(VALUES))


def survived(read: Callable[[Any], object], texts: Iterator[Any]) -> tuple[int, int]:
    """Return the counts of accepted and refused texts; fail on any but a one-line error."""
    taken = refused = 0
    for text in texts:
        try:
            read(text)
            taken += 1
        except (MamaError, RefusedError) as error:
            refused += 1
            said = str(error)
            assert "EVIL" not in said
            assert said.isprintable()
            assert len(said) < 400
    assert refused > taken
    return taken, refused
