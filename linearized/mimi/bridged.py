"""That a client is a bridge's: where messages leave MLS for another protocol. A component of the leaf's own
``app_data_dictionary`` (draft-ietf-mls-extensions), of our making: no draft has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from linearized.exceptions import MimiDecodeError
from linearized.mimi.tls import Struct, Text

# "0x8000 to 0xFFFF are for private use." (draft-ietf-mls-extensions, IANA Considerations)
BRIDGED_CLIENT: Final = 0x8B1D
# The name of a protocol, not a text: "matrix".
MAX_PROTOCOL_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgedClient(Struct):
    """What a bridge says of a client that it runs: for users of which ``protocol``.

    The leaf's signature covers it, so nobody else can say or unsay it. A bridge that says nothing is not
    found out by this.
    """

    protocol: Annotated[str, Text(max_bytes=MAX_PROTOCOL_BYTES)]


def bridged_client(leaf_app_data: Mapping[int, bytes]) -> BridgedClient | None:
    """What a leaf's application data says of a bridge; None if nothing, or nothing that can be read."""
    data = leaf_app_data.get(BRIDGED_CLIENT)
    if data is None:
        return None
    try:
        return BridgedClient.decode(data)
    except MimiDecodeError:
        return None
