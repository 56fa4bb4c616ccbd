"""Evaluation: zero-shot classification, linear probes and the counts they are scored from."""

from enum import StrEnum


class Column(StrEnum):
    """Column of a dataset that units of an evaluation are grouped by."""

    VENDOR = "vendor"
    DENSITY = "density"
    AGE = "age"
    SIDE = "side"


class Protocol(StrEnum):
    """Protocol by which `mama evaluate` scores a model."""

    ZERO_SHOT = "zero-shot"
    LINEAR_PROBE = "linear-probe"
    RETRIEVAL = "retrieval"
    POINTING = "pointing"
