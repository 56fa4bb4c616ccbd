"""Room for a task's tensors: as many bytes as an honest coordinator could send with it."""

from datetime import datetime
from pathlib import Path

from client import policy, work
from client.in_force import require_in_force
from client.roster import take_roster
from client.sitefile import load_site
from mama.exchange.message_size import most_bytes
from mama.exchange.protocol import MAX_HEADER, WAVES, Task

# Messages of secure aggregation have a line a peer; the second wave brings the most.
WAVE_BYTES = 2 * MAX_HEADER


def room_of(site_file: Path, header: object) -> int:
    """Bytes of tensors that a task can bring: 0 if it needs none, or is one that this site refuses."""
    try:
        task = Task.decode(header)
        if task.kind == "describe":
            return 0
        if task.kind in WAVES:
            return WAVE_BYTES
        site, experiment = load_site(site_file), task.read_experiment()
        require_in_force(site)
        take_roster(site, task.roster)
        policy.check(site, experiment, datetime.now())
        return most_bytes(policy.values_of(work.shapes(site, experiment)))
    except Exception:
        # The app comes to the same, before it looks at any tensor, and answers what it was.
        return 0
