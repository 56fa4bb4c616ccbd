"""Dataset of one simulated hospital, made of studies of an ingested one.

Its pictures are hard links, or copies on another disk, so that nothing is decoded again. Its ids
are made of the dataset's ids with the hospital's own key: one patient has another pseudonym at each
hospital, as in reality, and the dataset's own key is not needed.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from mama.data.ingest.ids import Ids
from mama.data.manifest import Dataset, write_manifest
from mama.data.secret import key_check
from mama.data.studies import Image, Study
from mama.errors import DataError
from mama.system.files import private_folder


def write_dataset(folder: Path, dataset: Dataset, studies: Iterable[Study], key: bytes) -> None:
    """Write a hospital's dataset; what an earlier dealing left in the folder is removed.

    Args:
        folder: folder of the hospital's dataset.
        dataset: the dataset that is dealt.
        studies: those of this hospital.
        key: the hospital's key of pseudonyms.

    Raises:
        DataError: a picture of the dataset is missing.
    """
    ids = Ids(key)
    pictures = private_folder(folder / "images")
    studies = list(studies)
    sources = {
        f"{ids.of('image', image.id)}.npy": dataset.image_path(image)
        for study in studies
        for image in study.images
    }
    for left in set(os.listdir(pictures)) - set(sources):
        (pictures / left).unlink()
    for name, source in sources.items():
        _place(source, pictures / name)
    own = sorted((_renamed(study, ids) for study in studies), key=lambda study: study.id)
    changes = {"key_check": key_check(key), "studies": tuple(own)}
    write_manifest(folder, dataset.manifest.model_copy(update=changes))


def _renamed(study: Study, ids: Ids) -> Study:
    images = [image.model_copy(update={"id": ids.of("image", image.id)}) for image in study.images]
    changes = {
        "id": ids.of("study", study.id),
        "patient": ids.of("patient", study.patient),
        "images": tuple(sorted(images, key=_id)),
    }
    return study.model_copy(update=changes)


def _id(image: Image) -> str:
    return image.id


def _place(source: Path, target: Path) -> None:
    """Link or copy a picture, unless the target has its size and time already."""
    try:
        wanted = source.stat()
        if target.exists():
            known = target.stat()
            if (known.st_size, known.st_mtime_ns) == (wanted.st_size, wanted.st_mtime_ns):
                return
            target.unlink()
        try:
            os.link(source, target)
        except FileNotFoundError:
            raise
        except OSError:  # another disk, or one without hard links
            shutil.copy2(source, target)
    except FileNotFoundError:
        raise DataError(
            "the cached image is missing", where=str(source), fix="Ingest the dataset again"
        ) from None
