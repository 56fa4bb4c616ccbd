"""Linear probes: fitted on the training studies' labels alone."""

import numpy as np

from mama.data.manifest import Dataset
from mama.data.studies import Labels, Study
from mama.evaluation.predictions import metrics
from mama.evaluation.protocols.linear_probe import linear_probe


def labelled(studies: list[Study], label: str) -> list[Study]:
    """The same studies, all with one density and no lesion."""
    labels = Labels(density=label, suspicious={"L": False, "R": False})
    return [study.model_copy(update={"labels": labels}) for study in studies]


def pooled(dataset: Dataset, studies: list[Study]) -> np.ndarray:
    """Mean and maximum of the pixels: density is the one, a lesion the other."""
    pixels = [dataset.pixels(image) for study in studies for image in study.images]
    return np.array([[p.mean(), p.max()] for p in pixels], np.float32)


def test_it_learns_what_the_training_labels_say(dataset: Dataset) -> None:
    train, test = dataset.studies("train"), dataset.studies("test")
    found = linear_probe(train, pooled(dataset, train), test, pooled(dataset, test))
    for label, classes in (("density", ("A", "D")), ("suspicious", ("no", "yes"))):
        predictions = found[label]  # type: ignore[index]
        assert predictions.classes == classes
        assert metrics(predictions)["auc"] == 1.0
        assert np.allclose(predictions.probabilities.sum(1), 1)


def test_test_labels_have_no_part_in_it(dataset: Dataset) -> None:
    train, test = dataset.studies("train"), dataset.studies("test")
    features = pooled(dataset, train), pooled(dataset, test)
    plain = linear_probe(train, features[0], test, features[1])
    relabelled = linear_probe(train, features[0], labelled(test, "D"), features[1])
    for label, predictions in plain.items():
        assert np.array_equal(predictions.probabilities, relabelled[label].probabilities)


def test_labels_of_one_class_and_absent_studies_give_no_probe(dataset: Dataset) -> None:
    train, test = dataset.studies("train"), dataset.studies("test")
    features = pooled(dataset, train), pooled(dataset, test)
    assert linear_probe(labelled(train, "D"), features[0], test, features[1]) == {}
    assert linear_probe(train, features[0], [], features[1][:0]) == {}
