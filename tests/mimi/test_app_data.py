"""The application data dictionary and Safe AAD."""

from __future__ import annotations

import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi.app_data import AppDataDictionary, SafeAAD, SafeAADItem
from linearized.mimi.participants import FRANK_AAD, PARTICIPANT_LIST


def test_a_dictionary_is_sorted_by_component() -> None:
    dictionary = AppDataDictionary.of({PARTICIPANT_LIST: b"list", 1: b""})
    assert dictionary.encode() == b"\x0a" + b"\x00\x01\x00" + b"\x00\x22\x04list"
    assert AppDataDictionary.decode(dictionary.encode()).to_mapping() == {1: b"", PARTICIPANT_LIST: b"list"}


@pytest.mark.parametrize("kind", [AppDataDictionary, SafeAAD])
@pytest.mark.parametrize("data", [b"\x06\x00\x01\x00\x00\x01\x00", b"\x06\x00\x02\x00\x00\x01\x00"])
def test_components_that_are_repeated_or_out_of_order_are_refused(
    kind: type[AppDataDictionary | SafeAAD], data: bytes
) -> None:
    with pytest.raises(MimiDecodeError, match="repeated or out of order"):
        kind.decode(data)


def test_the_data_of_a_component_is_found() -> None:
    aad = SafeAAD(aad_items=(SafeAADItem(component_id=FRANK_AAD, aad_item_data=b"tag"),))
    assert aad.encode() == b"\x06\x00\x20\x03tag"
    assert (aad.item(FRANK_AAD), aad.item(FRANK_AAD + 1)) == (b"tag", None)
