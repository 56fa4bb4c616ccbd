"""A finished model in Python: the same answers as an evaluation, and errors of one line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mama.data.dicom.pixels import read_pixels
from mama.data.manifest import Dataset, Manifest, write_manifest
from mama.data.picture import write_picture
from mama.data.studies import Image, Labels, Study
from mama.data.tissue import prepare
from mama.errors import ConfigError, DataError, ModelError
from mama.evaluation.features import image_features
from mama.evaluation.protocols.zero_shot import zero_shot
from mama.final.pretrained import PretrainedMaMA
from tests.mama.data.conftest import write_mammogram

CPU = torch.device("cpu")


@pytest.mark.parametrize("metadata", ["false", "true"])
def test_probabilities_are_those_of_an_evaluation(
    make_run: Callable[..., Path], dicom: Path, tmp_path: Path, metadata: str
) -> None:
    model = PretrainedMaMA.from_pretrained(make_run(f"evaluation.metadata={metadata}"))
    pixels = prepare(read_pixels(dicom), 32).pixels
    height, width = pixels.shape
    image = Image(id="i", laterality="R", view="MLO", vendor=None, height=height, width=width)
    (tmp_path / "images").mkdir()
    write_picture(tmp_path / "images" / "i.npy", pixels)
    labels = Labels(density="A", suspicious={"R": True})
    study = Study(id="s", patient="p", split="test", images=(image,), sentences=(), labels=labels)
    write_manifest(tmp_path, Manifest(adapter="t", key_check="", long_side=32, studies=(study,)))
    features = image_features(model.model, Dataset(tmp_path), [study], CPU)
    expected = zero_shot(model.model, model.experiment, [study], features, CPU)
    for task in model.tasks:
        found = model.predict(dicom, task)
        assert tuple(found) == expected[task].classes
        np.testing.assert_allclose([*found.values()], expected[task].probabilities[0], rtol=1e-5)
    assert sum(found.values()) == pytest.approx(1)


def test_vectors_are_those_of_the_model(pretrained: PretrainedMaMA, dicom: Path, png: Path) -> None:
    inputs = pretrained.preprocess([dicom, png])
    assert (inputs.shape, inputs.dtype, float(inputs.min())) == ((2, 1, 32, 32), torch.float32, -1)
    vectors = pretrained.encode_image([dicom, str(png)])
    with torch.no_grad():
        expected = pretrained.model.encode_images(inputs).embedding
    torch.testing.assert_close(vectors, F.normalize(expected, dim=-1))
    assert pretrained.similarity(png, "no mass").item() == pytest.approx(
        float(vectors[1] @ pretrained.encode_text("no mass")[0])
    )


def test_a_text_is_split_into_sentences(pretrained: PretrainedMaMA) -> None:
    tokens = pretrained.model.text.tokenise([["The breast is dense.", "No mass."], ["No mass."]])
    with torch.no_grad():
        expected = F.normalize(pretrained.model.encode_texts(tokens).embedding, dim=-1)
    found = pretrained.encode_text(["The breast is dense. No mass.", "No mass."])
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found[0], found[1], atol=1e-3)


def test_a_mirrored_breast_has_the_same_vector(pretrained: PretrainedMaMA, tmp_path: Path) -> None:
    from tests.mama.data.conftest import breast

    left = write_mammogram(tmp_path / "l.dcm", breast())
    right = write_mammogram(tmp_path / "r.dcm", breast()[:, ::-1])
    torch.testing.assert_close(*pretrained.encode_image([left, right]).unbind(0))


def test_films_stored_as_secondary_captures_are_read(
    pretrained: PretrainedMaMA, tmp_path: Path
) -> None:
    film = write_mammogram(tmp_path / "f.dcm", SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    assert pretrained.encode_image(film).shape == (1, 16)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("ct", "cannot be used: the Modality is not MG"),
        ("raw", "cannot be used: a raw detector image"),
        ("text", "cannot be used: the file is damaged or not in a supported image format"),
        ("black", "cannot be used: no breast was found"),
        ("missing", "no such image"),
    ],
)
def test_files_that_are_no_mammogram(
    pretrained: PretrainedMaMA, tmp_path: Path, kind: str, message: str
) -> None:
    path = tmp_path / "image.dcm"
    if kind == "text":
        path.write_text("Dear colleague")
    elif kind != "missing":
        fields = {"ct": {"Modality": "CT"}, "raw": {"PresentationIntentType": "FOR PROCESSING"}}
        black = np.zeros((96, 64), np.uint16) if kind == "black" else None
        write_mammogram(path, black, **fields.get(kind, {}))
    with pytest.raises(DataError, match=message) as raised:
        pretrained.predict(path, "density")
    assert "image.dcm" in str(raised.value)


def test_what_a_model_cannot_answer(pretrained: PretrainedMaMA, png: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no task 'age'\. Choose among: density, suspicious"):
        pretrained.predict(png, "age")
    with pytest.raises(DataError, match="text 2: has no words"):
        pretrained.encode_text(["no mass", " "])
    with pytest.raises(DataError, match="no images"):
        pretrained.encode_image([])
    with pytest.raises(ModelError, match="holds no model"):
        PretrainedMaMA.from_pretrained(tmp_path / "nowhere")
