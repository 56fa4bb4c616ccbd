"""Patients dealt to hospitals: whole, evenly, by vendor or by Dirichlet, and by seed."""

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mama.data.studies import Image, Labels, Study
from mama.errors import DataError
from sim.config import DealConfig
from sim.dealing.owners import deal

BY_DENSITY = {"by": "dirichlet", "label": "density"}
RULES = st.one_of(
    st.just(DealConfig()),
    st.just(DealConfig(by="vendor")),
    st.floats(0.01, 1e6).map(lambda alpha: DealConfig(**BY_DENSITY, alpha=alpha)),
    st.floats(0.01, 10).map(lambda a: DealConfig(by="dirichlet", label="cancer", alpha=a)),
)


def study(number: int, patient: int, *, split: str = "train", vendor: str | None = "a", **labels):
    image = Image(id=f"i{number}", laterality="L", view="CC", vendor=vendor, height=1, width=1)
    return Study(
        id=f"s{number}",
        patient=f"p{patient:03d}",
        split=split,
        images=(image,),
        sentences=(),
        labels=Labels.model_validate(labels),
    )


@st.composite
def datasets(draw: st.DrawFn) -> list[Study]:
    """Studies of patients with one split each, and of vendors and labels as they come."""
    splits = draw(st.lists(st.sampled_from(["train", "test"]), min_size=1, max_size=30))
    found = []
    for patient, split in enumerate(splits):
        for _ in range(draw(st.integers(1, 3))):
            labels = draw(
                st.fixed_dictionaries(
                    {
                        "density": st.sampled_from([None, "A", "B", "C"]),
                        "cancer": st.sampled_from([None, {"L": True}, {"L": False, "R": False}]),
                    }
                )
            )
            vendor = draw(st.sampled_from([None, "a", "b", "c"]))
            found.append(study(len(found), patient, split=split, vendor=vendor, **labels))
    return found


@given(datasets(), st.integers(1, 6), RULES, st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_no_patient_is_at_two_hospitals_and_nothing_is_lost(
    studies: list[Study], sites: int, rule: DealConfig, seed: int
) -> None:
    try:
        dealt = deal(studies, sites, rule, seed)
    except DataError:
        trained = {study.patient for study in studies if study.split == "train"}
        if rule.by == "patient":
            assert len(trained) < sites
        return
    assert len(dealt) == sites
    assert sorted((s for own in dealt for s in own), key=str) == sorted(studies, key=str)
    homes = defaultdict(set)
    for site, own in enumerate(dealt):
        assert any(study.split == "train" for study in own)
        for one in own:
            homes[one.patient].add(site)
    assert all(len(found) == 1 for found in homes.values())
    # The order of the studies is of no account.
    assert [own[::-1] for own in deal(studies[::-1], sites, rule, seed)] == dealt


@given(st.integers(2, 40), st.integers(0, 20), st.integers(1, 5), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_by_patient_each_split_is_even(train: int, test: int, sites: int, seed: int) -> None:
    if train < sites:
        return
    studies = [study(n, n, split="train" if n < train else "test") for n in range(train + test)]
    dealt = deal(studies, sites, DealConfig(), seed)
    for split in ("train", "test"):
        counts = [sum(study.split == split for study in own) for own in dealt]
        assert max(counts) - min(counts) <= 1
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


def test_the_seed_decides() -> None:
    studies = [study(n, n) for n in range(30)]
    assert deal(studies, 3, DealConfig(), 0) == deal(studies, 3, DealConfig(), 0)
    assert deal(studies, 3, DealConfig(), 0) != deal(studies, 3, DealConfig(), 1)


def test_by_vendor_each_hospital_has_its_own() -> None:
    vendors = ["a"] * 9 + ["b"] * 5 + ["c"] * 3 + [None] * 2
    studies = [study(n, n, vendor=vendor) for n, vendor in enumerate(vendors)]
    dealt = deal(studies, 3, DealConfig(by="vendor"), 0)
    found = [Counter(study.images[0].vendor for study in own) for own in dealt]
    assert found == [{"a": 9}, {"b": 5}, {"c": 3, None: 2}]


def test_a_patient_of_two_vendors_is_of_the_more_frequent() -> None:
    studies = [study(n, n, vendor=vendor) for n, vendor in enumerate("aaabbb")]
    studies += [study(10 + n, 99, vendor=vendor) for n, vendor in enumerate("abb")]
    dealt = deal(studies, 2, DealConfig(by="vendor"), 0)
    assert [{s.patient for s in own if s.patient == "p099"} for own in dealt] == [{"p099"}, set()]
    assert {s.images[0].vendor for s in dealt[1]} == {"a"}


@pytest.mark.parametrize(("alpha", "least", "most"), [(0.05, 0.7, 1.0), (1e5, 0.2, 0.3)])
def test_alpha_sets_how_much_of_a_class_is_at_one_hospital(
    alpha: float, least: float, most: float
) -> None:
    studies = [
        study(n, n, split="test" if n % 5 == 0 else "train", density="ABCD"[n % 4])
        for n in range(400)
    ]
    dealt = deal(studies, 4, DealConfig(**BY_DENSITY, alpha=alpha), 0)
    shares = []
    for split in ("train", "test"):
        for density in "ABCD":
            counts = [
                sum(s.labels.density == density and s.split == split for s in own) for own in dealt
            ]
            shares.append(max(counts) / sum(counts))
    assert least <= sum(shares) / len(shares) <= most


def test_the_test_split_is_like_the_training_split() -> None:
    studies = [
        study(n, n, split="test" if n % 2 else "train", density="AB"[n // 2 % 2])
        for n in range(400)
    ]
    for own in deal(studies, 3, DealConfig(**BY_DENSITY, alpha=0.5), 1):
        train = Counter(s.labels.density for s in own if s.split == "train")
        test = Counter(s.labels.density for s in own if s.split == "test")
        assert all(abs(train[density] - test[density]) <= 1 for density in "AB")


@pytest.mark.parametrize(
    ("studies", "rule", "message"),
    [
        ([study(0, 0), study(1, 0), study(2, 1, split="test")], DealConfig(),
         "simulation.sites: 1 patients to train on are too few for 2 hospitals. Lower it"),
        ([study(n, n, vendor=None) for n in range(4)], DealConfig(by="vendor"),
         "simulation.deal.by: no image states its vendor"),
        ([study(n, n) for n in range(4)], DealConfig(by="vendor"),
         "the vendors with patients to train on are a: too few for 2 hospitals. Set it to 1"),
        ([study(n, n) for n in range(4)], DealConfig(**BY_DENSITY, alpha=1),
         "simulation.deal.label: no study has the label density"),
        ([study(0, 0), study(1, 0, split="test"), study(2, 1)], DealConfig(),
         "--data: a patient has studies in both splits"),
    ],
)  # fmt: skip
def test_what_cannot_be_dealt_is_one_line(
    studies: list[Study], rule: DealConfig, message: str
) -> None:
    with pytest.raises(DataError) as error:
        deal(studies, 2, rule, 0)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
