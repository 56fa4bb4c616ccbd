"""Statistics of a site's training data: the suppressed counts that may leave it.

Each count is of patients and a multiple of `minimum`; a patient counts once in each category that
one of their training studies has. A category without a patient is left out; a suppressed one is
None (`client/privacy/suppression.py`).
"""

from typing import Literal, get_args

from pydantic import Field, model_validator

from mama.config import Section
from mama.exchange.metrics import Count

Attribute = Literal["density", "BI-RADS", "vendor", "view", "age"]
ATTRIBUTES: tuple[Attribute, ...] = get_args(Attribute)
UNKNOWN = "unknown"
OTHER = "other"
# Words of DICOM's Manufacturer, by the name that leaves a site: the field itself is free text.
VENDOR_WORDS = {
    "Hologic": ("hologic", "lorad"),
    "GE": ("ge", "general electric"),
    "Siemens": ("siemens",),
    "Fujifilm": ("fuji", "fujifilm"),
    "Philips": ("philips", "sectra"),
    "IMS": ("ims", "giotto"),
    "Planmed": ("planmed",),
    "Carestream": ("carestream", "kodak"),
    "Agfa": ("agfa",),
    "Konica": ("konica",),
    "Canon": ("canon", "toshiba"),
}
# The closed list of categories. Densities are those of BI-RADS, and mini-MIAS's F, G and D.
CATEGORIES: dict[Attribute, tuple[str, ...]] = {
    "density": ("A", "B", "C", "D", "F", "G", UNKNOWN),
    "BI-RADS": ("0", "1", "2", "3", "4", "5", "6", UNKNOWN),
    "vendor": (*VENDOR_WORDS, OTHER, UNKNOWN),
    "view": ("CC", "MLO", "ML", "LM", OTHER, UNKNOWN),
    "age": (
        *("<30", "30-39", "40-49", "50-59", "60-69", "70-79", "80-89", "90+"),
        UNKNOWN,
    ),
}


class Table(Section):
    """Counts of one attribute; `total` is the sum of all cells, the suppressed ones included."""

    total: Count
    cells: dict[str, Count | None]


class DataStatistics(Section):
    """Counts of a site's training data; `minimum` is its `policy.minimum_cell`."""

    minimum: int = Field(ge=1, le=1000)
    patients: Count
    studies: Count
    tables: dict[Attribute, Table]

    @model_validator(mode="after")
    def _possible(self) -> "DataStatistics":
        """Refuse what no honest site sends, without repeating names that the site chose."""
        counts = [self.patients, self.studies]
        for attribute, table in self.tables.items():
            if not set(table.cells) <= set(CATEGORIES[attribute]):
                raise ValueError(f"{attribute} has an unknown category")
            shown = [count for count in table.cells.values() if count is not None]
            counts += [table.total, *shown]
            # Each cell and the total are rounded by half of the minimum at most.
            slack = self.minimum * (len(shown) + 1) / 2
            hidden = len(shown) < len(table.cells)
            excess = sum(shown) - table.total
            if excess > slack or (not hidden and -excess > slack):
                raise ValueError(f"the cells of {attribute} do not add up to its total")
            if 0 in shown:
                raise ValueError(f"{attribute} has an empty cell")
        if any(count % self.minimum for count in counts):
            raise ValueError("a count is no multiple of the minimum")
        return self
