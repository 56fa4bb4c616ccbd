"""Commands by which a person decides: policy and approvals."""

from pathlib import Path
from typing import Annotated

import typer

from client.cli.app import DECIDE, SiteArgument, app


@app.command(rich_help_panel=DECIDE)
def policy(
    site: SiteArgument,
    experiment: Annotated[
        Path | None, typer.Option("--explain", help="Experiment file to review, rule by rule")
    ] = None,
    accept_: Annotated[
        bool, typer.Option("--accept", help="Put the site file's policy in force even if weaker")
    ] = False,
) -> None:
    """Review an experiment against the site's policy, privacy budget and patient numbers.

    Without an experiment, check that the policy is not weaker than the one in force.
    """
    from datetime import datetime

    from client.policy.in_force import accept, refuse_weaker, weaker
    from client.policy.licence import review_licence
    from client.policy.patients import sentences
    from client.policy.rules import explain, review
    from client.site.config import load_site
    from mama.config import Experiment
    from mama.config.load import load

    settings = load_site(site)
    if accept_:
        typer.echo(weaker(settings) or "no rule is weaker than before")
        accept(settings)
        typer.echo("the site file's policy is in force")
    if experiment is None:
        refuse_weaker(settings)
        return
    reviewed = load(Experiment, experiment, without=["simulation"])
    found = [
        *review(settings, reviewed, datetime.now()),
        *review_licence(settings, reviewed),
    ]
    if reviewed.privacy.mode == "patient":
        # Imported late: Opacus takes seconds to load.
        from client.policy.private_terms import review_private

        found += review_private(settings, reviewed)
    typer.echo(explain(found))
    for line in sentences(settings, reviewed):
        typer.echo(f"leaves the site: {line}")
    if not all(finding.passes for finding in found):
        raise typer.Exit(1)


@app.command(rich_help_panel=DECIDE)
def approve(
    site: SiteArgument,
    experiment: Annotated[
        str | None,
        typer.Argument(help="Experiment hash, or at least its first 8 digits; omit to list all"),
    ] = None,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Withdraw the approval or the rejection")
    ] = False,
    reject: Annotated[
        bool, typer.Option("--reject", help="Reject it, even where no approval is needed")
    ] = False,
    runs: Annotated[int, typer.Option(min=1, help="Total number of runs to approve")] = 1,
    model: Annotated[str, typer.Option(help="Also accept a first model with this checksum")] = "",
    join: Annotated[
        str, typer.Option(help="Run whose current model is accepted without the usual checks")
    ] = "",
) -> None:
    """Approve or reject an experiment, or list pending and decided ones and what would leave."""
    from client.policy.approval import Approvals
    from client.policy.patients import sentences
    from client.site.config import load_site
    from mama.config import Experiment
    from mama.config.load import load
    from mama.errors import ConfigError

    settings = load_site(site)
    approvals = Approvals(settings)
    if experiment is None:
        for path in approvals.listed():
            pending = load(Experiment, path)
            typer.echo(f"{path.stem}\n  {pending.name}, {path}")
            for line in sentences(settings, pending):
                typer.echo(f"  {line}")
        if not approvals.listed():
            typer.echo("no experiment is pending approval")
        for line in approvals.given():
            typer.echo(line)
    elif withdraw and reject:
        raise ConfigError(
            "--withdraw and --reject exclude each other", where=experiment, fix="Give one of them"
        )
    elif reject:
        known = approvals.reject(approvals.whole(experiment))
        typer.echo("rejected" if known else "rejected; no such experiment is pending")
    elif withdraw:
        typer.echo(approvals.withdraw(approvals.whole(experiment)))
    else:
        known = approvals.approve(approvals.whole(experiment), runs, model, join)
        typer.echo("approved" if known else "approved in advance; no such experiment is pending")
