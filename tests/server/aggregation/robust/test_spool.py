"""Updates on disk: read in blocks of any width, whole or not counted, then removed."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mama.errors import QuorumError
from mama.exchange.arrays import Arrays
from server.aggregation.robust.spool import Spooled

MakeUpdates = Callable[..., list[Arrays]]
Shapes = dict[str, tuple[int, ...]]


class Mean(Spooled):
    """The simplest rule."""

    def combine(self) -> dict[str, Tensor]:
        return self.over_blocks(lambda block: block.mean(0))


@given(block=st.integers(1, 100), sites=st.integers(1, 6))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_blocks_of_any_width_hold_every_value_once(
    tmp_path: Path, shapes: Shapes, random_updates: MakeUpdates, block: int, sites: int
) -> None:
    rule, updates = Mean(shapes, tmp_path / "s", 1, block), random_updates(sites)
    for number, update in enumerate(updates):
        rule.fold(f"{number}", update, 1.0)
    blocks = list(rule.blocks())
    assert all(part.size <= max(block, sites) for part in blocks)
    flat = [np.concatenate([array.ravel() for array in u.values()]) for u in updates]
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), np.stack(flat))


def test_the_result_has_the_shapes_and_ignores_the_weights(
    tmp_path: Path, shapes: Shapes, random_updates: MakeUpdates
) -> None:
    rule, (one, two) = Mean(shapes, tmp_path / "s", 1, 8), random_updates(2)
    rule.fold("b", two, 3.0)
    rule.fold("a", one, 1.0)
    result = rule.result()
    assert {name: tuple(tensor.shape) for name, tensor in result.items()} == shapes
    for name, tensor in result.items():
        expected = np.mean([one[name], two[name]], axis=0)
        np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-6, atol=1e-7)


def test_arrays_are_written_as_they_are_ordered_and_not_kept(tmp_path: Path) -> None:
    rule = Mean({"t": (3, 2)}, tmp_path / "s", 1)
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    update = {"t": turned.copy(order="F")}
    rule.fold("a", update, 1.0)
    update["t"][:] = 99
    np.testing.assert_array_equal(rule.result()["t"].numpy(), turned)


def test_too_few_updates(tmp_path: Path, shapes: Shapes, random_updates: MakeUpdates) -> None:
    rule = Mean(shapes, tmp_path / "s", 3)
    for update in random_updates(2):
        rule.fold("a", update, 1.0)
    with pytest.raises(QuorumError, match="2 updates, but Mean needs at least 3") as error:
        rule.result()
    assert "\n" not in str(error.value)


def test_an_update_that_cannot_be_written_does_not_count(
    tmp_path: Path, shapes: Shapes, random_updates: MakeUpdates
) -> None:
    rule, (one, two) = Mean(shapes, tmp_path / "s", 1), random_updates(2)
    broken = dict(two, v=two["v"][:4])
    with pytest.raises(ValueError, match="v is"):
        rule.fold("b", broken, 1.0)
    rule.fold("a", one, 1.0)
    for name, tensor in rule.result().items():
        np.testing.assert_array_equal(tensor.numpy(), one[name])


def test_the_folder_is_emptied_at_the_start_and_removed_at_the_end(
    tmp_path: Path, shapes: Shapes, random_updates: MakeUpdates
) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / "000007.f32").write_bytes(b"left by a process that was killed")
    rule = Mean(shapes, folder, 1)
    assert list(folder.iterdir()) == []
    rule.fold("../../evil", random_updates(1)[0], 1.0)
    assert [path.name for path in folder.iterdir()] == ["000000.f32"]
    rule.close()
    assert list(tmp_path.iterdir()) == []


def test_memory_is_blocks_and_not_updates(tmp_path: Path) -> None:
    size, sites, block = 2**18, 16, 2**14
    rule = Mean({"w": (size,)}, tmp_path / "s", 1, block)
    update = {"w": np.ones(size, np.float32)}
    tracemalloc.start()
    for number in range(sites):
        rule.fold(f"{number:02d}", update, 1.0)
    rule.result()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The result, a block in float32 and in float64, and slack; all updates would be 16 MiB.
    assert peak < 4 * size + 16 * 4 * block
