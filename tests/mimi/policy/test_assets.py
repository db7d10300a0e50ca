"""The asset policy on the wire, and the rules of its text."""

from __future__ import annotations

import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi.policy.assets import (
    AssetPolicy,
    AssetUploadLocation,
    DownloadPrivacy,
    DownloadPrivacyType,
    ProviderAssetUploadDomains,
)
from linearized.mimi.policy.common import MediaType
from linearized.mimi.tls import UnknownValue
from tests.mimi.support import vec

DIRECT, PROXY, OHTTP = DownloadPrivacyType
PRIVACY = DownloadPrivacy(
    allowed_download_types=(PROXY, OHTTP), forbidden_download_types=(DIRECT,), default_download_type=PROXY
)
HUB = ProviderAssetUploadDomains(provider="a.example", asset_upload_destinations=("files.a.example",))


def policy(location: int, *domains: ProviderAssetUploadDomains) -> AssetPolicy:
    return AssetPolicy(
        asset_upload_location=location,
        upload_domains=domains,
        download_privacy=PRIVACY,
        max_image=1,
        max_audio=2,
        max_video=3,
        max_attachment=4,
        forbidden_media_types=(MediaType(media_type="text/html"),),
        permitted_media_types=(),
    )


def test_an_asset_policy_is_written_as_the_draft_lays_it_out() -> None:
    encoded = (
        b"\x02"
        + vec(vec(b"a.example") + vec(vec(b"files.a.example")))
        + (vec(b"\x01\x02") + vec(b"\x00") + b"\x01")
        + b"".join(size.to_bytes(8, "big") for size in (1, 2, 3, 4))
        + vec(vec(b"text/html") + vec())
        + b"\x01"
        + vec()
    )
    value = policy(AssetUploadLocation.HUB, HUB)
    assert value.encode() == encoded
    assert AssetPolicy.decode(encoded) == value


def test_uploads_to_the_hub_have_one_provider() -> None:
    for domains in ((), (HUB, HUB)):
        with pytest.raises(ValueError, match="no others"):
            policy(AssetUploadLocation.HUB, *domains)
    assert policy(AssetUploadLocation.LOCAL_PROVIDER, HUB, HUB)
    assert AssetPolicy.decode(policy(UnknownValue(9)).encode()).asset_upload_location == UnknownValue(9)


@pytest.mark.parametrize("encoded", [vec(b"\x00") + vec(b"\x00") + b"\x01", vec() + vec(b"\x01") + b"\x01"])
def test_a_way_of_downloading_is_not_both_allowed_and_forbidden(encoded: bytes) -> None:
    with pytest.raises(MimiDecodeError, match="at once"):
        DownloadPrivacy.decode(encoded)
