"""Report templates for mini-MIAS, which has labels but no reports.

The reports are rendered labels, so a model trained on them is template-supervised. The zero-shot
prompts in `configs/mias.yaml` share no sequence of three words with any report.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mama.data.studies import Laterality

SIDE_NAMES: dict[Laterality, str] = {"L": "left", "R": "right"}

DENSITY: dict[str, tuple[str, ...]] = {
    "F": (
        "Both breasts consist mainly of fat.",
        "Fatty breast tissue throughout.",
        "The parenchyma has largely been replaced by fat.",
        "There is very little glandular tissue on either side.",
        "Predominantly fatty background, easy to assess.",
        "Breast density is low.",
        "Lucent background with sparse fibroglandular strands.",
        "Adipose tissue makes up nearly all of the breast volume.",
        "Involuted, fatty breasts.",
        "Low-density breasts with only a few thin strands of parenchyma.",
    ),
    "G": (
        "The breasts contain a mixture of fat and glandular tissue.",
        "Fatty-glandular background pattern.",
        "Scattered areas of fibroglandular tissue are seen on both sides.",
        "Breast density is intermediate.",
        "A moderate amount of glandular parenchyma is interspersed with fat.",
        "Mixed parenchymal pattern, partly fatty and partly glandular.",
        "Islands of glandular tissue lie within fatty breasts.",
        "Average density with patchy fibroglandular parenchyma.",
        "Fat and gland are present in about equal parts.",
        "Moderately glandular breasts with fat between the lobules.",
    ),
    "D": (
        "The breasts are dense.",
        "Dense glandular tissue fills most of both breasts.",
        "Extensive fibroglandular parenchyma with little fat between.",
        "Breast density is high, which may hide small lesions.",
        "Markedly dense parenchyma limits the sensitivity of the examination.",
        "Dense-glandular background pattern.",
        "Abundant compact glandular tissue on both sides.",
        "Nearly the whole breast is taken up by dense fibroglandular tissue.",
        "Very dense breasts, difficult to assess.",
        "Heavy, confluent parenchyma throughout.",
    ),
}

FINDINGS: dict[str, tuple[str, ...]] = {
    "CALC": (
        "A group of calcifications is seen in the {side} breast.",
        "Clustered microcalcifications in the {side} breast.",
        "There are calcifications on the {side}.",
        "Calcific particles form a cluster in the {side} breast.",
        "The {side} breast shows grouped calcification.",
    ),
    "CIRC": (
        "A well-defined round mass is seen in the {side} breast.",
        "Circumscribed mass in the {side} breast.",
        "There is a sharply outlined opacity on the {side}.",
        "A rounded mass with a clear margin lies in the {side} breast.",
        "The {side} breast contains a smooth, circumscribed lesion.",
    ),
    "SPIC": (
        "A spiculated mass is seen in the {side} breast.",
        "Stellate lesion in the {side} breast.",
        "There is a mass with radiating margins on the {side}.",
        "A mass with spicules lies in the {side} breast.",
        "The {side} breast contains an opacity with spiculated borders.",
    ),
    "MISC": (
        "An ill-defined mass is seen in the {side} breast.",
        "Mass with indistinct margins in the {side} breast.",
        "There is a vague opacity on the {side}.",
        "A poorly outlined density lies in the {side} breast.",
        "The {side} breast contains a lesion without a clear border.",
    ),
    "ARCH": (
        "Architectural distortion is seen in the {side} breast.",
        "Distorted architecture in the {side} breast.",
        "The parenchyma is pulled out of shape on the {side}.",
        "The tissue planes of the {side} breast are distorted.",
        "The {side} breast shows retraction of its architecture.",
    ),
    "ASYM": (
        "An asymmetry is seen in the {side} breast.",
        "Asymmetric density in the {side} breast.",
        "There is more tissue on the {side}, without a counterpart.",
        "Focal asymmetry of the {side} breast.",
        "The {side} breast shows an asymmetric area of parenchyma.",
    ),
}

NORMAL = (
    "No abnormality in the {side} breast.",
    "The {side} breast is unremarkable.",
    "Normal appearances on the {side}.",
    "No mass, distortion or calcification on the {side}.",
    "The {side} side shows no focal lesion.",
)

IMPRESSIONS: dict[bool, tuple[str, ...]] = {
    False: (
        "Impression: benign change of the {side} breast.",
        "The finding on the {side} is benign.",
        "Benign appearance on the {side}, routine follow-up.",
        "The {side} breast shows no sign of malignancy.",
        "In summary, a harmless finding on the {side}.",
    ),
    True: (
        "Impression: suspicious of malignancy on the {side}.",
        "The finding on the {side} is suspicious, biopsy advised.",
        "Malignant appearance on the {side}.",
        "Carcinoma of the {side} breast is suspected.",
        "In summary, a malignant lesion of the {side} breast.",
    ),
}


@dataclass(frozen=True)
class Finding:
    """One abnormality: its class (a key of `FINDINGS`) and its malignancy."""

    kind: str
    malignant: bool


def render(patient: str, density: str | None, sides: Mapping[Laterality, Sequence[Finding]]) -> str:
    """Return the report of one study; the same patient always gets the same wording.

    Args:
        patient: key that selects the paraphrases.
        density: "F", "G" or "D"; None omits density from the report.
        sides: findings per described breast; an empty list means a normal breast.
    """
    sentences = [_draw(DENSITY[density], patient, "density")] if density else []
    for side, findings in sorted(sides.items()):
        key = f"{patient} {side}"
        texts = [
            _draw(FINDINGS[finding.kind], key, f"finding {number}")
            for number, finding in enumerate(findings)
        ]
        if findings:
            malignant = any(finding.malignant for finding in findings)
            texts.append(_draw(IMPRESSIONS[malignant], key, "impression"))
        else:
            texts.append(_draw(NORMAL, key, "normal"))
        sentences += [text.format(side=SIDE_NAMES[side]) for text in texts]
    return " ".join(sentences)


def _draw(choices: Sequence[str], key: str, what: str) -> str:
    digest = hashlib.blake2b(what.encode(), key=key.encode(), digest_size=8).digest()
    return choices[int.from_bytes(digest) % len(choices)]
