"""Limit on a task's tensors: the largest size in bytes that an honest coordinator sends."""

from datetime import datetime
from pathlib import Path

from client.identity.roster import take_roster
from client.policy import rules
from client.policy.in_force import put_in_force
from client.site.config import load_site
from client.training import tasks
from mama.exchange.message_size import most_bytes
from mama.exchange.protocol import MAX_HEADER, WAVES, Task

# Messages of secure aggregation have one line per peer; the second wave is the largest.
WAVE_BYTES = 2 * MAX_HEADER


def room_of(site_file: Path, header: object) -> int:
    """Return the limit in bytes; 0 if the task needs no tensors, or if this site refuses it."""
    try:
        task = Task.decode(header)
        if task.kind in ("describe", "statistics"):
            return 0
        if task.kind in WAVES:
            return WAVE_BYTES
        site, experiment = load_site(site_file), task.read_experiment()
        put_in_force(site)
        take_roster(site, task.roster)
        rules.check(site, experiment, datetime.now())
        return most_bytes(rules.values_of(tasks.shapes(site, experiment)))
    except Exception:
        # The app fails in the same way before it reads any tensor, and answers with the error.
        return 0
