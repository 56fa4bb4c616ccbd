"""The name of a run's random choices at a site, which its batches are drawn by.

The first experiment with a seed draws by the site's name alone, so that a run can be repeated anywhere to the bit. Any
other one with that seed has a name of its own that only this site can make: two experiments over the same batches, one
a step longer than the other, would give that one step's few patients away by their difference. Under secure
aggregation every run draws anew, so that no two sums hold the same update.
"""

import hmac
import re
import secrets
from hashlib import sha256

from client.sitefile import SiteFile
from mama.config import Experiment
from mama.exchange.protocol import Task
from mama.files import write_bytes
from mama.sealed import read_sealed, write_sealed


def stream_of(site: SiteFile, experiment: Experiment, task: Task) -> str:
    """The name for a training task.

    Raises:
        IntegrityError: the record of first experiments is damaged.
    """
    if experiment.privacy.secure:
        return f"{site.site}|{_salt(site, task.run)}|{task.experiment_hash}"
    path = site.privacy / "seeds.json"
    fix = "Restore it from a backup; without it nothing says which batches were drawn before"
    first = read_sealed(path, fix) or {}
    seed, own = str(experiment.seed), experiment.hash()
    if seed not in first:
        write_sealed(path, first | {seed: own})
    elif first[seed] != own:
        return f"{site.site}|{hmac.digest(site.read_secret(), own.encode(), sha256).hex()}"
    return site.site


def _salt(site: SiteFile, run: str) -> str:
    """64 hex digits that the operating system drew for the run."""
    path = site.run_folder(run) / "secure" / "salt"
    salt = path.read_text(errors="replace", encoding="utf-8") if path.exists() else ""
    if not re.fullmatch("[0-9a-f]{64}", salt):
        salt = secrets.token_hex(32)
        write_bytes(path, salt.encode(), private=True)
    return salt
