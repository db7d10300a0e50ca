"""Where a provider's endpoints for clients are."""

from __future__ import annotations

from typing import Final

V3: Final = "/_matrix/client/v3"
MLS: Final = "/_matrix/client/unstable/dev.linearized.1"
"""What is not Matrix."""
