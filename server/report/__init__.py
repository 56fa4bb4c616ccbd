"""Report, figures and status of a run."""
