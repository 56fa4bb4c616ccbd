"""Study of a public set in the making: images, labels and text are added as tables are read."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

from mama.config.ingest import IngestConfig
from mama.data.adapters.notes import Note
from mama.data.adapters.public.captions import Breast, Finding, kinds, render
from mama.data.adapters.raw import (
    RawDataset,
    RawImage,
    RawStudy,
    Skipped,
    may_show_one_view,
)
from mama.data.studies import Labels, Laterality, Split

# The higher counts where findings of one breast differ; an incomplete assessment is above benign.
SEVERITY = ("1", "2", "0", "3", "4", "4A", "4B", "4C", "5", "6")
SPECIAL = ("magnification", "spot", "implant_displaced", "synthetic", "male", "post_mastectomy")


@dataclass
class Draft:
    """One study; `captions` renders a text if the set gives none."""

    patient: str
    study: str
    split: Split | None = None
    reports: list[str] = field(default_factory=list)
    images: list[RawImage] = field(default_factory=list)
    density: str | None = None
    breasts: dict[Laterality, Breast] = field(default_factory=dict)

    def breast(self, side: Laterality) -> Breast:
        """Return what is known of a breast."""
        return self.breasts.setdefault(side, Breast())

    def rate(self, side: Laterality, birads: str | None) -> None:
        """Add a BI-RADS category; the most severe of a breast counts."""
        breast = self.breast(side)
        known = [code for code in (breast.birads, birads) if code]
        breast.birads = max(known, key=SEVERITY.index, default=None)

    def diagnose(self, side: Laterality, cancer: bool | None) -> None:
        """Add a result of pathology; one cancer makes the breast malignant."""
        if cancer is not None:
            breast = self.breast(side)
            breast.cancer = cancer or bool(breast.cancer)

    def describe(self, side: Laterality, findings: Iterable[Finding]) -> None:
        """Add findings of a breast that the set describes; no findings is a description too."""
        breast = self.breast(side)
        breast.described = True
        breast.findings += findings

    def label(
        self,
        side: Laterality | None,
        density: str | None,
        birads: str | None,
        cancer: bool | None = None,
    ) -> None:
        """Add the labels of an image's row; those of a breast need its side."""
        self.dense(density)
        if side:
            self.rate(side, birads)
            self.diagnose(side, cancer)

    def dense(self, density: str | None) -> None:
        """Add a density; the denser breast counts."""
        self.density = max(filter(None, (self.density, density)), default=None)

    def finish(self, *, captions: bool = True) -> RawStudy:
        """Return the study."""
        report = "\n".join(dict.fromkeys(self.reports)) or None
        if report is None and captions:
            report = render(self.study, self.density, self.breasts)
        return RawStudy(
            patient=self.patient,
            study=self.study,
            split=self.split,
            images=tuple(sorted(self.images, key=lambda image: image.id)),
            report=report,
            labels=_labels(self.density, self.breasts),
        )


def dataset(
    drafts: Iterable[Draft],
    config: IngestConfig,
    notes: Iterable[Note] = (),
    *,
    skipped: Iterable[Skipped] = (),
    share_weights: bool = True,
) -> RawDataset:
    """Return the studies that have images, without special images that are not to be kept."""
    studies = []
    left_out: dict[str, int] = {}
    for draft in drafts:
        chosen = []
        for image in draft.images:
            reason = _unwanted(image, draft.images, config)
            if reason is None:
                chosen.append(image)
            else:
                left_out[reason] = left_out.get(reason, 0) + 1
        draft.images = chosen
        if chosen:
            studies.append(draft.finish())
    remarks = [
        Note("special-images", f"{count} image{'s' * (count > 1)}: {kind}")
        for kind, count in sorted(left_out.items())
    ]
    return RawDataset(
        tuple(sorted(studies, key=lambda study: study.study)),
        tuple(skipped),
        (*notes, *remarks),
        share_weights,
    )


def _unwanted(image: RawImage, images: list[RawImage], config: IngestConfig) -> str | None:
    """Return why an image is left out: a special kind, or synthetic beside its original."""
    for flag in image.flags:
        if flag in SPECIAL and flag not in config.keep:
            return flag
    if "synthetic" in image.flags and any(
        "synthetic" not in other.flags
        and may_show_one_view((image.laterality, image.view), (other.laterality, other.view))
        for other in images
    ):
        return "synthetic beside the original"
    return None


def _labels(density: str | None, breasts: dict[Laterality, Breast]) -> Labels:
    sides = sorted(breasts.items())
    birads = {side: breast.birads for side, breast in sides if breast.birads}
    cancer = {side: breast.cancer for side, breast in sides if breast.cancer is not None}
    findings = {side: kinds(breast.findings) for side, breast in sides if breast.described}
    # An incomplete assessment says neither.
    suspicious = {side: code[0] in "456" for side, code in birads.items() if code != "0"}
    suspicious |= {s: breast.suspicious for s, breast in sides if breast.suspicious is not None}
    return Labels(
        density=density,
        suspicious=cast(dict[Laterality, bool], suspicious) or None,
        birads=birads or None,
        cancer=cancer or None,
        findings=findings or None,
    )
