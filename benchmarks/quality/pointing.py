"""Pointing game on the phantoms of finished quickstart runs, whose lesions have known boxes.

    mama-sim run configs/quickstart.yaml --seed 11 --out RUN
    python -m benchmarks.quality.pointing RUN [RUN ...]

The final model of each run is scored at all its sites' test studies; images of all sites and runs
are pooled. Scattered specks have no place and are left out. The first table is of all other
lesions, the second of the suspicious ones alone, whose images may hold a benign lesion too.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import last_line
from client.site.config import load_site
from mama.data.adapters.raw import RawBox
from mama.data.ingest.boxes import in_picture
from mama.data.ingest.cache import ImageCache
from mama.data.ingest.ids import Ids
from mama.data.manifest import Dataset
from mama.data.studies import Box, Studies, Study
from mama.evaluation.pointing import Score, scores, summary
from mama.final.saved import load_final

# Labels of the phantoms' lesions.
SUSPICIOUS = {"spiculated": "mass", "cluster": "calcification"}
LABELS = {"all lesions": {**SUSPICIOUS, "smooth": "mass"}, "suspicious lesions": SUSPICIOUS}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    runs = parser.parse_args().runs
    results = {}
    for title, labels in LABELS.items():
        found = summary([score for run in runs for score in scores_of(run, labels)])
        show(title, found)
        results[title] = found
    last_line(results)


def scores_of(run: Path, labels: dict[str, str]) -> Iterator[Score]:
    """Yield the scores of a run's final model at the test studies of all its sites."""
    model, experiment = load_final(run / "final")
    for file in sorted(run.glob("sites/*/site.yaml")):
        site = load_site(file)
        dataset = Dataset(site.data.dataset)
        boxes = true_boxes(run / "hospitals" / site.site, dataset, site.read_secret(), labels)
        studies = with_boxes(dataset.studies("test"), boxes)
        yield from scores(model, experiment, dataset, studies, torch.device("cpu"))


def true_boxes(
    hospital: Path, dataset: Dataset, secret: bytes, labels: dict[str, str]
) -> dict[str, tuple[Box, ...]]:
    """Return boxes of the lesions that have a label, by image id, in pixels of the pictures."""
    ids = Ids(secret)
    cached = ImageCache(dataset.folder / "images", dataset.manifest.long_side).entries
    truth = json.loads((hospital / "truth.json").read_text(encoding="utf-8"))["studies"]
    found = {}
    for study in truth.values():
        for instance, image in study["images"].items():
            raw = [
                RawBox(*lesion["box"], labels[lesion["kind"]])
                for lesion in image["lesions"]
                if lesion["kind"] in labels
            ]
            id = ids.of("image", instance)
            found[id], _ = in_picture(raw, cached[id])
    return found


def with_boxes(studies: Studies, boxes: dict[str, tuple[Box, ...]]) -> Studies:
    """Return the studies with the boxes of their images."""

    def change(study: Study) -> Study:
        images = [image.model_copy(update={"boxes": boxes[image.id]}) for image in study.images]
        return study.model_copy(update={"images": tuple(images)})

    return studies.mapped(change)


def show(title: str, found: dict[str, Any]) -> None:
    """Print a table of the figures with their intervals."""
    print(f"\n{title}: {found['images']} images of {found['patients']} patients")
    print(f"  own sentences: {found['own_sentence_is']}")
    for figure in ("hit_rate", "energy_inside", "gain_over_brightest"):
        print(f"  {figure}")
        for name, one in (found[figure] or {}).items():
            ends = f"[{one['low']:.3f}, {one['high']:.3f}]" if one["low"] is not None else ""
            print(f"    {name:<14} {one['value']:.3f} {ends}")


if __name__ == "__main__":
    main()
