"""What several policy components share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, TypeAlias

from linearized.mimi.tls import Enumeration, String, Struct, Text, Vector

# A policy is read by everybody in the room with every GroupInfo. A list in it that is longer than this is a
# mistake or an attack: a hub compares roles with each other, and a person is to read the rest.
MAX_ITEMS = 256
# A name for people to read; what stands beside it may say more.
MAX_NAME_BYTES = 255
MAX_DESCRIPTION_BYTES = 4096


class Optionality(IntEnum):
    """Whether something may or must be done; the draft's text says "mandatory" for ``REQUIRED``."""

    OPTIONAL = 0
    REQUIRED = 1
    FORBIDDEN = 2


OptionalityField: TypeAlias = Annotated[Optionality, Enumeration(Optionality)]
NOT_FORBIDDEN = (Optionality.OPTIONAL, Optionality.REQUIRED)

Name: TypeAlias = Annotated[str, Text(max_bytes=MAX_NAME_BYTES)]
Description: TypeAlias = Annotated[str, Text(max_bytes=MAX_DESCRIPTION_BYTES)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter(Struct):
    """A parameter of a media type (draft-ietf-mls-extensions, Content Types), its value without quotes."""

    parameter_name: String
    parameter_value: String


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaType(Struct):
    """A media type such as ``text/markdown`` (draft-ietf-mls-extensions, Content Types)."""

    media_type: String
    parameters: Annotated[tuple[Parameter, ...], Vector(Parameter, max_items=MAX_ITEMS)] = ()
