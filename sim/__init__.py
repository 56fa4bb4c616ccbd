"""All hospitals on one machine: synthetic sites, engines and the newcomer's command."""
