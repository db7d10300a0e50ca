from __future__ import annotations

from typing import Any

import pytest

from bridges.matrix.leaves import Leaf, files, leaves, thumbnails
from linearized.mimi.content import (
    PLAIN,
    Disposition,
    ExternalPart,
    MimiContent,
    MultiPart,
    NullPart,
    Part,
    PartSemantics,
    SinglePart,
)


def file(content_type: str = "image/png", name: str = "x", **more: Any) -> ExternalPart:
    return ExternalPart(content_type=content_type, url=f"https://a.example/{name}", **more)


def together(*parts: Part, semantics: PartSemantics = PartSemantics.PROCESS_ALL) -> MultiPart:
    return MultiPart(semantics=semantics, parts=parts)


PICTURE, CLIP = file(), file("video/mp4", "clip")
PREVIEW = file("image/jpeg", "small", disposition=Disposition.PREVIEW)
HELD = SinglePart(content_type="image/gif", disposition=Disposition.PREVIEW, content=b"GIF")
WORDS = SinglePart(content_type=PLAIN, content=b"look")
PAGE = file("text/html", "page", disposition=Disposition.PREVIEW)


@pytest.mark.parametrize("semantics", list(PartSemantics))
def test_a_preview_beside_a_file_is_its_thumbnail_however_the_two_belong_together(
    semantics: PartSemantics,
) -> None:
    for parts in ((PICTURE, PREVIEW), (PREVIEW, PICTURE)):
        assert leaves(together(*parts, semantics=semantics)) == [Leaf(PICTURE, PREVIEW)]


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        ((WORDS, CLIP, HELD), [Leaf(WORDS), Leaf(CLIP, HELD)]),
        ((PICTURE, PREVIEW, CLIP, HELD), [Leaf(PICTURE, PREVIEW), Leaf(CLIP, HELD)]),
        # A file has one; what more there is, is a picture of its own.
        ((PICTURE, PREVIEW, HELD), [Leaf(PICTURE, PREVIEW), Leaf(HELD)]),
        # The preview of a link belongs to no file.
        ((WORDS, PREVIEW), [Leaf(WORDS), Leaf(PREVIEW)]),
        ((together(WORDS, PREVIEW), PICTURE), [Leaf(WORDS), Leaf(PREVIEW), Leaf(PICTURE)]),
        ((PREVIEW, HELD), [Leaf(PREVIEW), Leaf(HELD)]),
        # Only a picture can be shown for another.
        ((PICTURE, PAGE), [Leaf(PICTURE), Leaf(PAGE)]),
        ((NullPart(), PICTURE), [Leaf(PICTURE)]),
    ],
)
def test_other_previews_are_pictures(parts: tuple[Part, ...], shown: list[Leaf]) -> None:
    assert leaves(together(*parts)) == shown


def test_a_thumbnail_is_fetched_beside_its_file_and_is_no_event() -> None:
    content = MimiContent(salt=b"s" * 16, part=together(WORDS, PICTURE, PREVIEW))
    assert files(content) == [PICTURE]
    assert thumbnails(content) == [PREVIEW]
