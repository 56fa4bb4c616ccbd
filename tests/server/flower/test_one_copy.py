"""Arrays come together as Flower's own would, in one copy; what is no array is an error."""

import subprocess
import sys

import pytest
from flwr.app import Array
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

from server.flower.one_copy import stay_lean

PIECE = 5 * 2**20

COPIES = """
import sys
from pathlib import Path
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
if sys.argv[1] == "lean":
    from server.flower.one_copy import stay_lean
    stay_lean()

def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(l.split()[1]) for l in lines if key in l)

size = 64 * 2**20
data = np.random.default_rng(0).bytes(size)
record = RecordDict({"payload": ArrayRecord({"tensors": Array("uint8", (size,), "raw", data)})})
contents = {name: one.deflate() for name, one in get_all_nested_objects(record).items()}
name = record.object_id
before = status("VmRSS")  # with the record and one copy of its content
Path("/proc/self/clear_refs").write_text("5")
again = inflate_object_from_contents(name, contents)
assert dict(again["payload"])["tensors"].data == data
print((status("VmHWM") - before) * 1024 / size)
"""


@pytest.fixture(autouse=True)
def lean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Array, "inflate", Array.inflate)  # put back at the end
    stay_lean()


def again(data: bytes) -> Array:
    array = Array("uint8", (len(data),), "raw", data)
    contents = {name: one.deflate() for name, one in get_all_nested_objects(array).items()}
    return inflate_object_from_contents(array.object_id, contents)  # type: ignore[return-value]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"a",
        b"a" * PIECE + b"b" * PIECE + b"a" * PIECE + b"c",  # a piece that comes twice
        bytes(3 * PIECE),
    ],
)
def test_an_array_is_what_it_was(data: bytes) -> None:
    array = again(data)
    assert type(array.data) is bytes
    assert array.data == data
    assert (array.dtype, array.shape, array.stype) == ("uint8", (len(data),), "raw")


@pytest.mark.parametrize(
    "places", [b"[9]", b"[]", b'["a"]', b"[0.5]", b"{}", b"null", b"]", b"\xff"]
)
def test_what_is_no_array_is_a_value_error(places: bytes) -> None:
    array = Array("uint8", (3,), "raw", b"abc")
    contents = {name: one.deflate() for name, one in get_all_nested_objects(array).items()}
    contents[array.object_id] = contents[array.object_id].replace(b"[0]", places)
    with pytest.raises(ValueError):
        inflate_object_from_contents(array.object_id, contents)


def copies(how: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", COPIES, how], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def test_there_is_no_second_copy_in_memory() -> None:
    """Beside the content, which is dropped piece by piece; Flower's own way has two more."""
    assert copies("lean") < 0.4
    assert copies("plain") > 1.5
