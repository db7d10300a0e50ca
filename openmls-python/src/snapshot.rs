//! The binary form of `save()` and `load()`.
//!
//! A snapshot is postcard behind a magic string and a version. The version covers this layout, the stores' and the
//! storage format of the OpenMLS release the crate is built with: raise it when any of them changes.

use openmls::prelude::{Credential, CredentialType};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{Failure, Outcome};
use crate::psk::Psks;
use crate::store::{serialized, Value};

const MAGIC: &[u8; 10] = b"openmls-py\0".first_chunk().unwrap();
const FORMAT: u16 = 2;

/// What a snapshot holds; refuses to load one kind as another.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Holds {
    Client = 1,
    PublicGroup = 2,
    /// A client with an X.509 credential.
    CertifiedClient = 3,
}

impl Holds {
    /// What a client with this credential is saved as.
    pub fn client(credential: &Credential) -> Self {
        match credential.credential_type() {
            CredentialType::X509 => Self::CertifiedClient,
            _ => Self::Client,
        }
    }
}

// `S` is a borrowed `Store` in what is saved and an own one in what is loaded.

#[derive(Serialize, Deserialize)]
pub struct PublicGroupSnapshot<S> {
    #[serde(with = "serde_bytes")]
    pub group_id: Vec<u8>,
    pub store: S,
    pub maximum_lifetime: u64,
}

#[derive(Serialize, Deserialize)]
pub struct ClientSnapshot<S> {
    pub ciphersuite: u16,
    /// Of the credential: the identity, or the certificates.
    #[serde(with = "serde_bytes")]
    pub content: Vec<u8>,
    pub signature_key: Value,
    pub key_packages: S,
    pub psks: Psks,
    pub maximum_lifetime: u64,
    pub groups: Vec<SlotSnapshot<S>>,
}

#[derive(Serialize, Deserialize)]
pub struct SlotSnapshot<S> {
    #[serde(with = "serde_bytes")]
    pub group_id: Vec<u8>,
    pub current: Option<S>,
    pub joining: Option<JoiningSnapshot<S>>,
}

#[derive(Serialize, Deserialize)]
pub struct JoiningSnapshot<S> {
    pub base_epoch: u64,
    pub store: S,
}

pub fn encode(holds: Holds, body: &impl Serialize) -> Outcome<Zeroizing<Vec<u8>>> {
    let mut begin = Zeroizing::new(MAGIC.to_vec());
    begin.extend_from_slice(&FORMAT.to_be_bytes());
    begin.push(holds as u8);
    Ok(serialized(body, begin).map_err(Failure::internal)?.0)
}

/// A client, and the type of its credential.
pub fn decode_client<T: DeserializeOwned>(data: &[u8]) -> Outcome<(CredentialType, T)> {
    let certified = data.get(MAGIC.len() + 2) == Some(&(Holds::CertifiedClient as u8));
    let (holds, kind) = match certified {
        true => (Holds::CertifiedClient, CredentialType::X509),
        false => (Holds::Client, CredentialType::Basic),
    };
    Ok((kind, decode(holds, data)?))
}

pub fn decode<T: DeserializeOwned>(holds: Holds, data: &[u8]) -> Outcome<T> {
    let rest = data
        .strip_prefix(MAGIC.as_slice())
        .ok_or_else(|| Failure::snapshot("not a snapshot"))?;
    let ([high, low, found], rest) = rest
        .split_first_chunk()
        .ok_or_else(|| Failure::snapshot("a truncated snapshot"))?;
    let format = u16::from_be_bytes([*high, *low]);
    if format != FORMAT {
        return Err(Failure::snapshot(format!(
            "snapshot format {format}, this version reads format {FORMAT}"
        )));
    }
    if *found != holds as u8 {
        return Err(Failure::snapshot("a snapshot of something else"));
    }
    match postcard::take_from_bytes(rest).map_err(Failure::snapshot)? {
        (body, []) => Ok(body),
        _ => Err(Failure::snapshot("trailing bytes")),
    }
}
