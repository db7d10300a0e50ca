"""Which parts of a MIMI message Matrix shows, each with its thumbnail. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeGuard

from bridges.matrix.attachments import safe_type
from bridges.matrix.content import HTML
from linearized.mimi.content import (
    MARKDOWN,
    Disposition,
    ExternalPart,
    MimiContent,
    MultiPart,
    NullPart,
    Part,
    PartSemantics,
    SinglePart,
)

# A message of more parts than this would flood the room it is bridged to.
MAX_EVENTS = 20
File = ExternalPart | SinglePart


@dataclass(frozen=True, slots=True)
class Leaf:
    """A part that becomes an event, and the preview that goes with it if it is a file."""

    part: Part
    thumbnail: File | None = None


def leaves(part: Part) -> list[Leaf]:
    """The parts to show, in order: of alternatives, the one that says most in Matrix."""
    if not isinstance(part, MultiPart):
        return [] if isinstance(part, NullPart) else [Leaf(part)]
    pairs = _with_previews(part.parts)
    if part.semantics == PartSemantics.CHOOSE_ONE:
        pairs = [min(pairs, key=lambda pair: _preference(pair.part))]
    return [leaf for pair in pairs for leaf in ([pair] if pair.thumbnail is not None else leaves(pair.part))]


def _with_previews(parts: Sequence[Part]) -> list[Leaf]:
    """Parts that stand side by side. A preview next to a file is that file's; any other, of a link say, is
    shown as the picture it is.
    """
    found: list[Leaf] = []
    for part in parts:
        before = found[-1] if found else None
        if before is None:
            found.append(Leaf(part))
        elif is_preview(part) and before.thumbnail is None and _has_preview(before.part):
            found[-1] = Leaf(before.part, part)
        elif is_preview(before.part) and _has_preview(part):
            found[-1] = Leaf(part, before.part)
        else:
            found.append(Leaf(part))
    return found


def files(content: MimiContent) -> list[File]:
    """The files a message refers to or holds, which have to be uploaded before ``ToMatrix.convert``."""
    return [leaf.part for leaf in leaves(content.part)[:MAX_EVENTS] if is_file(leaf.part)]


def thumbnails(content: MimiContent) -> list[File]:
    """The previews of its files, without which the message can be shown as well."""
    shown = leaves(content.part)[:MAX_EVENTS]
    return [leaf.thumbnail for leaf in shown if leaf.thumbnail is not None]


def file_key(part: File) -> str:
    """What names a file among a message's uploads: its URL, or the hash of what the message holds."""
    if isinstance(part, ExternalPart):
        return part.url
    return f"{part.content_type} {sha256(part.content).hexdigest()}"


def is_file(part: Part) -> TypeGuard[File]:
    """Whether Matrix shows it as a file."""
    return isinstance(part, ExternalPart) or (
        isinstance(part, SinglePart)
        and part.disposition != Disposition.REACTION
        and not media_type(part).startswith("text/")
    )


def is_preview(part: Part) -> TypeGuard[File]:
    """Whether it is a picture meant as a preview of something."""
    return is_file(part) and part.disposition == Disposition.PREVIEW and media_type(part).startswith("image/")


def _has_preview(part: Part) -> bool:
    return is_file(part) and part.disposition != Disposition.PREVIEW


def media_type(part: File) -> str:
    """The media type without its parameters, in lower case."""
    return safe_type(part.content_type).lower()


def file_size(part: File) -> int:
    """How many octets it has by its own account; 0 if it does not say."""
    return len(part.content) if isinstance(part, SinglePart) else part.size


def _preference(part: Part) -> int:
    order = (HTML.partition(";")[0], MARKDOWN.partition(";")[0], "text/plain")
    if part.disposition == Disposition.PREVIEW:
        return len(order) + 3
    if isinstance(part, SinglePart):
        media_type = part.content_type.partition(";")[0].strip().lower()
        return order.index(media_type) if media_type in order else len(order) + 1
    return len(order) if isinstance(part, ExternalPart | MultiPart) else len(order) + 2
