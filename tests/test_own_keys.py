"""Our signing keys on disk: made once, kept private, rotated without losing what was signed."""

from __future__ import annotations

from pathlib import Path

import pytest

from linearized import own_keys
from linearized.exceptions import ConfigError
from linearized.own_keys import (
    KEY_FILE,
    RETIRED_FILE,
    load_identity,
    load_retired_keys,
    load_signing_key,
    rotate,
)
from linearized.protocol.signing import RetiredKey, sign_json, verify_json

NOW = 1_700_000_000_000


def test_the_key_is_made_once_and_only_we_can_read_it(tmp_path: Path) -> None:
    data = tmp_path / "deep" / "data"
    made = load_signing_key(data)
    assert load_signing_key(data).verify_key == made.verify_key
    assert (data / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert load_signing_key(tmp_path / "other").verify_key != made.verify_key


def test_a_key_others_can_read_is_refused(tmp_path: Path) -> None:
    load_signing_key(tmp_path)
    (tmp_path / KEY_FILE).chmod(0o640)
    with pytest.raises(ConfigError, match="others can read the signing key"):
        load_signing_key(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff", b"ed25519 a_1 !!!", b"rsa a b"])
def test_a_malformed_key_file_is_named_but_not_quoted(tmp_path: Path, content: bytes) -> None:
    load_signing_key(tmp_path)
    (tmp_path / KEY_FILE).write_bytes(content)
    with pytest.raises(ConfigError, match="signing key"):
        load_signing_key(tmp_path)


def test_a_data_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot create the signing key"):
        load_signing_key(tmp_path / "file" / "data")


def test_a_rotation_keeps_what_was_signed_verifiable(tmp_path: Path) -> None:
    before = load_identity("a.example", tmp_path)
    signed = sign_json({"a": 1}, name="a.example", key=before.key)
    new, retired = rotate(tmp_path, now=NOW)
    after = load_identity("a.example", tmp_path)
    assert after.key.verify_key == new.verify_key != before.key.verify_key
    assert after.retired == (retired,)
    assert retired == RetiredKey(key_id=before.key.key_id, verify_key=before.key.verify_key, expired_ts=NOW)
    verify_json(signed, name="a.example", keys=after.verify_keys)
    verify_json(sign_json({}, name="a.example", key=after.key), name="a.example", keys=after.verify_keys)
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert before.key.to_line().split()[2] not in (tmp_path / RETIRED_FILE).read_text()


def test_keys_retire_one_after_the_other(tmp_path: Path) -> None:
    load_signing_key(tmp_path)
    for moment in (NOW, NOW + 1, NOW + 2):
        rotate(tmp_path, now=moment)
    assert [key.expired_ts for key in load_retired_keys(tmp_path)] == [NOW, NOW + 1, NOW + 2]
    assert len(load_identity("a.example", tmp_path).verify_keys) == 4


def test_a_rotation_that_broke_off_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    present = load_signing_key(tmp_path)
    replace, written = own_keys.write_private, list[str]()

    def broken(path: Path, text: str) -> None:
        if written:
            raise ConfigError("the disk is full")
        written.append(path.name)
        replace(path, text)

    monkeypatch.setattr(own_keys, "write_private", broken)
    with pytest.raises(ConfigError, match="the disk is full"):
        rotate(tmp_path, now=NOW)
    monkeypatch.undo()
    assert load_signing_key(tmp_path).verify_key == present.verify_key
    _, retired = rotate(tmp_path, now=NOW + 1)
    assert load_retired_keys(tmp_path) == (retired,)
    assert retired.expired_ts == NOW + 1


def test_a_new_key_never_takes_the_id_of_an_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    present = load_signing_key(tmp_path)
    versions = [present.version, present.version, "fresh"]
    monkeypatch.setattr("secrets.token_hex", lambda _bytes: versions.pop(0))
    assert rotate(tmp_path, now=NOW)[0].version == "fresh"


def test_there_must_be_a_key_to_rotate_and_a_place_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="cannot read the signing key"):
        rotate(tmp_path, now=NOW)
    load_signing_key(tmp_path)
    (tmp_path / f"{RETIRED_FILE}.partial").mkdir()
    with pytest.raises(ConfigError, match="cannot write it"):
        rotate(tmp_path, now=NOW)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff",
        b"ed25519 a AAAA",
        b"rsa a AAAA 5",
        b"ed25519 a AAAA 5",
        b"ed25519 a !!!! 5",
        b"ed25519 a " + b"A" * 43 + b" soon",
    ],
)
def test_a_malformed_list_of_retired_keys_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / RETIRED_FILE).write_bytes(content)
    with pytest.raises(ConfigError, match="retired"):
        load_retired_keys(tmp_path)
