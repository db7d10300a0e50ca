"""What encryption algorithms are called."""

from __future__ import annotations

import openmls
import pytest

from linearized.mls import CIPHERSUITES
from linearized.room.algorithms import (
    DEFAULT_ALGORITHM,
    ciphersuite_of,
    ciphersuite_of_key_package,
    key_package_algorithm,
    signs_with_ed25519,
    welcome_algorithm,
    welcome_content,
)


def test_the_draft_s_own_algorithm_is_the_default() -> None:
    assert DEFAULT_ALGORITHM == "m.mls.v1.dhkemx25519-aes128gcm-sha256-ed25519"
    assert ciphersuite_of(DEFAULT_ALGORITHM) == openmls.CIPHERSUITE_X25519_AES128GCM_SHA256_ED25519


@pytest.mark.parametrize(
    ("algorithm", "suite"),
    [
        ("m.mls.v1.dhkemp256-aes128gcm-sha256-p256", openmls.CIPHERSUITE_P256_AES128GCM_SHA256_P256),
        (
            "m.mls.v1.dhkemx25519-chacha20poly1305-sha256-ed25519",
            openmls.CIPHERSUITE_X25519_CHACHA20POLY1305_SHA256_ED25519,
        ),
        ("m.mls.v1.dhkemp384-aes256gcm-sha384-p384", openmls.CIPHERSUITE_P384_AES256GCM_SHA384_P384),
        ("m.mls.v1.xwing-chacha20poly1305-sha256-ed25519", None),
        ("m.mls.v1.dhkemx448-aes256gcm-sha512-ed448", None),
        ("dhkemx25519-aes128gcm-sha256-ed25519", None),
        ("m.megolm.v1.aes-sha2", None),
        ("org.example.my-encryption", None),
        ("", None),
    ],
)
def test_each_algorithm_stands_for_one_suite_or_none_of_ours(algorithm: str, suite: int | None) -> None:
    assert ciphersuite_of(algorithm) == suite


@pytest.mark.parametrize("suite", CIPHERSUITES.values())
def test_every_suite_that_key_packages_may_have_is_one_of_a_room(suite: int) -> None:
    assert ciphersuite_of(welcome_algorithm(suite).replace("welcome.", "")) == suite


def test_a_welcome_has_all_the_draft_s_fields() -> None:
    assert welcome_algorithm(1) == "m.mls.v1.welcome.dhkemx25519-aes128gcm-sha256-ed25519"
    assert welcome_content(ciphersuite=2, ciphertext="AA", commit_event_id="$c") == {
        "algorithm": "m.mls.v1.welcome.dhkemp256-aes128gcm-sha256-p256",
        "ciphertext": "AA",
        "commit_event_id": "$c",
    }


def test_two_of_the_suites_sign_with_ed25519() -> None:
    assert [suite for suite in CIPHERSUITES.values() if signs_with_ed25519(suite)] == [
        openmls.CIPHERSUITE_X25519_AES128GCM_SHA256_ED25519,
        openmls.CIPHERSUITE_X25519_CHACHA20POLY1305_SHA256_ED25519,
    ]


@pytest.mark.parametrize("suite", CIPHERSUITES.values())
def test_the_algorithm_of_a_key_package_names_its_suite(suite: int) -> None:
    assert ciphersuite_of_key_package(key_package_algorithm(suite)) == suite


def test_an_algorithm_that_is_no_key_packages_has_no_suite() -> None:
    assert key_package_algorithm(1) == "m.mls.v1.key_package.dhkemx25519-aes128gcm-sha256-ed25519"
    for name in (DEFAULT_ALGORITHM, welcome_algorithm(1), "m.mls.v1.key_package.unheard-of", ""):
        assert ciphersuite_of_key_package(name) is None
