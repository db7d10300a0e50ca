from __future__ import annotations

from typing import Any

import pytest

from bridges.matrix.attachments import Media, media_of

SMALL = "mxc://hs.test/small"


def picture(**info: Any) -> Media:
    content = {"msgtype": "m.image", "body": "boat.jpg", "url": "mxc://hs.test/boat", "info": info}
    media = media_of(content)
    assert media is not None
    return media


def test_a_thumbnail_is_the_picture_that_the_files_info_names() -> None:
    found = picture(
        thumbnail_url=SMALL, thumbnail_info={"mimetype": "image/webp", "w": 80, "h": 60}
    ).thumbnail
    assert found == Media(url=SMALL, content_type="image/webp", filename="", description="", inline=True)


def test_an_encrypted_thumbnail_is_named_by_what_decrypts_it() -> None:
    file = {"url": SMALL, "v": "v2"}
    found = picture(
        thumbnail_file=file, thumbnail_url="mxc://hs.test/other", thumbnail_info={"mimetype": "image/png"}
    ).thumbnail
    assert found is not None
    assert (found.url, found.encrypted) == (SMALL, file)


@pytest.mark.parametrize(
    "info",
    [
        {},
        {"thumbnail_url": SMALL},
        {"thumbnail_url": SMALL, "thumbnail_info": "image/png"},
        {"thumbnail_url": SMALL, "thumbnail_info": {"mimetype": "text/html"}},
        {"thumbnail_url": SMALL, "thumbnail_info": {"mimetype": "image/png\r\nX-Evil: 1"}},
        {"thumbnail_url": "https://evil.example/x", "thumbnail_info": {"mimetype": "image/png"}},
        {"thumbnail_url": "mxc://hs.test/../x", "thumbnail_info": {"mimetype": "image/png"}},
        {"thumbnail_file": {"url": "mxc://../whoami"}, "thumbnail_info": {"mimetype": "image/png"}},
        {"thumbnail_file": {}, "thumbnail_url": SMALL, "thumbnail_info": {"mimetype": "image/png"}},
        {"thumbnail_url": 7, "thumbnail_info": {"mimetype": "image/png"}},
    ],
)
def test_what_is_no_picture_to_fetch_is_no_thumbnail_and_the_file_crosses_without(info: Any) -> None:
    media = picture(**info)
    assert media.thumbnail is None
    assert media.url == "mxc://hs.test/boat"
