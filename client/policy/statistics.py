"""Statistics of the site's training data for the coordinator, if its policy releases them.

They are released by `statistics` in `policy.metrics` and never in a private run, whose guarantee
they would break. Under secure aggregation the policy alone decides: masks hide updates, not the
figures that a site releases.

The answer is kept beside the privacy ledger, and given again until at least `policy.minimum_cell`
patients have joined, left or changed: neither repeated requests nor the difference of two answers
reveal a single patient.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable
from hashlib import sha256

from pydantic import ValidationError

from client.privacy.suppression import released, rounded
from client.site.config import SiteFile
from client.site.dataset import dataset_of
from mama.config import Experiment
from mama.data.reports.categories.birads import most_concerning
from mama.data.studies import Study
from mama.errors import IntegrityError
from mama.exchange.metrics import (
    CATEGORIES,
    OTHER,
    UNKNOWN,
    VENDOR_WORDS,
    Attribute,
    DataStatistics,
    Table,
)
from mama.system.files import private_folder
from mama.system.locks import locked
from mama.system.sealed import read_sealed, write_sealed

logger = logging.getLogger("fedmama.client")
GROUP = "statistics"
_VENDORS = {
    name: re.compile(rf"\b({'|'.join(words)})\b", re.IGNORECASE)
    for name, words in VENDOR_WORDS.items()
}

# Categories of one patient, by attribute.
Categories = dict[Attribute, list[str]]


def statistics_of(site: SiteFile, experiment: Experiment) -> DataStatistics | None:
    """Return the statistics that may leave the site now; None if none may.

    Raises:
        DataError, ConfigError: as `dataset_of`.
    """
    if GROUP not in site.policy.metrics or experiment.privacy.mode != "none":
        return None
    private_folder(site.privacy)
    path = site.privacy / "statistics.json"
    with locked(path.with_suffix(".lock")):
        try:
            before = read_sealed(path)
            kept = DataStatistics.model_validate(before["answer"]) if before else None
        except (IntegrityError, ValidationError, KeyError):
            # A new answer could differ from the lost one by a single patient.
            logger.warning(
                "site %s: %s is damaged: no statistics are sent. Restore it, or remove it to have "
                "them counted anew",
                site.site,
                path,
            )
            return None
        studies, minimum = dataset_of(site).studies("train"), site.policy.minimum_cell
        patients = categories_of(studies)
        digests = {patient: _digest(found) for patient, found in patients.items()}
        if before and kept and kept.minimum == minimum:
            then = before["patients"]
            changed = [p for p in digests.keys() | then.keys() if digests.get(p) != then.get(p)]
            if len(changed) < minimum:
                return kept
        if len(patients) < minimum:
            return None
        answer = count(patients, len(studies), minimum, site.read_secret())
        write_sealed(path, {"answer": answer.model_dump(), "patients": digests})
        return answer


def count(
    patients: dict[str, Categories], studies: int, minimum: int, secret: bytes
) -> DataStatistics:
    """Return the suppressed counts of patients.

    Args:
        patients: the categories of each patient.
        studies: number of their studies.
        minimum: smallest count that may leave, at most the number of patients.
        secret: the site's key, which chooses among cells to suppress.
    """
    tables = {}
    for attribute, categories in CATEGORIES.items():
        found = Counter(name for one in patients.values() for name in one[attribute])
        cells = released({name: found[name] for name in categories}, minimum, secret)
        if cells is not None:
            tables[attribute] = Table(total=rounded(found.total(), minimum), cells=cells)
    return DataStatistics(
        minimum=minimum,
        patients=rounded(len(patients), minimum),
        studies=rounded(studies, minimum),
        tables=tables,
    )


def categories_of(studies: Iterable[Study]) -> dict[str, Categories]:
    """Return each patient's categories; an attribute is unknown only if it is in all studies."""
    found: dict[str, dict[Attribute, set[str]]] = {}
    for study in studies:
        patient = found.setdefault(study.patient, {attribute: set() for attribute in CATEGORIES})
        for attribute, names in _of_study(study).items():
            patient[attribute] |= names & set(CATEGORIES[attribute])
    return {
        patient: {name: sorted(known - {UNKNOWN}) or [UNKNOWN] for name, known in of_one.items()}
        for patient, of_one in found.items()
    }


def vendor_of(manufacturer: str) -> str:
    """Return the vendor's name on the closed list that free text of a header stands for."""
    return next((name for name, words in _VENDORS.items() if words.search(manufacturer)), OTHER)


def _of_study(study: Study) -> dict[Attribute, set[str]]:
    birads = most_concerning(list((study.labels.birads or {}).values()))
    views = {image.view for image in study.images if image.view}
    return {
        "density": {study.labels.density or UNKNOWN},
        "BI-RADS": {birads[0] if birads else UNKNOWN},
        "vendor": {vendor_of(image.vendor) for image in study.images if image.vendor},
        "view": {view if view in CATEGORIES["view"] else OTHER for view in views},
        "age": {study.age or UNKNOWN},
    }


def _digest(categories: Categories) -> str:
    return sha256(repr(sorted(categories.items())).encode()).hexdigest()[:16]
