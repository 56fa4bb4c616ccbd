"""Tables of reports and labels in the forms that hospitals and public sets write."""

from mama.data.tables.problems import Problems
from mama.data.tables.read import read_table
from mama.data.tables.table import Row, Table

__all__ = ["Problems", "Row", "Table", "read_table"]
