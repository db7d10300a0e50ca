from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import pytest
import trio

from bridges.matrix import homeserver
from bridges.matrix.attachments import OPAQUE, Media, safe_type
from bridges.matrix.ciphers import PartOpener, PartSealer, whole
from bridges.matrix.database import Database
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.media import MediaCopier, carry, download_url, file_of
from linearized.client import ApiError, MalformedAnswer, ProviderApi, UntrustedAnswer
from linearized.mimi.content import ExternalPart


def test_a_file_is_asked_for_at_its_provider_and_nowhere_else() -> None:
    assert file_of(download_url("mxc://a.example/abc")) == ("a.example", "abc")
    assert file_of("mxc://b.example/xyz") == ("b.example", "xyz")
    for url in (
        "http://127.0.0.1/secret",
        "https://a.example/other",
        "https://evil.example/_matrix/client/v1/media/download/a.example/abc",
        "https://a.example/_matrix/client/v1/media/download/a.example/../../x",
        "file:///etc/passwd",
    ):
        with pytest.raises(UntrustedAnswer):
            file_of(url)


@pytest.mark.parametrize(
    ("claimed", "taken"),
    [
        ("image/png", "image/png"),
        ("text/plain; charset=utf-8", "text/plain"),
        ("image/svg+xml", "image/svg+xml"),
        ("image/png\r\nX-Evil: 1", OPAQUE),
        ("image/pñg", OPAQUE),
        ("image", OPAQUE),
        ("", OPAQUE),
        ("a/" + "b" * 200, OPAQUE),
    ],
)
def test_a_claimed_media_type_goes_into_a_header_only_if_it_is_one(claimed: str, taken: str) -> None:
    assert safe_type(claimed) == taken


@dataclass
class Store:
    """A server with one file, which it sends in pieces; it says how long it is if ``says``."""

    file: bytes = b"the picture" * 1000
    says: bool = True
    uploads: list[tuple[bytes, int]] = field(default_factory=list)
    # Refusals that come first, of uploads and of downloads.
    refuses: list[int] = field(default_factory=list)
    lacks: list[int] = field(default_factory=list)

    async def pieces(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.file), 1000):
            await trio.lowlevel.checkpoint()
            yield self.file[start : start + 1000]

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            if self.lacks:
                return httpx.Response(self.lacks.pop(), json={"errcode": "M_X"})
            length = {"content-length": str(len(self.file))} if self.says else {}
            return httpx.Response(200, headers=length, content=self.pieces())
        if self.refuses:
            return httpx.Response(self.refuses.pop(), json={"errcode": "M_X"})
        self.uploads.append((request.content, int(request.headers["content-length"])))
        return httpx.Response(200, json={"content_uri": f"mxc://a.example/{len(self.uploads)}"})

    def api(self) -> HomeserverApi:
        http = httpx.AsyncClient(transport=httpx.MockTransport(self.answer))
        return HomeserverApi("https://a.example", token="t", http=http)


PICTURE = Media(
    url="mxc://matrix.example/abc", content_type="image/png", filename="x", description="", inline=True
)
PLACE = ("matrix.example", "abc")
KEY, NONCE = b"k" * 16, b"n" * 12


@pytest.mark.parametrize("says", [True, False])
async def test_a_file_is_carried_with_its_length_whether_or_not_the_source_says_it(*, says: bool) -> None:
    source, target = Store(says=says), Store()
    sealer = PartSealer(key=KEY, nonce=NONCE)
    url = await carry(source.api(), PLACE, target.api(), ciphers=(sealer,), content_type=OPAQUE)
    assert url == "mxc://a.example/1"
    sealed = whole(PartSealer(key=KEY, nonce=NONCE), source.file)
    assert target.uploads == [(sealed, len(source.file) + 16)]


async def test_of_a_file_that_is_false_missing_or_too_large_nothing_is_uploaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, target = Store(), Store()
    part = ExternalPart(content_type="a/b", url="x", enc_alg=1, key=KEY, nonce=NONCE)
    with pytest.raises(UntrustedAnswer):
        await carry(source.api(), PLACE, target.api(), ciphers=(PartOpener(part),), content_type=OPAQUE)
    short = Store(file=b"x")
    with pytest.raises(UntrustedAnswer, match="too short"):
        await carry(short.api(), PLACE, target.api(), ciphers=(PartOpener(part),), content_type=OPAQUE)
    with pytest.raises(ApiError, match="404"):
        await carry(Store(lacks=[404]).api(), PLACE, target.api(), content_type=OPAQUE)
    monkeypatch.setattr(homeserver, "MAX_MEDIA_BYTES", len(source.file) - 1)
    with pytest.raises(MalformedAnswer):
        await carry(source.api(), PLACE, target.api(), content_type=OPAQUE)
    assert not target.uploads


@pytest.mark.parametrize("says", [True, False])
async def test_a_file_larger_than_it_may_be_is_not_carried_whatever_is_said_of_it(*, says: bool) -> None:
    source, target = Store(says=says), Store()
    size = len(source.file)
    with pytest.raises(UntrustedAnswer, match=f"larger than {size - 1} bytes"):
        await carry(source.api(), PLACE, target.api(), content_type=OPAQUE, limit=size - 1)
    assert not target.uploads
    await carry(source.api(), PLACE, target.api(), content_type=OPAQUE, limit=size)
    assert target.uploads == [(source.file, size)]


async def test_a_copy_that_fails_for_now_is_made_again_with_another_key(autojump_clock: object) -> None:
    source, target = Store(lacks=[503]), Store(refuses=[429])
    http = httpx.AsyncClient(transport=httpx.MockTransport(target.answer))
    provider = ProviderApi(
        "https://a.example", token="t", http=http, clock=lambda: 0, ids=secrets.token_urlsafe
    )
    drawn: list[bytes] = []

    def random(size: int) -> bytes:
        drawn.append(secrets.token_bytes(size))
        return drawn[-1]

    copier = MediaCopier(
        provider=provider, homeserver=source.api(), database=Database(":memory:"), random=random
    )
    part = await copier.to_part(PICTURE)
    ((sealed, _),) = target.uploads
    assert whole(PartOpener(part), sealed) == source.file
    assert part.size == len(source.file)
    assert [part.key, part.nonce] == drawn[-2:]
    assert len(set(drawn)) == len(drawn) == 6
