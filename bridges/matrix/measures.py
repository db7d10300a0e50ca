"""What a message says of a file's width, height and duration. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# What is kept of a file's ``info``: pixels and milliseconds.
MEASURES = ("w", "h", "duration")
THUMBNAIL_MEASURES = ("w", "h")
_MAX_MEASURE = 2**31


def measures(values: object, names: Sequence[str]) -> dict[str, int]:
    """Those of the measures called ``names`` that ``values`` has and that can be such."""
    if not isinstance(values, Mapping):
        return {}
    return {name: values[name] for name in names if is_measure(values.get(name))}


def is_measure(value: object) -> bool:
    """Whether this can be a width, height or duration."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_MEASURE
