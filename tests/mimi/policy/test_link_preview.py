"""The link preview policy on the wire, and the rules of its text."""

from __future__ import annotations

import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi.policy.common import Optionality
from linearized.mimi.policy.link_preview import LinkPreviewPolicy
from tests.mimi.support import vec

OPTIONAL, REQUIRED, FORBIDDEN = Optionality


@pytest.mark.parametrize(
    ("use", "proxies", "encoded"),
    [
        (REQUIRED, ("https://p.example",), b"\x00\x00\x02\x01" + vec(vec(b"https://p.example"))),
        (OPTIONAL, ("https://p.example",), b"\x00\x00\x02\x00" + vec(vec(b"https://p.example"))),
        (FORBIDDEN, (), b"\x00\x00\x02\x02"),
    ],
)
def test_a_proxy_is_named_unless_proxies_are_forbidden(
    use: Optionality, proxies: tuple[str, ...], encoded: bytes
) -> None:
    policy = LinkPreviewPolicy(
        autodetect_hyperlinks_in_text=OPTIONAL,
        send_link_previews=OPTIONAL,
        automatic_link_previews=FORBIDDEN,
        link_preview_proxy_use=use,
        link_preview_proxy=proxies,
    )
    assert policy.encode() == encoded
    assert LinkPreviewPolicy.decode(encoded) == policy


def test_a_proxy_that_may_be_used_must_be_there() -> None:
    with pytest.raises(MimiDecodeError, match="at least 1"):
        LinkPreviewPolicy.decode(b"\x00\x00\x02\x01" + vec())


def test_finding_links_in_text_cannot_be_required() -> None:
    with pytest.raises(MimiDecodeError, match="cannot be required"):
        LinkPreviewPolicy.decode(b"\x01\x00\x00\x02")
