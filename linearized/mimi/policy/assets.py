"""Policy on files, images, sounds and films (draft-ietf-mimi-room-policy, "Asset policies component")."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from linearized.mimi.policy.common import MAX_ITEMS, MediaType
from linearized.mimi.tls import Enumeration, Maybe, String, Struct, Text, Uint64, Vector


class AssetUploadLocation(IntEnum):
    """Where clients upload."""

    UNSPECIFIED = 0
    LOCAL_PROVIDER = 1
    HUB = 2


class DownloadPrivacyType(IntEnum):
    """How clients download (draft-ietf-mimi-protocol, Downloading Files)."""

    DIRECT = 0
    HUB_PROXY = 1
    OHTTP = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderAssetUploadDomains(Struct):
    """The hosts that users of a provider upload to, all as domain names."""

    provider: String
    asset_upload_destinations: Annotated[tuple[str, ...], Vector(Text(), max_items=MAX_ITEMS)]


_PRIVACY = Enumeration(DownloadPrivacyType, extensible=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadPrivacy(Struct):
    """Which ways of downloading are allowed and forbidden, and the suggested one."""

    allowed_download_types: Annotated[tuple[int, ...], Vector(_PRIVACY, max_items=MAX_ITEMS)]
    forbidden_download_types: Annotated[tuple[int, ...], Vector(_PRIVACY, max_items=MAX_ITEMS)]
    default_download_type: Annotated[int, _PRIVACY]

    def __post_init__(self) -> None:
        # "allowed_download_types and forbidden_download_types specify the download mechanisms which are are
        # allowed and forbidden, respectively."
        forbidden = set(self.forbidden_download_types)
        if forbidden & {*self.allowed_download_types, self.default_download_type}:
            raise ValueError("a way of downloading is forbidden and allowed at once")


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetPolicy(Struct):
    """Data and update of the component; sizes in bytes. Clients keep it: a hub sees sealed files of no room.

    ``permitted_media_types`` is None where every type that is not forbidden is permitted.
    """

    asset_upload_location: Annotated[int, Enumeration(AssetUploadLocation, extensible=True)]
    upload_domains: Annotated[
        tuple[ProviderAssetUploadDomains, ...], Vector(ProviderAssetUploadDomains, max_items=MAX_ITEMS)
    ] = ()
    download_privacy: DownloadPrivacy
    max_image: Uint64
    max_audio: Uint64
    max_video: Uint64
    max_attachment: Uint64
    forbidden_media_types: Annotated[tuple[MediaType, ...], Vector(MediaType, max_items=MAX_ITEMS)] = ()
    permitted_media_types: Annotated[
        tuple[MediaType, ...] | None, Maybe(Vector(MediaType, max_items=MAX_ITEMS))
    ] = None

    def __post_init__(self) -> None:
        # "If the asset_upload_location is hub, only one provider matching the hub domain is present in
        # asset_upload_domains."
        if self.asset_upload_location == AssetUploadLocation.HUB and len(self.upload_domains) != 1:
            raise ValueError("uploads to the hub have the hub's domains and no others")
