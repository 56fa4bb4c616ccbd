"""Plain text of reports, whichever format they were exported in."""

from mama.data.reports.formats.text import plain

__all__ = ["plain"]
