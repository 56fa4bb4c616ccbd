"""Site report: its own test images and report texts with the model's answers, no others'."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from client.report.page import SHOWN, choose, write_site_report
from client.site.config import SiteFile
from mama.config import Experiment
from mama.data.manifest import Dataset, Manifest, write_manifest
from mama.data.picture import write_picture
from mama.data.secret import key_check, make_secret
from mama.data.studies import Image, Labels, Split, Study
from mama.evaluation.evaluate import evaluate_whole
from mama.final.saved import save_final
from mama.model import build_model
from tests.reports import sided

EXPERIMENT = Experiment.model_validate(
    {
        "name": "small",
        "image": {
            "tower": "vit_tiny_r_s16_p8_224",
            "size": [96, 64],
            "options": {"patch_size": 2, "embed_dim": 32, "depth": 1, "num_heads": 2},
        },
        "text": {"tower": "all-MiniLM-L6-v2", "layers": 1},
        "heads": {"embedding": 16, "view_hidden": 16, "local_hidden": 16},
        "evaluation": {
            "density": {"A": ["a fatty breast"], "B": ["scattered gland"]},
            "suspicious": {"no": ["benign"], "yes": ["malignant"]},
        },
    }
)


@pytest.fixture(scope="module")
def final(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("final")
    save_final(folder, build_model(EXPERIMENT), EXPERIMENT)
    return folder


def make_study(
    number: int, split: Split, suspicious: bool = False, density: str | None = "A"
) -> Study:
    images = tuple(
        Image(
            id=f"i{number}{side}",
            laterality=side,
            view="MLO",
            vendor="<b>V</b>",
            height=60,
            width=40,
        )
        for side in ("L", "R")
    )
    return Study(
        id=f"study{number:02}",
        patient=f"patient{number:02}",
        split=split,
        images=images,
        sentences=sided(
            (
                f"Right breast of {split} {number} <i>clear</i>.",
                f"Left finding {split} {number}.",
            )
        ),
        labels=Labels(density=density, suspicious={"L": False, "R": suspicious}),
    )


def make_site(folder: Path, studies: list[Study]) -> SiteFile:
    """A site whose images are noise, so that no two are alike."""
    dataset = folder / "dataset"
    (dataset / "images").mkdir(parents=True)
    for number, image in enumerate(image for study in studies for image in study.images):
        pixels = np.random.default_rng(number).integers(1, 256, (60, 40), dtype=np.uint8)
        write_picture(dataset / "images" / f"{image.id}.npy", pixels)
    key = make_secret(folder / "secret.key")
    manifest = Manifest(
        adapter="dicom_folder", key_check=key_check(key), long_side=96, studies=tuple(studies)
    )
    write_manifest(dataset, manifest)
    return SiteFile(
        site="alder",
        data={"source": folder, "dataset": dataset},
        state=folder / "state",
        secret=folder / "secret.key",
        device="cpu",
    )


def pictures(page: str) -> list[np.ndarray]:
    urls = re.findall(r'<img src="data:image/png;base64,([^"]+)"', page)
    return [np.asarray(Picture.open(io.BytesIO(base64.b64decode(url)))) for url in urls]


def holds(shown: list[np.ndarray], pixels: np.ndarray) -> bool:
    return any(np.array_equal(picture, pixels) for picture in shown)


def mixed() -> list[Study]:
    return [make_study(n, "train") for n in range(3)] + [
        make_study(n, "test", suspicious=n == 4, density="AB"[n % 2]) for n in range(3, 6)
    ]


def test_shows_test_images_only_with_their_text(tmp_path: Path, final: Path) -> None:
    site = make_site(tmp_path, mixed())
    dataset = Dataset(site.data.dataset)
    page = write_site_report(site, final, tmp_path / "report.html").read_text()
    shown = pictures(page)
    assert len(shown) == 3
    # The right breast where it is the suspicious one, else the study's first image.
    expected = {3: 0, 4: 1, 5: 0}
    for study in dataset.manifest.studies:
        for i, image in enumerate(study.images):
            number = int(study.id[-2:])
            assert holds(shown, dataset.pixels(image)) == (expected.get(number) == i)
    assert "Right breast of test 4 &lt;i&gt;clear&lt;/i&gt;." in page
    assert "Left finding test 4" not in page
    assert "Left finding test 3" in page
    assert not re.search(r"of train \d|finding train \d", page)
    assert "study04" in page
    assert "patient0" not in page
    assert "&lt;b&gt;V&lt;/b&gt;" in page


def test_figures_are_the_exact_metrics_of_the_test_split(tmp_path: Path, final: Path) -> None:
    studies = [make_study(n, "train") for n in range(3)] + [
        make_study(n, "test", suspicious=n % 3 == 1, density="AB"[n % 2]) for n in range(3, 12)
    ]
    site = make_site(tmp_path, studies)
    page = write_site_report(site, final, tmp_path / "r").read_text()
    assert "15 no, 3 yes" in page
    tests = tuple(study for study in studies if study.split == "test")
    write_manifest(
        site.data.dataset, Manifest(adapter="x", key_check="", long_side=96, studies=tests)
    )
    exact = evaluate_whole(final, Dataset(site.data.dataset))["zero_shot"]
    for label, word in (("density", "Breast density"), ("suspicious", "Suspicious lesion")):
        row = re.search(rf"<tr><td>{word}</td>(.*?)</tr>", page, re.DOTALL)[1]
        assert re.findall(r">([\d.]+)<", row) == [
            f"{exact[label]['auc']:.3f}",
            f"{exact[label]['balanced_accuracy']:.3f}",
            str(exact[label]["n"]),
        ]


def test_truth_that_is_unknown_or_no_class(tmp_path: Path, final: Path) -> None:
    studies = [make_study(0, "test", density=None), make_study(1, "test", density="F")]
    page = write_site_report(make_site(tmp_path, studies), final, tmp_path / "r").read_text()
    assert "not known." in page
    assert "F, which is none of the model's classes." in page
    assert "Not measured: the labels are MIAS (D, F, G), the model&#39;s classes BI-RADS" in page
    assert "Not measured: all labels are of one class." in page


def test_banner_numbers_and_no_way_out(tmp_path: Path, final: Path) -> None:
    page = write_site_report(make_site(tmp_path, mixed()), final, tmp_path / "r").read_text()
    assert "This page holds images and report text of alder. It stays at the site." in page
    rows = dict(re.findall(r'<th scope="row">([^<]+)</th>(.*?)</tr>', page))
    counts = {name: [int(n) for n in re.findall(r">(\d+)<", row)] for name, row in rows.items()}
    assert counts["studies"] == [3, 3]
    assert counts["images"] == [6, 6]
    assert counts["empty reports"] == [0, 0]
    assert counts["breasts with a suspicious lesion"] == [0, 1]
    assert "<script" not in page
    assert not re.search(r"https?://|href=", page)
    assert set(re.findall(r'src="([^,]+),', page)) == {"data:image/png;base64"}


def test_without_test_studies_it_shows_training_studies_and_says_so(
    tmp_path: Path, final: Path
) -> None:
    page = write_site_report(
        make_site(tmp_path, [make_study(n, "train") for n in range(2)]), final, tmp_path / "r"
    ).read_text()
    assert "This site has no test studies." in page
    assert len(pictures(page)) == 2


def test_site_without_studies(tmp_path: Path, final: Path) -> None:
    page = write_site_report(make_site(tmp_path, []), final, tmp_path / "r").read_text()
    assert "The dataset has no studies" in page
    assert not pictures(page)


def test_same_data_same_page(tmp_path: Path, final: Path) -> None:
    site = make_site(tmp_path, mixed())
    pages = [write_site_report(site, final, tmp_path / f"{i}").read_bytes() for i in range(2)]
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("worrying", "others", "shown"),
    [(9, 9, (4, 4)), (1, 9, (1, 7)), (9, 2, (6, 2)), (2, 3, (2, 3))],
)
def test_choice_is_half_suspicious_where_there_are_so_many(
    worrying: int, others: int, shown: tuple[int, int]
) -> None:
    studies = [make_study(n, "test", suspicious=n < worrying) for n in range(worrying + others)]
    cases = choose(studies)
    assert len(cases) <= SHOWN
    assert (
        sum(case.suspicious is True for case in cases),
        sum(case.suspicious is False for case in cases),
    ) == shown
    images = [image for study in studies for image in study.images]
    assert all(images[case.number] == case.image for case in cases)
