"""Evaluation: protocols, their figures with intervals, and the counts that leave a site."""

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


# Protocols that compare images with reports or boxes: no classes, so nothing to group.
WITHOUT_TASKS = (Protocol.RETRIEVAL, Protocol.POINTING)
