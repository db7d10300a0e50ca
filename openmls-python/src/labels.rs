//! SignWithLabel, VerifyWithLabel, EncryptWithLabel and RefHash of RFC 9420 (sections 5.1.2, 5.1.3 and 5.2).

use openmls::prelude::{Ciphersuite, OpenMlsCrypto};
use openmls_traits::types::HpkeCiphertext;
use tls_codec::{Serialize, TlsSerialize, TlsSize, VLBytes};

use crate::crypto::Crypto;
use crate::error::{Failure, Kind, Outcome};
use crate::wire;

/// "label = 'MLS 1.0 ' + Label" for signatures and HPKE alike.
const PREFIX: &str = "MLS 1.0 ";

/// SignContent and EncryptContext have the same shape.
#[derive(TlsSerialize, TlsSize)]
struct Labeled {
    label: VLBytes,
    content: VLBytes,
}

pub fn labeled(label: &str, content: &[u8]) -> Outcome<Vec<u8>> {
    let value = Labeled {
        label: format!("{PREFIX}{label}").into_bytes().into(),
        content: content.into(),
    };
    Ok(value.tls_serialize_detached()?)
}

/// RefHash(label, value) = Hash(RefHashInput); `label` is taken as it is, with its prefix.
pub fn ref_hash(suite: Ciphersuite, label: &str, value: &[u8]) -> Outcome<Vec<u8>> {
    // RefHashInput has the shape of SignContent.
    let input = Labeled {
        label: label.as_bytes().into(),
        content: value.into(),
    };
    Crypto::default()
        .hash(suite.hash_algorithm(), &input.tls_serialize_detached()?)
        .map_err(Failure::internal)
}

pub fn verify(
    suite: Ciphersuite,
    public_key: &[u8],
    label: &str,
    content: &[u8],
    signature: &[u8],
) -> Outcome<()> {
    Crypto::default()
        .verify_signature(
            suite.signature_algorithm(),
            &labeled(label, content)?,
            public_key,
            signature,
        )
        .map_err(|_| Failure::invalid_signature(format!("invalid {label} signature")))
}

pub fn encrypt(
    suite: Ciphersuite,
    public_key: &[u8],
    label: &str,
    context: &[u8],
    plaintext: &[u8],
) -> Outcome<Vec<u8>> {
    let sealed = Crypto::default()
        .hpke_seal(
            suite.hpke_config(),
            public_key,
            &labeled(label, context)?,
            &[],
            plaintext,
        )
        .map_err(|_| Failure::not_allowed("the public key does not fit the ciphersuite"))?;
    Ok(sealed.tls_serialize_detached()?)
}

pub fn decrypt(
    suite: Ciphersuite,
    private_key: &[u8],
    label: &str,
    context: &[u8],
    ciphertext: &[u8],
) -> Outcome<Vec<u8>> {
    let sealed: HpkeCiphertext = wire::exact(ciphertext)?;
    Crypto::default()
        .hpke_open(
            suite.hpke_config(),
            &sealed,
            private_key,
            &labeled(label, context)?,
            &[],
        )
        .map_err(|_| Failure::new(Kind::CannotDecrypt, "HPKE decryption failed"))
}
