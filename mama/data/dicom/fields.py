"""Access to header fields as plain text, numbers and codes, whatever their type in the file."""

import unicodedata
from typing import Any

import pydicom


class Fields:
    """Header of a DICOM file; missing, empty and malformed fields read as empty.

    Args:
        dataset: parsed header; nested sequences included.
    """

    def __init__(self, dataset: pydicom.Dataset):
        self._dataset = dataset

    def text(self, name: str) -> str:
        """Return a field's text, stripped; of several values, joined by backslashes."""
        return "\\".join(self.values(name))

    def upper(self, name: str) -> str:
        """Return a field's text in upper case."""
        return self.text(name).upper()

    def plain(self, name: str) -> str:
        """Return a field's text in capitals, without accents and underscores."""
        letters = unicodedata.normalize("NFKD", self.upper(name).replace("_", " "))
        return "".join(letter for letter in letters if not unicodedata.combining(letter))

    def values(self, name: str) -> list[str]:
        """Return the values of a field as text, stripped."""
        value = _get(self._dataset, name)
        if value is None or isinstance(value, pydicom.Sequence):
            return []
        several = isinstance(value, pydicom.multival.MultiValue | list | tuple)
        return [str(one).strip() for one in (value if several else [value])]

    def number(self, name: str) -> float | None:
        """Return a field's first value as a number."""
        try:
            return float(self.values(name)[0])
        except (IndexError, ValueError):
            return None

    def codes(self, name: str) -> list[tuple[str, str]]:
        """Return code value and upper-case meaning of each item of a code sequence."""
        return [_code(item) for item in _items(self._dataset, name)]

    def modifiers(self, name: str, modifier: str) -> list[tuple[str, str]]:
        """Return the codes of a sequence, also of one nested in the items of another."""
        nested = (i for item in _items(self._dataset, name) for i in _items(item, modifier))
        return [*self.codes(modifier), *map(_code, nested)]

    def shared(self, group: str, name: str) -> str:
        """Return the text of a field in a functional group of an enhanced object."""
        for outer in _items(self._dataset, "SharedFunctionalGroupsSequence"):
            for item in _items(outer, group):
                return Fields(item).text(name)
        return ""


def _get(dataset: pydicom.Dataset, name: str) -> Any:
    try:
        return dataset.get(name)
    except Exception:  # pydicom raises almost anything on a malformed value
        return None


def _items(dataset: pydicom.Dataset, name: str) -> list[pydicom.Dataset]:
    value = _get(dataset, name)
    return list(value) if isinstance(value, pydicom.Sequence) else []


def _code(item: pydicom.Dataset) -> tuple[str, str]:
    fields = Fields(item)
    return fields.text("CodeValue") or fields.text("LongCodeValue"), fields.upper("CodeMeaning")
