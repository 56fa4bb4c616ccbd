"""Codes of EMBED's clinical table (MagView) as findings, categories and pathology."""

from collections.abc import Callable, Mapping

from mama.data.adapters.public.captions import Finding
from mama.data.adapters.public.files import among
from mama.data.tables.codes import CodeError

ASSESSMENTS = {"A": "0", "N": "1", "B": "2", "P": "3", "S": "4", "M": "5", "K": "6", "X": None}
DENSITIES = {"1": "A", "2": "B", "3": "C", "4": "D", "5": "male"}
DENSITIES |= {f"{code}.0": density for code, density in DENSITIES.items()}
# Invasive and in-situ cancer; then high risk, borderline, benign, negative; others say nothing.
SEVERITIES: dict[str, bool | None] = {
    "0": True, "1": True, "2": False, "3": False, "4": False, "5": False, "6": None,
}  # fmt: skip
SEVERITIES |= {f"{code}.0": cancer for code, cancer in SEVERITIES.items()}

SHAPES = {
    "G": Finding("mass"),
    "R": Finding("mass", ("round",)),
    "O": Finding("mass", ("oval",)),
    "X": Finding("mass", ("irregular",)),
    "Q": Finding("distortion", ("questionable",)),
    "A": Finding("distortion"),
    "T": Finding("duct", ("solitary",)),
    "N": Finding("lymph_node", ("intramammary",)),
    "B": Finding("global_asymmetry"),
    "F": Finding("focal_asymmetry"),
    "S": Finding("asymmetry"),
    "V": Finding("developing_asymmetry"),
    "Y": Finding("lymph_node"),
}
MARGINS = {
    "D": "circumscribed",
    "U": "obscured",
    "M": "microlobulated",
    "I": "indistinct",
    "S": "spiculated",
}
MASS_DENSITIES = {"+": "high-density", "=": "isodense", "-": "low-density", "0": "fat-containing"}
CALCIFICATIONS = {
    "A": "amorphous", "9": "benign", "H": "coarse heterogeneous", "C": "popcorn-like",
    "D": "dystrophic", "E": "rim", "F": "fine linear", "B": "fine linear branching", "G": "",
    "I": "fine pleomorphic", "L": "large rod-like", "M": "milk-of-calcium", "J": "oil-cyst",
    "K": "pleomorphic", "P": "punctate", "R": "round", "S": "skin", "O": "lucent-centred",
    "U": "suture", "V": "vascular", "Q": "coarse",
}  # fmt: skip
DISTRIBUTIONS = {
    "G": "grouped",
    "S": "segmental",
    "R": "regional",
    "D": "diffuse",
    "L": "linear",
    "C": "clustered",
}

assessment = among(ASSESSMENTS)
density = among(DENSITIES)
severity = among(SEVERITIES)
shape = among(SHAPES)
margin = among(MARGINS)


def mass_density(text: str) -> str | None:
    """Return the density of a mass; its codes + - = are letters to no other table."""
    text = text.strip().removesuffix(".0")
    if text.lower() in ("", "nan"):
        return None
    if text not in MASS_DENSITIES:  # a spreadsheet turns + and = into #NAME?
        raise CodeError(" ".join(MASS_DENSITIES))
    return MASS_DENSITIES[text]


def several(meanings: Mapping[str, str]) -> Callable[[str], tuple[str, ...] | None]:
    """Return a reader of cells with one code or several between commas."""
    one = among(meanings)

    def read(text: str) -> tuple[str, ...] | None:
        words = [one(part.strip().removesuffix(".0")) for part in text.split(",")]
        return tuple(word for word in words if word) or (
            () if any(w == "" for w in words) else None
        )

    return read


calcification = several(CALCIFICATIONS)
distribution = several(DISTRIBUTIONS)
