"""Studies in the making: the worst counts, special images, and synthetic beside original."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mama.config.ingest import DEFAULTS, IngestConfig
from mama.data.adapters.public.draft import SEVERITY, Draft, dataset
from mama.data.adapters.raw import RawImage
from mama.data.studies import Labels


def image(name: str, *flags: str, view: str = "CC", side: str = "L") -> RawImage:
    return RawImage(Path(name), name, side, view, flags=flags)


def test_the_worst_counts() -> None:
    draft = Draft("p", "s")
    for density in ("B", "C", None, "A"):
        draft.dense(density)
    for code in ("1", "0", "2", None):
        draft.rate("L", code)
    for code in ("4A", "3", "4C", "4"):
        draft.rate("R", code)
    draft.diagnose("L", None)
    draft.diagnose("R", True)
    draft.diagnose("R", False)
    labels = draft.finish().labels
    assert labels == Labels(
        density="C", suspicious={"R": True}, birads={"L": "0", "R": "4C"}, cancer={"R": True}
    )


@given(st.lists(st.sampled_from(SEVERITY), min_size=1))
def test_the_order_of_findings_does_not_matter(found: list[str]) -> None:
    drafts = [Draft("p", "s"), Draft("p", "s")]
    for draft, order in zip(drafts, (found, found[::-1]), strict=True):
        for code in order:
            draft.rate("L", code)
    assert drafts[0].breasts["L"].birads == drafts[1].breasts["L"].birads


def test_special_images() -> None:
    def kept(config: IngestConfig, *images: RawImage) -> list[str]:
        studies = dataset([Draft("p", "s", images=list(images))], config).studies
        return [image.id for study in studies for image in study.images]

    images = [image("a"), image("b", "spot"), image("c", "synthetic"), image("d", "male")]
    assert kept(DEFAULTS, *images) == ["a"]
    assert kept(DEFAULTS, image("c", "synthetic"), image("a", view="MLO")) == ["a", "c"]
    assert kept(DEFAULTS, image("c", "synthetic"), image("a", view=None)) == ["a"]
    assert kept(IngestConfig(keep=["spot", "male"]), *images) == ["a", "b", "d"]
    assert kept(IngestConfig(keep=[]), image("c", "synthetic")) == []
    assert kept(IngestConfig(keep=[]), image("c", "implant")) == ["c"]


def test_reports_are_rendered_only_where_there_is_none() -> None:
    draft = Draft("p", "s", reports=["Own text.", "Own text."])
    draft.rate("L", "2")
    assert draft.finish().report == "Own text."
    draft.reports = []
    assert "BI-RADS 2" in str(draft.finish().report)
    assert draft.finish(captions=False).report is None
