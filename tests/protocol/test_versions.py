from __future__ import annotations

import pytest

from linearized.exceptions import EventFormatError
from linearized.protocol.versions import DEFAULT_ROOM_VERSION, ROOM_VERSIONS, get_version


def test_each_version_is_found_under_its_own_name() -> None:
    assert {name: version.name for name, version in ROOM_VERSIONS.items()} == {
        name: name for name in ("I.1", "org.matrix.i-d.ralston-mimi-linearized-matrix.02", "dev.linearized.1")
    }
    assert all(get_version(name) is version for name, version in ROOM_VERSIONS.items())


def test_our_own_version_is_the_default() -> None:
    assert DEFAULT_ROOM_VERSION == "dev.linearized.1"


@pytest.mark.parametrize("name", ["I.2", "", "i.1", None, 1, ["I.1"], {}])
def test_an_unknown_version_is_refused(name: object) -> None:
    with pytest.raises(EventFormatError):
        get_version(name)


def test_versions_can_be_told_apart_in_sets() -> None:
    assert len({*ROOM_VERSIONS.values()}) == len(ROOM_VERSIONS)


def test_only_our_version_keeps_provenance() -> None:
    assert [name for name, version in ROOM_VERSIONS.items() if "provenance" in version.kept_fields] == [
        "dev.linearized.1"
    ]
    assert [name for name, version in ROOM_VERSIONS.items() if version.vouched_events] == ["dev.linearized.1"]
