"""`mama-site`: take part in federated training as one hospital."""

# ruff: noqa: F401, I001  (imports register the commands, and their order is that of the help)
from client.cli import set_up, run, decide, look
from client.cli.app import app
from mama.system.cli import run_cli


def main() -> None:
    """Run `mama-site`."""
    run_cli(app)
