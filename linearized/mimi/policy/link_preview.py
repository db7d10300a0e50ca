"""Policy on links and their previews (draft-ietf-mimi-room-policy, "Link Preview policy component")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from linearized.mimi.policy.common import MAX_ITEMS, NOT_FORBIDDEN, Optionality, OptionalityField
from linearized.mimi.tls import MAX_URI_BYTES, Struct, Text, Vector, When


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkPreviewPolicy(Struct):
    """Data and update of the component. Clients keep it: a hub sees no link."""

    autodetect_hyperlinks_in_text: OptionalityField
    send_link_previews: OptionalityField
    automatic_link_previews: OptionalityField
    link_preview_proxy_use: OptionalityField
    # "The link_preview_proxy setting MUST include the URI of a link preview proxy if
    # link_preview_proxy_use is mandatory or optional."
    link_preview_proxy: Annotated[
        tuple[str, ...],
        When(
            "link_preview_proxy_use",
            NOT_FORBIDDEN,
            Vector(Text("ascii", MAX_URI_BYTES), min_items=1, max_items=MAX_ITEMS),
            absent=(),
        ),
    ] = ()

    def __post_init__(self) -> None:
        # "The value of autodetect_hyperlinks_in_text MUST NOT be mandatory."
        if self.autodetect_hyperlinks_in_text is Optionality.REQUIRED:
            raise ValueError("finding links in text cannot be required")
