"""Proofs as files, keys on the command line, and what the commands say to what is neither."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from linearized.cli import main
from linearized.exceptions import ConfigError
from linearized.proof_files import MAX_PROOF_BYTES, parse_key, read_proof, write_proofs
from linearized.protocol.base64 import encode_base64
from tests.store.contract_history import finding

KEY = bytes(range(32))


def test_a_key_is_named_and_in_base64() -> None:
    assert parse_key("ed25519:" + encode_base64(KEY)) == KEY
    assert parse_key("ed25519:" + encode_base64(KEY) + "=") == KEY


@pytest.mark.parametrize(
    "text", ["", "ed25519:", "ed25519:?", encode_base64(KEY), "ed25519:" + encode_base64(KEY[1:])]
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--key"):
        parse_key(text)


def test_a_file_that_cannot_hold_a_proof_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_proof(tmp_path / "missing")
    large, text, good = tmp_path / "large", tmp_path / "text", tmp_path / "good"
    large.write_bytes(b" " * (MAX_PROOF_BYTES + 1))
    text.write_text("no")
    good.write_text('{"a":1}')
    with pytest.raises(ConfigError, match="larger"):
        read_proof(large)
    with pytest.raises(ConfigError, match="holds no proof"):
        read_proof(text)
    assert read_proof(good) == {"a": 1}


def test_proofs_are_written_and_suspicions_are_not(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    (path,) = write_proofs([finding("a" * 64), finding("b" * 64, proven=False)], out)
    assert path == out / f"proof-{'a' * 16}.json"
    assert path.read_text() == '{"é":1}\n'
    with pytest.raises(ConfigError, match="cannot write"):
        write_proofs([], path)


def test_the_command_line_is_wrong_or_the_proof_is(tmp_path: Path) -> None:
    file = tmp_path / "proof.json"
    file.write_text("{}")

    def status(*arguments: str) -> int:
        return CliRunner().invoke(main, ["room", "verify-proof", *arguments]).exit_code

    key = "ed25519:" + encode_base64(KEY)
    assert status(str(file), "--key", key) == 1
    assert status(str(file), "--key", "x") == 2
    assert status(str(file)) == 2
    assert status(str(tmp_path / "missing"), "--key", key) == 2
