"""The site's node: Flower's SuperNode, which keeps contact with the coordinator.

Started as a program by `mama-site start`:

python -I -m client.service.node SITE.yaml PORT
"""

import os
import sys
import time
from pathlib import Path

from client.identity.tls import context_for
from client.service.flower.fleet import ABSENCE_S, say_goodbye
from client.service.flower.node import run_node
from client.service.status import Record, ServiceFolder
from client.site.config import load_site
from mama.errors import MamaError
from mama.exchange.message_size import most_bytes
from mama.system.sealed import read_if_whole


def main(site_file: Path, port: int) -> None:
    """Run the node and keep the state of its contact with the coordinator in node.json."""
    folder = ServiceFolder(load_site(site_file))
    coordinator = folder.coordinator
    record = Record(folder.node)
    earlier = read_if_whole(folder.node).get("node")
    record.put(news=True, process=os.getpid(), registered=False, attempt=time.time(), node=earlier)
    if earlier and say_goodbye(coordinator, earlier):
        time.sleep(ABSENCE_S)

    def report(path: str, node: int | None, trouble: str | None) -> None:
        now, activated = time.time(), node is not None
        news = activated or trouble != record.values.get("reason")
        changed = {"attempt": now, "reason": trouble}
        changed |= {"success": now} if trouble is None else {}
        changed |= {"node": node, "registered": True} if activated else {}
        record.put(news=news, **changed)

    run_node(
        [
            *("--superlink", coordinator.address),
            *("--root-certificates", str(coordinator.certificate)),
            *("--auth-supernode-private-key", str(coordinator.key)),
            *("--host", "127.0.0.1", "--port", str(port)),
            *("--isolation", "process", "--superexec-auth-secret-file", str(folder.secret)),
        ],
        context_for(coordinator),
        report,
        # For any experiment; SCAFFOLD's variates double the number of values.
        most_bytes(2 * folder.site.policy.max_parameters),
    )


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), int(sys.argv[2]))
    except MamaError as error:
        sys.exit(f"error: {error}")
