"""Free-text reports in the styles of three hospitals, generated from a phantom's findings.

Each style is a table of sentence templates by topic. `{side}` is left or right, `{place}` a
quadrant such as "upper outer". Every sentence about one breast names its side; density applies to
both. The zero-shot prompts (configs/quickstart.yaml) share no four consecutive words with the
templates, only category names and other two-word terms.
"""

from typing import Literal

import numpy as np

from sim.synthetic.lesions import Finding
from sim.synthetic.phantom import SIDES, Density, Phantom, Side

Style = Literal["telegraphic", "prose", "structured"]

SIDE_WORD: dict[Side, str] = {"L": "left", "R": "right"}

TEMPLATES: dict[Style, dict[str, tuple[str, ...]]] = {
    "telegraphic": {
        "A": (
            "Breasts almost entirely fatty.",
            "Fatty parenchyma, very low density.",
            "Fat replaced bilaterally, density A.",
        ),
        "B": (
            "Scattered fibroglandular densities.",
            "Mostly fat, some glandular islands, density B.",
            "Scattered islands of gland bilaterally.",
        ),
        "C": (
            "Heterogeneously dense parenchyma.",
            "Patchy dense tissue, density C.",
            "Heterogeneous density, may hide small masses.",
        ),
        "D": (
            "Extremely dense parenchyma.",
            "Very dense throughout, density D.",
            "Extreme density, low sensitivity.",
        ),
        "spiculated": (
            "Spiculated mass {side}, {place}.",
            "{side} irregular mass, spiculated margin.",
            "{place} {side} stellate lesion.",
            "Irregular opacity with spicules, {side} {place}.",
        ),
        "cluster": (
            "Clustered microcalcifications {side}, {place}.",
            "{side} tight group of pleomorphic calcifications.",
            "{place} {side} microcalcification cluster.",
            "Grouped fine calcifications {side}.",
        ),
        "smooth": (
            "Oval mass {side}, circumscribed.",
            "{side} round smooth nodule, {place}.",
            "Well defined opacity {side}, likely cyst.",
            "{place} {side} fibroadenoma, unchanged.",
        ),
        "scattered": (
            "Scattered benign calcifications {side}.",
            "{side} diffuse punctate calcifications.",
            "Single calcifications dispersed over {side} breast.",
            "Calcifications {side}, no grouping.",
        ),
        "clear": (
            "{side} no mass, no calcification.",
            "Nothing focal {side}.",
            "{side} breast clear.",
            "No lesion {side}.",
        ),
        "suspicious": (
            "{side} suspicious, biopsy.",
            "BI-RADS 4 {side}, tissue sampling advised.",
            "{side} highly suspect, BI-RADS 5.",
            "Malignancy suspected {side}.",
            "{side} needs core biopsy.",
        ),
        "benign": (
            "{side} benign, routine screening.",
            "BI-RADS 2 {side}.",
            "{side} no sign of malignancy.",
            "Nothing suspicious {side}, BI-RADS 2.",
            "{side} unremarkable, routine recall.",
        ),
    },
    "prose": {
        "A": (
            "The breasts consist almost entirely of fat.",
            "There is hardly any glandular tissue in either breast.",
            "Both breasts have undergone fatty involution.",
        ),
        "B": (
            "There are scattered areas of fibroglandular density.",
            "A few areas of glandular tissue lie within mostly fatty breasts.",
            "Some residual glandular tissue is present in both breasts.",
        ),
        "C": (
            "The breast tissue is heterogeneously dense.",
            "Much of the parenchyma is dense, which may obscure small masses.",
            "More than half of both breasts is dense glandular tissue.",
        ),
        "D": (
            "The breasts are extremely dense.",
            "Dense tissue fills nearly all of both breasts.",
            "Extreme density lowers the sensitivity of this mammogram.",
        ),
        "spiculated": (
            "There is a spiculated mass in the {place} {side} breast.",
            "An irregular mass with spiculated margins is seen on the {side}.",
            "The {side} breast contains a stellate lesion in its {place} part.",
            "A {side} sided irregular opacity shows radiating strands.",
        ),
        "cluster": (
            "A cluster of microcalcifications is seen in the {place} {side} breast.",
            "The {side} breast shows tightly grouped pleomorphic calcifications.",
            "Fine clustered calcifications are present on the {side}.",
            "In the {place} {side} breast there is a group of microcalcifications.",
        ),
        "smooth": (
            "A smooth oval mass in the {side} breast is probably a cyst.",
            "The {side} breast holds a circumscribed round nodule.",
            "There is a well circumscribed mass in the {place} {side} breast.",
            "A stable fibroadenoma is noted on the {side}.",
        ),
        "scattered": (
            "Benign calcifications are scattered through the {side} breast.",
            "The {side} breast shows a few dispersed round calcifications.",
            "Diffuse punctate calcifications on the {side} look benign.",
            "Calcifications on the {side} are isolated and not grouped.",
        ),
        "clear": (
            "No mass or calcification is seen in the {side} breast.",
            "The {side} breast shows no focal abnormality.",
            "There is nothing to note on the {side}.",
            "The {side} breast appears normal.",
        ),
        "suspicious": (
            "The finding on the {side} is suspicious and should be biopsied.",
            "This {side} lesion raises concern for malignancy, BI-RADS 4.",
            "We advise a core biopsy of the {side} breast.",
            "Cancer of the {side} breast is suspected.",
            "The {side} breast is highly suspicious, BI-RADS 5.",
        ),
        "benign": (
            "There is no evidence of malignancy in the {side} breast.",
            "The {side} breast is benign and returns to routine screening.",
            "Nothing suspicious is found on the {side}, BI-RADS 2.",
            "On the {side} we see no reason for concern.",
            "No further work-up of the {side} breast is needed.",
        ),
    },
    "structured": {
        "A": (
            "Composition: almost entirely fatty (a).",
            "Density: fatty, category A.",
            "Tissue: fat predominates, less than a quarter glandular.",
        ),
        "B": (
            "Composition: scattered fibroglandular density (b).",
            "Density: scattered, category B.",
            "Tissue: fat with scattered gland, up to half glandular.",
        ),
        "C": (
            "Composition: heterogeneously dense (c).",
            "Density: heterogeneous, category C.",
            "Tissue: dense in large areas, over half glandular.",
        ),
        "D": (
            "Composition: extremely dense (d).",
            "Density: extreme, category D.",
            "Tissue: dense nearly everywhere, over three quarters glandular.",
        ),
        "spiculated": (
            "Mass {side}: irregular shape, spiculated margin, {place}.",
            "{side} mass: present, stellate.",
            "Finding {side}: spiculated density, {place} quadrant.",
            "{side} lesion: irregular with spicules.",
        ),
        "cluster": (
            "Calcifications {side}: grouped, fine pleomorphic, {place}.",
            "{side} calcifications: clustered.",
            "Finding {side}: microcalcification cluster, {place} quadrant.",
            "{side} calcification distribution: tight cluster.",
        ),
        "smooth": (
            "Mass {side}: oval, circumscribed margin, {place}.",
            "{side} mass: round and smooth.",
            "Finding {side}: well defined nodule, {place} quadrant.",
            "{side} lesion: cyst or fibroadenoma.",
        ),
        "scattered": (
            "Calcifications {side}: diffuse, punctate.",
            "{side} calcifications: scattered, typically benign.",
            "Finding {side}: dispersed round calcifications.",
            "{side} calcification distribution: diffuse.",
        ),
        "clear": (
            "Mass {side}: none.",
            "{side} calcifications: none.",
            "Finding {side}: negative.",
            "{side} lesion: absent.",
        ),
        "suspicious": (
            "Assessment {side}: BI-RADS 4, suspicious.",
            "Impression {side}: suspicion of malignancy.",
            "Management {side}: tissue diagnosis.",
            "{side} category: highly suggestive of malignancy (5).",
            "{side} recommendation: biopsy.",
        ),
        "benign": (
            "Assessment {side}: BI-RADS 2, benign.",
            "Impression {side}: no suspicion of malignancy.",
            "Management {side}: routine screening.",
            "{side} category: benign (2).",
            "{side} recommendation: none.",
        ),
    },
}


def write_report(rng: np.random.Generator, phantom: Phantom, style: Style) -> str:
    """Return a study's report: density, then findings and impression for each breast."""
    sentences = [_sentence(rng, style, phantom.density)]
    for side in SIDES:
        findings = phantom.findings[side]
        for finding in findings:
            sentences.append(_sentence(rng, style, finding.kind, side, finding))
        if not findings:
            sentences.append(_sentence(rng, style, "clear", side))
        worrying = any(finding.suspicious for finding in findings)
        sentences.append(_sentence(rng, style, "suspicious" if worrying else "benign", side))
    return ("\n" if style == "structured" else " ").join(sentences)


def _sentence(
    rng: np.random.Generator,
    style: Style,
    topic: str | Density,
    side: Side | None = None,
    finding: Finding | None = None,
) -> str:
    templates = TEMPLATES[style][topic]
    template = templates[rng.integers(len(templates))]
    text = template.format(
        side=SIDE_WORD[side] if side else "", place=quadrant(finding) if finding else ""
    )
    return text[0].upper() + text[1:]


def quadrant(finding: Finding) -> str:
    """Return the quadrant of a finding in words."""
    upper = "upper" if finding.upper > 0 else "lower"
    return f"{upper} {'outer' if finding.outer > 0 else 'inner'}"
