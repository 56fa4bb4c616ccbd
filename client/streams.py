"""The name of a run's random choices at a site, which its batches are drawn by.

The first experiment with a seed draws by the site's name alone, so that a run can be repeated anywhere to the bit. Any
other one with that seed has a name of its own that only this site can make: two experiments over the same batches, one
a step longer than the other, would give that one step's few patients away by their difference.
"""

import hmac
from hashlib import sha256

from client.secure_waves import stream_of as secure_stream_of
from client.sitefile import SiteFile
from mama.config import Experiment
from mama.exchange.protocol import Task
from mama.sealed import read_sealed, write_sealed


def stream_of(site: SiteFile, experiment: Experiment, task: Task) -> str:
    """The name for a training task.

    Raises:
        IntegrityError: the record of first experiments is damaged.
    """
    if experiment.privacy.secure:
        return secure_stream_of(site, task)
    path = site.privacy / "seeds.json"
    fix = "Restore it from a backup; without it nothing says which batches were drawn before"
    first = read_sealed(path, fix) or {}
    seed, own = str(experiment.seed), experiment.hash()
    if seed not in first:
        write_sealed(path, first | {seed: own})
    elif first[seed] != own:
        return f"{site.site}|{hmac.digest(site.read_secret(), own.encode(), sha256).hex()}"
    return site.site
