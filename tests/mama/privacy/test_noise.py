"""Noise: normal up to its tail, rounded from float64 to a grid, never drawn twice."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats
from torch._subclasses.fake_tensor import FakeTensorMode

from mama.privacy.chacha import keystream
from mama.privacy.entropy import Keystream
from mama.privacy.noise import (
    GRID,
    PAIRS,
    DeviceNormals,
    add_gaussian,
    grid,
    normals_of,
    standard_normals,
    unsigned,
)

ODDS = 1e-7
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


class Forced(Keystream):
    """A stream of the test's own words."""

    def __init__(self, words: np.ndarray):
        self.given = words

    def words(self, count: int) -> np.ndarray:
        assert count == len(self.given)
        return self.given


def seeded(pairs: int, seed: int = 0) -> Forced:
    return Forced(np.random.default_rng(seed).integers(0, 2**64, 3 * pairs, dtype=np.uint64))


def of_radius(*uniforms: float) -> torch.Tensor:
    """The cosine halves of pairs whose first uniform is about this, at angle 0."""
    wide = [int(uniform * 2**128) for uniform in uniforms]
    high = [number >> 64 for number in wide]
    low = [number % 2**64 for number in wide]
    words = np.array([high, low, [0] * len(wide)], np.uint64).ravel()
    return standard_normals(Forced(words), 2 * len(wide))[: len(wide)]


def test_it_is_normal() -> None:
    drawn = standard_normals(seeded(250_000), 500_000).numpy()
    assert stats.kstest(drawn, "norm").pvalue > 1e-3
    assert stats.kstest(np.abs(drawn[:250_000]), np.abs(drawn[250_000:])).pvalue > 1e-3
    assert abs(np.corrcoef(drawn[:250_000] ** 2, drawn[250_000:] ** 2)[0, 1]) < 0.01
    tail = (np.abs(drawn) > 4).sum()
    low, high = stats.binom.ppf([1e-4, 1 - 1e-4], len(drawn), 2 * stats.norm.sf(4))
    assert low <= tail <= high


def test_its_support_ends_where_an_ideal_one_hardly_comes() -> None:
    far = of_radius(0.0, 2.0**-100, math.exp(-32), math.exp(-18))
    assert far[0] == pytest.approx(math.sqrt(2 * 129 * math.log(2)))
    assert far.tolist()[1:] == pytest.approx([math.sqrt(200 * math.log(2)), 8, 6])
    # Between 6 and 6 + 2^-40 sigma there are values: the tail has no steps that could be counted.
    near = of_radius(*(math.exp(-18) * (1 - n * 2.0**-40) for n in range(50)))
    assert len(set(near.tolist())) == 50
    assert (near.diff() > 0).all()
    nearest = standard_normals(Forced(np.full(3, 2**64 - 1, np.uint64)), 2)
    assert nearest.abs().max() == 0


def test_a_released_sum_keeps_no_bit_below_the_grid() -> None:
    for sigma in (1e-3, 0.7, 1.0, 53.0):
        step = grid(sigma)
        assert sigma * GRID / 2 < step <= sigma * GRID
        total = torch.full((5000,), 0.123456789 * sigma)
        add_gaussian(total, sigma)
        assert torch.equal(total.double() / step, (total.double() / step).round())
        assert len(total.unique()) > 1000


@pytest.mark.parametrize("size", [(0,), (1,), (3, 5), (2 * PAIRS + 7,)])
def test_every_value_gets_its_own_noise(size: tuple[int, ...]) -> None:
    total = torch.full(size, 3.0)
    add_gaussian(total, 1e4)
    assert total.shape == size
    assert not (total == 3.0).any()
    assert len(total.unique()) >= 0.05 * total.numel()


@pytest.mark.parametrize("device", DEVICES)
def test_its_standard_deviation_is_that_asked_for(device: str) -> None:
    sigma, count = 0.37, 2_000_000
    total = torch.zeros(count, device=device)
    add_gaussian(total, sigma)
    total = total.cpu()
    # Rounding adds step^2 / 12, a millionth at most.
    low, high = stats.chi2.ppf([ODDS, 1 - ODDS], count)
    assert low <= float((total.double() ** 2).sum()) / sigma**2 <= high * (1 + 1e-6)
    assert stats.kstest((total[:200_000].double() / sigma).numpy(), "norm").pvalue > ODDS


@pytest.mark.parametrize("device", DEVICES)
def test_a_devices_own_noise_is_normal_and_never_repeats(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DeviceNormals, "most", 70_001)  # several draws of one key, of odd size
    source = DeviceNormals(torch.device(device))
    drawn = torch.cat([source(n) for n in (70_001, 1, 70_000, 2, 60_000)]).cpu()
    assert drawn.dtype == torch.float64
    assert len(drawn.unique()) == len(drawn)
    assert stats.kstest(drawn.numpy(), "norm").pvalue > ODDS
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.012
    assert not set(drawn.tolist()) & set(DeviceNormals(torch.device(device))(1000).tolist())


@pytest.mark.parametrize("device", DEVICES)
def test_words_in_halves_are_the_same_numbers(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device has 32-bit words; of equal bits it makes the processor's normals.

    On a CPU to the last bit; a GPU's own logarithm and cosine differ by a few roundings.
    """
    wide = np.random.default_rng(3).integers(0, 2**64, 3000, dtype=np.uint64)
    wide[:4] = [0, 1, 2**63, 2**64 - 1]
    halves = np.concatenate([wide >> np.uint64(32), wide & np.uint64(2**32 - 1)])
    words = torch.from_numpy(halves.astype(np.uint32).view(np.int32)).to(device)
    numbers = torch.from_numpy(wide.astype(np.float64))
    assert torch.equal(unsigned(words).cpu(), numbers)
    monkeypatch.setattr("mama.privacy.noise.keystream", lambda *_: words.view(16, -1))
    found = DeviceNormals(torch.device(device))(2000).cpu()
    expected = standard_normals(Forced(wide), 2000)
    assert torch.equal(expected, normals_of(numbers))
    if device == "cpu":
        assert torch.equal(found, expected)
    else:
        radius = expected.view(2, -1).norm(dim=0).repeat(2)
        assert ((found - expected).abs() <= 2.0**-49 * radius).all()


def test_a_devices_noise_has_the_same_distribution_as_the_processors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The whole path of a GPU on the CPU: its parts, its grid, and a different key in each call."""
    monkeypatch.setattr("mama.privacy.noise._Normals", lambda: DeviceNormals(torch.device("cpu")))
    monkeypatch.setattr(DeviceNormals, "most", 30_000)
    sums = [torch.zeros(100_001), torch.zeros(100_001)]
    for total in sums:
        add_gaussian(total, 0.7)
        assert stats.kstest(total.double().numpy() / 0.7, "norm").pvalue > ODDS
        assert torch.equal(total / grid(0.7), (total / grid(0.7)).round())
    assert abs(np.corrcoef(*sums)[0, 1]) < 6 / math.sqrt(100_001)


def test_a_devices_noise_is_made_without_waiting_for_it() -> None:
    """On tensors that have no values, so that nothing can depend on one."""
    with FakeTensorMode(allow_non_fake_inputs=True):  # the key
        assert DeviceNormals(torch.device("cpu"))(11).shape == (11,)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_real_gpu_is_not_waited_for_and_its_memory_is_bounded() -> None:
    total = torch.zeros(4 * DeviceNormals.most + 5, device="cuda")
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    torch.cuda.set_sync_debug_mode("error")
    try:
        add_gaussian(total, 1.0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.cuda.max_memory_allocated() - before < 120 * 2**20
    assert (total != 0).float().mean() > 0.99


def test_a_keys_blocks_do_not_come_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[range] = []

    def noted(key: bytes, first: int, blocks: int, device: torch.device) -> torch.Tensor:
        taken.append(range(first, first + blocks))
        return keystream(key, first, blocks, device)

    monkeypatch.setattr("mama.privacy.noise.keystream", noted)
    source = DeviceNormals(torch.device("cpu"))
    for count in (1, 7, 1000, 3):
        assert len(source(count)) == count
    assert [part.start for part in taken] == [0, *(part.stop for part in taken[:-1])]


def test_no_noise_changes_nothing() -> None:
    total = torch.tensor([1 / 3, -1e-20])
    before = total.clone()
    add_gaussian(total, 0.0)
    assert torch.equal(total, before)


def test_a_tensor_that_is_no_plain_memory_is_refused_and_not_left_without_noise() -> None:
    with pytest.raises(RuntimeError):
        add_gaussian(torch.zeros(4, 4).T, 1.0)


def test_no_two_calls_and_no_two_processes_draw_the_same() -> None:
    code = (
        "import torch; from mama.privacy.noise import add_gaussian\n"
        "torch.manual_seed(0); t = torch.zeros(100); add_gaussian(t, 1e6); print(t.tolist())"
    )
    ends = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert ends[0].stdout != ends[1].stdout
    one, other = Keystream().words(1000), Keystream().words(1000)
    assert not (one == other).any()


def test_a_stream_goes_on() -> None:
    stream = Keystream()
    drawn = np.concatenate([stream.words(7), stream.words(1000), stream.words(1000)])
    assert len(np.unique(drawn)) == len(drawn)
    chances = stream.uniforms(100_000)
    assert chances.min() >= 0
    assert chances.max() < 1
    assert stats.kstest(chances, "uniform").pvalue > ODDS
