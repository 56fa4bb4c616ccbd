"""Kind of an object, by its header: a mammogram for reading, a special one, or none."""

from mama.data.dicom.kinds.decide import exclusion, special_kinds

__all__ = ["exclusion", "special_kinds"]
