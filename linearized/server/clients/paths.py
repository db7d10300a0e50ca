"""The prefixes of the client API's paths."""

from typing import Final

CLIENT: Final = "/_matrix/client"
V3: Final = f"{CLIENT}/v3"
V1: Final = f"{CLIENT}/v1"
MLS: Final = f"{CLIENT}/unstable/dev.linearized.1"
MEDIA: Final = "/_matrix/media/v3"
