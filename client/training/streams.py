"""Names of the random streams from which a site draws its batches.

The first experiment with a seed uses the site's name alone, so that a run can be reproduced
anywhere bit by bit. Any other experiment with that seed has its own name, which only this site can
derive: the difference of two experiments over the same batches, one of them a step longer, would
expose the few patients of that step. Under secure aggregation every run has its own name, so that
no two sums contain the same update.
"""

import hmac
import re
import secrets
from hashlib import sha256

from client.site.config import SiteFile
from mama.config import Experiment
from mama.exchange.protocol import Task
from mama.system.files import write_bytes
from mama.system.sealed import read_sealed, write_sealed


def stream_of(site: SiteFile, experiment: Experiment, task: Task) -> str:
    """Return the stream's name for a training task.

    Raises:
        IntegrityError: the record of first experiments is damaged.
    """
    if experiment.privacy.secure:
        return f"{site.site}|{_salt(site, task.run)}|{task.experiment_hash}"
    path = site.privacy / "seeds.json"
    fix = "Restore it from a backup; without it earlier batches are unknown"
    first = read_sealed(path, fix) or {}
    seed, own = str(experiment.seed), experiment.hash()
    if seed not in first:
        write_sealed(path, first | {seed: own})
    elif first[seed] != own:
        return f"{site.site}|{hmac.digest(site.read_secret(), own.encode(), sha256).hex()}"
    return site.site


def _salt(site: SiteFile, run: str) -> str:
    """Return 64 random hex digits, drawn once per run by the operating system."""
    path = site.run_folder(run) / "secure" / "salt"
    salt = path.read_text(errors="replace", encoding="utf-8") if path.exists() else ""
    if not re.fullmatch("[0-9a-f]{64}", salt):
        salt = secrets.token_hex(32)
        write_bytes(path, salt.encode(), private=True)
    return salt
