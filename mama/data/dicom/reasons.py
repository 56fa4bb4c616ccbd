"""Reasons for which a file is not used as a mammogram."""

from pathlib import Path
from typing import Literal

from mama.errors import DataError

Reason = Literal[
    "unreadable",
    "missing-decoder",
    "no-identifiers",
    "no-image",
    "not-a-mammogram",
    "other-modality",
    "for-processing",
    "tomosynthesis",
    "contrast",
    "secondary-capture",
    "specimen",
    "phantom",
    "stereotactic",
    "multi-frame",
    "too-large",
    "colour",
    "pixel-type",
    "no-tissue",
    "duplicate",
    "magnification",
    "spot",
    "implant_displaced",
    "synthetic",
    "male",
    "post_mastectomy",
    "side-unclear",
    "no-permission",
    "read-error",
]

KEEP = "Nothing; to train on it, list it in data.ingest.keep"
# What each reason means, and what to do about it.
REASONS: dict[Reason, tuple[str, str]] = {
    "unreadable": (
        "the file is damaged or not in a supported image format",
        "Export or copy it again",
    ),
    "missing-decoder": (
        "the compression of the pixels needs a decoder that is not installed",
        "Install pylibjpeg-openjpeg (HTJ2K) or export uncompressed images",
    ),
    "no-identifiers": (
        "no StudyInstanceUID or SOPInstanceUID in the header",
        "Export it again from the archive",
    ),
    "no-image": (
        "a report, key note, presentation state or another object without pixels",
        "Nothing; export only images to have fewer of these",
    ),
    "not-a-mammogram": (
        "the Modality is not MG, or the SOP class is none of mammography",
        "Nothing, unless it is a mammogram",
    ),
    "other-modality": (
        "an image of the breast whose Modality is CR or DX",
        "If it is a mammogram, have the Modality corrected to MG in the archive",
    ),
    "for-processing": (
        "a raw detector image (FOR PROCESSING)",
        "Nothing, if its FOR PRESENTATION image is there too; else export that",
    ),
    "tomosynthesis": (
        "a tomosynthesis volume or one of its slices",
        "Nothing, if the two-dimensional images are there too; else export them",
    ),
    "contrast": (
        "a subtraction or high-energy image of a mammography with contrast medium",
        "Nothing, if the low-energy image is there too; else export that",
    ),
    "secondary-capture": (
        "a screen save, dose page or another secondary capture, which may show names",
        "Nothing",
    ),
    "specimen": ("an image of a specimen", "Nothing"),
    "phantom": ("a quality control image", "Nothing"),
    "stereotactic": ("an image of a biopsy, localisation or galactography", "Nothing"),
    "multi-frame": ("several frames in one file", "Export two-dimensional images"),
    "too-large": ("more than 100 million pixels", "Export the image at its original size"),
    "colour": ("a colour image", "Export greyscale images"),
    "pixel-type": ("pixels are missing or not integers of 8 to 16 bits", "Export integer pixels"),
    "no-tissue": ("no breast was found, as in a text page or a constant image", "Nothing"),
    "duplicate": ("another file has the same SOPInstanceUID", "Nothing: one of them is used"),
    "magnification": ("a magnification view", KEEP),
    "spot": ("a spot compression view", KEEP),
    "implant_displaced": ("an implant displaced view", KEEP),
    "synthetic": (
        "a synthetic image, computed from a tomosynthesis, beside its original",
        "Nothing; without an original it is used",
    ),
    "male": ("an image of a man", KEEP),
    "post_mastectomy": ("an image after mastectomy", KEEP),
    "side-unclear": (
        "the header contradicts itself or the chest wall on the side",
        "Correct it in the archive, or set data.ingest.conflicts",
    ),
    "no-permission": ("the file or folder may not be read", "Give this user read permission"),
    "read-error": (
        "the disk or network share returned an error",
        "Check the disk or mount, and run the command again",
    ),
}


class ImageError(DataError):
    """A file that cannot be used as a mammogram; `reason` is its code in `REASONS`."""

    def __init__(self, reason: Reason, path: Path):
        what, fix = REASONS[reason]
        super().__init__(what, where=path.name, fix=fix)
        self.reason: Reason = reason
