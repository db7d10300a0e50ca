"""Application components (draft-ietf-mls-extensions): dictionary and additional authenticated data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Self

from linearized.mimi.tls import Bytes, Struct, Uint, Uint16, Vector

# draft-ietf-mls-extensions, IANA Considerations
APP_COMPONENTS = 0x0001
SAFE_AAD_COMPONENT = 0x0002
CONTENT_MEDIA_TYPES = 0x0003


def _require_sorted(component_ids: Sequence[int]) -> None:
    # "The entries in the `component_data` MUST be sorted by `component_id`, and there MUST be at most one
    # entry for each `component_id`."
    if any(first >= second for first, second in pairwise(component_ids)):
        raise ValueError("components are repeated or out of order")


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentData(Struct):
    """The data of one component."""

    component_id: Uint16
    data: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AppDataDictionary(Struct):
    """Data by component: the ``app_data_dictionary`` extension, and the extension point of MIMI messages."""

    component_data: Annotated[tuple[ComponentData, ...], Vector(ComponentData)] = ()

    def __post_init__(self) -> None:
        _require_sorted([entry.component_id for entry in self.component_data])

    @classmethod
    def of(cls, data: Mapping[int, bytes]) -> Self:
        """The dictionary with this data, by component ID."""
        return cls(
            component_data=tuple(
                ComponentData(component_id=key, data=value) for key, value in sorted(data.items())
            )
        )

    def to_mapping(self) -> dict[int, bytes]:
        """The data by component ID."""
        return {entry.component_id: entry.data for entry in self.component_data}


NO_APP_DATA = AppDataDictionary()


@dataclass(frozen=True, slots=True, kw_only=True)
class SafeAADItem(Struct):
    """The additional authenticated data of one component."""

    component_id: Uint16
    aad_item_data: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SafeAAD(Struct):
    """The whole ``authenticated_data`` of a message in a group that has the ``safe_aad`` component."""

    aad_items: Annotated[tuple[SafeAADItem, ...], Vector(SafeAADItem)] = ()

    def __post_init__(self) -> None:
        _require_sorted([item.component_id for item in self.aad_items])

    def item(self, component_id: int) -> bytes | None:
        """The data of a component, ``None`` if it has none."""
        return next(
            (item.aad_item_data for item in self.aad_items if item.component_id == component_id), None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentsList(Struct):
    """The value of ``app_components`` and ``safe_aad``: in a leaf what is supported, in a GroupContext what
    every member must understand.
    """

    component_ids: Annotated[tuple[int, ...], Vector(Uint(2))] = ()
