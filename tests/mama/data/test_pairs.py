"""Batches: pairing of images, their report sentences, and determinism given the step."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from mama.config import Experiment
from mama.data.manifest import Dataset, Manifest, write_manifest
from mama.data.pairs import Batch, StudyPairs
from mama.data.picture import write_picture
from mama.data.studies import Image, Labels, Laterality, Study
from mama.errors import DataError, EmptyReportsError, NoStudiesError
from tests.reports import sided

BOTH, LEFT, RIGHT = "dense .", "a mass in the left breast .", "the right breast is fatty ."
SIDES: tuple[Laterality | None, ...] = ("L", "L", "R", "R")
STILL = (
    "augment={rotate_degrees: 0, shift: 0, min_scale: 1, max_scale: 1, brightness: 0, contrast: 0}"
)

Make = Callable[..., StudyPairs]


def write(
    folder: Path,
    patients: int = 6,
    sides: Sequence[Laterality | None] = SIDES,
    sentences: Sequence[str] = (BOTH, LEFT, RIGHT),
    split: str = "train",
) -> Dataset:
    """Write patients with two studies each; image k of study s has the flat value 1 + 4s + k."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    studies = []
    for number in range(2 * patients):
        images = []
        for k, side in enumerate(sides):
            image = Image(
                id=f"i{1 + number * 4 + k}",
                laterality=side,
                view=None,
                vendor=None,
                height=32,
                width=32,
            )
            pixels = np.full((32, 32), 1 + number * 4 + k, np.uint8)
            write_picture(folder / "images" / f"{image.id}.npy", pixels)
            images.append(image)
        studies.append(
            Study(
                id=f"s{number}",
                patient=f"p{number // 2}",
                split=split,
                images=tuple(images),
                sentences=sided(sentences),
                labels=Labels(),
            )
        )
    write_manifest(
        folder, Manifest(adapter="test", key_check="", long_side=32, studies=tuple(studies))
    )
    return Dataset(folder)


@pytest.fixture
def make(tmp_path: Path, make_experiment: Callable[..., Experiment]) -> Make:
    """Pairs of views without augmentation, with overrides of the experiment."""

    def build(*overrides: str, stream: str = "site", still: bool = True, **dataset) -> StudyPairs:
        experiment = make_experiment(*([STILL] if still else []), *overrides)
        return StudyPairs(write(tmp_path, **dataset), experiment, stream)

    return build


def numbers(views: torch.Tensor) -> list[int]:
    """The numbers of flat images."""
    assert torch.equal(views.amax((1, 2, 3)), views.amin((1, 2, 3)))
    return [round(float(value + 1) * 127.5) for value in views[:, 0, 0, 0]]


def study_of(number: int) -> int:
    return (number - 1) // 4


def side_of(number: int, sides: Sequence[Laterality | None] = SIDES) -> Laterality | None:
    return sides[(number - 1) % 4]


def seen(pairs: StudyPairs, steps: int = 40) -> list[tuple[int, int, list[str], bool]]:
    """Return first view, second view, report and second_described of all rows of many steps."""
    return [
        row
        for batch in pairs.batches(range(steps))
        for row in zip(
            numbers(batch.first),
            numbers(batch.second),
            batch.reports,
            batch.second_described.tolist(),
            strict=True,
        )
    ]


def same(first: Batch, second: Batch) -> bool:
    return (
        torch.equal(first.first, second.first)
        and torch.equal(first.second, second.second)
        and first.reports == second.reports
        and torch.equal(first.second_described, second.second_described)
    )


# Who meets whom


def test_a_batch_has_the_shapes_it_says(make: Make) -> None:
    batch = make("optimiser.batch_size=3", still=False).batch(5)
    assert len(batch) == len(batch.reports) == 3
    assert batch.first.shape == batch.second.shape == (3, 1, 32, 32)
    assert (batch.first.dtype, batch.second_described.dtype) == (torch.float32, torch.bool)
    assert batch.first.min() >= -1
    assert batch.first.max() <= 1
    part = batch[1:3].to(torch.device("cpu"))
    assert torch.equal(part.first, batch.first[1:3])
    assert torch.equal(part.second, batch.second[1:3])
    assert part.reports == batch.reports[1:3]


def test_the_second_view_is_of_the_same_breast_or_the_same_image(make: Make) -> None:
    rows = seen(make("augment.second_view_probability=0.5"), 120)
    for first, second, _, described in rows:
        assert study_of(first) == study_of(second)
        assert side_of(first) == side_of(second)
        assert described
    other = np.mean([first != second for first, second, _, _ in rows])
    assert 0.35 < other < 0.65
    assert len({first for first, _, _, _ in rows}) == 48  # every image of every study


@pytest.mark.parametrize("kind", ["same_breast", "any_in_study"])
@pytest.mark.parametrize("probability", [0, 1])
def test_second_views_come_as_often_as_configured(make: Make, kind: str, probability: int) -> None:
    rows = seen(
        make(f"augment.second_view_probability={probability}", f"augment.second_view={kind}"), 10
    )
    assert all((first != second) == bool(probability) for first, second, _, _ in rows)


@pytest.mark.parametrize("paper", [False, True])
def test_a_view_of_the_other_breast_has_text_only_where_the_paper_is_followed(
    make: Make, paper: bool
) -> None:
    rows = seen(
        make(
            "augment.second_view_probability=1",
            "augment.second_view=any_in_study",
            f"loss.other_breast_text={paper}",
        )
    )
    crossed = [side_of(first) != side_of(second) for first, second, _, _ in rows]
    assert 0.5 < np.mean(crossed) < 0.8  # two of the three others
    assert all(study_of(first) == study_of(second) for first, second, _, _ in rows)
    assert [described for _, _, _, described in rows] == [paper or not other for other in crossed]


@pytest.mark.parametrize("kind", ["same_breast", "any_in_study"])
def test_the_report_speaks_of_the_first_views_breast(make: Make, kind: str) -> None:
    for first, _, report, _ in seen(make(f"augment.second_view={kind}"), 10):
        assert report == ([BOTH, LEFT] if side_of(first) == "L" else [BOTH, RIGHT])


@pytest.mark.parametrize("kind", ["same_breast", "any_in_study"])
def test_images_of_unknown_side(make: Make, kind: str) -> None:
    """Unknown laterality: images may show one breast, and the whole report describes each."""
    sides = ("L", None, None, None)
    rows = seen(
        make("augment.second_view_probability=1", f"augment.second_view={kind}", sides=sides)
    )
    for first, second, report, described in rows:
        here, there = side_of(first, sides), side_of(second, sides)
        assert (first == second) == (kind == "same_breast")
        assert report == ([BOTH, LEFT] if here else [BOTH, LEFT, RIGHT])
        assert described == (here is None or there == here)
    assert any(not described for _, _, _, described in rows) == (kind == "any_in_study")


def test_one_image_a_study_meets_itself_augmented_twice(make: Make) -> None:
    rows = seen(make("augment.second_view_probability=1", sides=("R",)), 4)
    assert all(first == second and described for first, second, _, described in rows)
    batch = make("augment.second_view_probability=1", sides=("R",), still=False).batch(0)
    assert all(not torch.equal(a, b) for a, b in zip(batch.first, batch.second, strict=True))


def test_long_reports_give_some_sentences_in_their_order(make: Make) -> None:
    described = [f"sentence {n} ." for n in range(6)]
    reports = [row[2] for row in seen(make("augment.max_sentences=3", sentences=described), 20)]
    assert all(report == sorted(set(report)) and len(report) == 3 for report in reports)
    assert {sentence for report in reports for sentence in report} == set(described)
    whole = seen(make("augment.max_sentences=6", sentences=described), 2)
    assert all(row[2] == described for row in whole)


def test_layouts(make: Make, tmp_path: Path) -> None:
    dataset = write(tmp_path)
    write_picture(tmp_path / "images" / "i1.npy", np.full((32, 8), 9, np.uint8))
    image = dataset.manifest.studies[0].images[0]
    assert image.id == "i1"
    for layout, share in (("native", 0.25), ("square", 1.0)):
        pairs = make(f"image.layout={layout}")
        write_picture(tmp_path / "images" / "i1.npy", np.full((32, 8), 9, np.uint8))
        view = pairs._view(image, np.random.default_rng(0))
        assert (view > 0).mean() == share


# In which order


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 50])
def test_each_pass_takes_patients_once_in_a_new_order(make: Make, size: int) -> None:
    pairs = make(f"optimiser.batch_size={size}")
    assert (pairs.batch_size, pairs.studies) == (min(size, 6), 12)
    steps = 6 // pairs.batch_size
    passes = []
    for first_step in (0, steps, 2 * steps):
        batches = list(pairs.batches(range(first_step, first_step + steps)))
        assert {len(batch) for batch in batches} == {pairs.batch_size}
        passes.append([study_of(n) // 2 for batch in batches for n in numbers(batch.first)])
    assert all(len(set(patients)) == len(patients) for patients in passes)
    assert len({tuple(patients) for patients in passes}) > 1


def test_both_studies_of_a_patient_are_seen(make: Make) -> None:
    assert {study_of(first) for first, _, _, _ in seen(make())} == set(range(12))


def test_a_batch_is_a_function_of_its_step(make: Make) -> None:
    pairs, again = make(still=False), make(still=False)
    straight = list(pairs.batches(range(6)))
    for step in (5, 0, 3):
        np.random.seed(step)
        torch.manual_seed(step)
        assert same(again.batch(step), straight[step])
    assert not same(straight[0], straight[1])
    assert not same(straight[0], make(still=False, stream="other").batch(0))
    assert not same(straight[0], make("seed=4", still=False).batch(0))


@pytest.mark.parametrize("count", [2, 3, 4])
def test_shares_make_up_the_whole_batch_to_the_bit(make: Make, count: int) -> None:
    pairs = make("optimiser.batch_size=5", "augment.second_view=any_in_study", still=False)

    def part(rank: int) -> Callable[[int], slice]:
        return lambda rows: slice(rank * rows // count, (rank + 1) * rows // count)

    for step in range(3):
        shares = [pairs.batch(step, part(rank)) for rank in range(count)]
        together = Batch(
            torch.cat([share.first for share in shares]),
            torch.cat([share.second for share in shares]),
            [report for share in shares for report in share.reports],
            torch.cat([share.second_described for share in shares]),
        )
        assert same(together, pairs.batch(step))


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_batches_made_ahead_are_the_same_in_the_same_order(make: Make, workers: int) -> None:
    pairs = make(still=False)
    share = lambda rows: slice(1, rows)  # noqa: E731
    plain = list(pairs.batches(range(3, 8), share=share))
    early = list(pairs.batches(range(3, 8), share=share, workers=workers))
    assert len(early) == 5
    assert all(same(a, b) for a, b in zip(plain, early, strict=True))
    assert list(pairs.batches(range(0), workers=workers)) == []


def batch_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("batches")]


def test_an_abandoned_generator_leaves_no_thread(make: Make) -> None:
    batches = make().batches(range(1000), workers=3)
    next(batches)
    assert batch_threads()
    batches.close()
    assert not batch_threads()


def test_a_damaged_image_is_reported_from_a_thread_as_without(make: Make, tmp_path: Path) -> None:
    pairs = make()
    for image in (tmp_path / "images").iterdir():
        image.write_bytes(b"no picture")
    for workers in (0, 2):
        with pytest.raises(DataError, match="missing or damaged"):
            list(pairs.batches(range(3), workers=workers))
    assert not batch_threads()


# What is refused


def test_datasets_that_cannot_be_trained_on(make: Make) -> None:
    with pytest.raises(NoStudiesError, match="no studies to train on"):
        make(split="test")
    with pytest.raises(EmptyReportsError, match="all reports are empty"):
        make(sentences=())
    with pytest.raises(DataError, match="ingested at 32 pixels"):
        make("image.size=[48, 32]")
