//! The binary form of `save()` and `load()`.
//!
//! A snapshot is a TLS-encoded struct behind a magic string and a version. The version covers both this
//! layout and the storage format of the OpenMLS release the crate is built with: raise it when either changes.

use tls_codec::{
    DeserializeBytes, SecretVLBytes, Serialize, TlsDeserializeBytes, TlsSerialize, TlsSize, VLBytes,
};

use crate::compact::{compact, expand};
use crate::error::{Failure, Outcome};
use crate::provider::Entries;
use crate::psk::Psks;

const MAGIC: &[u8; 10] = b"openmls-py\0".first_chunk().unwrap();
const FORMAT: u16 = 2;

/// What a snapshot holds; refuses to load one kind as another.
#[derive(Clone, Copy, PartialEq, Eq, TlsDeserializeBytes, TlsSerialize, TlsSize)]
#[repr(u8)]
pub enum Holds {
    Client = 1,
    PublicGroup = 2,
}

/// A key and a value of the store, the value as `compact` gives it if `compacted` is 1.
#[derive(TlsDeserializeBytes, TlsSerialize, TlsSize)]
pub struct Entry {
    key: VLBytes,
    compacted: u8,
    value: VLBytes,
}

/// `tls_codec` wants it; entries hold secrets, so it shows nothing.
impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entry")
    }
}

#[derive(TlsDeserializeBytes, TlsSerialize, TlsSize)]
pub struct PublicGroupSnapshot {
    pub group_id: VLBytes,
    pub entries: Vec<Entry>,
}

#[derive(TlsDeserializeBytes, TlsSerialize, TlsSize)]
pub struct ClientSnapshot {
    pub ciphersuite: u16,
    pub identity: VLBytes,
    pub signature_key: VLBytes,
    pub key_packages: Vec<Entry>,
    pub psks: Vec<PskSnapshot>,
    pub groups: Vec<SlotSnapshot>,
}

/// A pre-shared key; of a component if it is an application's.
#[derive(TlsDeserializeBytes, TlsSerialize, TlsSize)]
pub struct PskSnapshot {
    component: Option<u16>,
    psk_id: VLBytes,
    secret: SecretVLBytes,
}

impl std::fmt::Debug for PskSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PskSnapshot")
    }
}

impl PskSnapshot {
    pub fn new((component, psk_id, secret): (Option<u16>, &[u8], &[u8])) -> Self {
        Self {
            component,
            psk_id: psk_id.into(),
            secret: secret.into(),
        }
    }

    pub fn restore(self, psks: &mut Psks) -> Outcome<()> {
        psks.add_part(
            self.component,
            self.psk_id.as_slice(),
            self.secret.as_slice(),
        )
    }
}

#[derive(Debug, TlsDeserializeBytes, TlsSerialize, TlsSize)]
pub struct SlotSnapshot {
    pub group_id: VLBytes,
    pub current: Option<StateSnapshot>,
    pub joining: Option<JoiningSnapshot>,
}

#[derive(Debug, TlsDeserializeBytes, TlsSerialize, TlsSize)]
pub struct StateSnapshot {
    pub entries: Vec<Entry>,
}

#[derive(Debug, TlsDeserializeBytes, TlsSerialize, TlsSize)]
pub struct JoiningSnapshot {
    pub base_epoch: u64,
    pub entries: Vec<Entry>,
}

pub fn to_list(entries: Entries) -> Vec<Entry> {
    entries
        .into_iter()
        .map(|(key, value)| {
            let shorter = compact(&value);
            Entry {
                key: key.into(),
                compacted: shorter.is_some().into(),
                value: shorter.unwrap_or(value).into(),
            }
        })
        .collect()
}

pub fn from_list(list: Vec<Entry>) -> Outcome<Entries> {
    list.into_iter()
        .map(|entry| {
            let value: Vec<u8> = entry.value.into();
            let value = match entry.compacted {
                0 => Some(value),
                1 => expand(&value),
                _ => None,
            };
            let value = value.ok_or_else(|| Failure::snapshot("a damaged entry"))?;
            Ok((entry.key.into(), value))
        })
        .collect()
}

pub fn encode(holds: Holds, body: &impl Serialize) -> Outcome<Vec<u8>> {
    let mut data = MAGIC.to_vec();
    let failed = |error: tls_codec::Error| Failure::internal(error);
    FORMAT.tls_serialize(&mut data).map_err(failed)?;
    holds.tls_serialize(&mut data).map_err(failed)?;
    body.tls_serialize(&mut data).map_err(failed)?;
    Ok(data)
}

pub fn decode<T: DeserializeBytes>(holds: Holds, data: &[u8]) -> Outcome<T> {
    let rest = data
        .strip_prefix(MAGIC.as_slice())
        .ok_or_else(|| Failure::snapshot("not a snapshot"))?;
    let broken = |error: tls_codec::Error| Failure::snapshot(error);
    let (format, rest) = u16::tls_deserialize_bytes(rest).map_err(broken)?;
    if format != FORMAT {
        return Err(Failure::snapshot(format!(
            "snapshot format {format}, this version reads format {FORMAT}"
        )));
    }
    let (found, rest) = Holds::tls_deserialize_bytes(rest).map_err(broken)?;
    if found != holds {
        return Err(Failure::snapshot("a snapshot of something else"));
    }
    let (body, rest) = T::tls_deserialize_bytes(rest).map_err(broken)?;
    if rest.is_empty() {
        Ok(body)
    } else {
        Err(Failure::snapshot("trailing bytes"))
    }
}
