//! Lifetimes that cover the present, shown to OpenMLS in place of genuine ones that do not.
//!
//! `Restoring` puts the genuine ones back into everything that is hashed, signed or authenticated, and `put_back`
//! into what OpenMLS stored.

use std::collections::BTreeSet;

use openmls_memory_storage::MemoryStorage;
use openmls_traits::random::OpenMlsRand;
use openmls_traits::OpenMlsProvider;
use tls_codec::Serialize;

use crate::crypto::Crypto;
use crate::error::{Failure, Outcome};
use crate::provider::Entries;
use crate::restoring::{find, Restoring};
use crate::wire::WireLifetime;

/// Random bits in either end of a stand-in. The beginning of one is before 2004, so that it covers every present.
const RANDOM_BITS: u32 = 30;
/// The end of every stand-in is above every real time.
const END: u64 = 1 << 62;
/// The low bits of the end tell the stand-ins apart; those above them and all of the beginning are the mark that
/// they share and that nobody can guess.
const NUMBER_BITS: u32 = 32;

/// One stand-in for each different lifetime.
#[derive(Clone)]
pub struct StandIns {
    not_before: u64,
    not_after: u64,
    /// Sorted; the number of a stand-in is the index here.
    genuine: Vec<WireLifetime>,
}

impl StandIns {
    pub fn new(lifetimes: impl Iterator<Item = WireLifetime>) -> Outcome<Option<Self>> {
        let distinct: BTreeSet<WireLifetime> = lifetimes.collect();
        if distinct.is_empty() {
            return Ok(None);
        }
        let random: [u8; 8] = Crypto::default()
            .random_array()
            .map_err(Failure::internal)?;
        let random = u64::from_be_bytes(random);
        let mask = (1 << RANDOM_BITS) - 1;
        Ok(Some(Self {
            not_before: (random >> NUMBER_BITS) & mask,
            not_after: END | ((random & mask) << NUMBER_BITS),
            genuine: distinct.into_iter().collect(),
        }))
    }

    fn numbered(&self, number: u64) -> WireLifetime {
        WireLifetime {
            not_before: self.not_before,
            not_after: self.not_after + number,
        }
    }

    fn shown(&self, genuine: WireLifetime) -> Option<WireLifetime> {
        let number = self.genuine.binary_search(&genuine).ok()?;
        Some(self.numbered(number as u64))
    }

    /// What `shown` stands in for, if it is a stand-in.
    pub fn genuine(&self, shown: WireLifetime) -> Option<WireLifetime> {
        let number = shown.not_after.checked_sub(self.not_after)?;
        let genuine = self.genuine.get(usize::try_from(number).ok()?)?;
        (shown.not_before == self.not_before).then_some(*genuine)
    }

    /// Overwrite the encoded `genuine` at `offset` of `data`.
    pub fn show(&self, data: &mut [u8], offset: usize, genuine: WireLifetime) -> Outcome<()> {
        let shown = self
            .shown(genuine)
            .ok_or_else(|| Failure::internal("a lifetime without stand-in"))?
            .tls_serialize_detached()?;
        data.get_mut(offset..offset + shown.len())
            .ok_or_else(|| Failure::internal("a lifetime beyond the end"))?
            .copy_from_slice(&shown);
        Ok(())
    }

    /// Cryptography that sees the genuine lifetimes; `originals` is what was received.
    pub fn crypto(&self, originals: &[&[u8]]) -> Outcome<Restoring> {
        let pairs = (0..)
            .zip(&self.genuine)
            .map(|(number, genuine)| {
                let shown = self.numbered(number).tls_serialize_detached()?;
                Ok((shown, genuine.tls_serialize_detached()?))
            })
            .collect::<Outcome<Vec<_>>>()?;
        Restoring::new(pairs, originals)
    }

    /// Show the stand-ins in a copy of a store.
    pub fn show_stored(&self, entries: &mut Entries) {
        for value in entries.values_mut() {
            replace(value, |lifetime| self.shown(lifetime));
        }
    }

    /// Put the genuine lifetimes back into a store.
    pub fn put_back(&self, entries: &mut Entries) {
        for value in entries.values_mut() {
            replace(value, |lifetime| self.genuine(lifetime));
        }
    }

    /// Make sure that none is left in an encoded tree.
    pub fn refuse_left(&self, tree: &[u8]) -> Outcome<()> {
        let mut begin = self.numbered(0).tls_serialize_detached()?;
        begin.truncate(begin.len() - NUMBER_BITS as usize / 8);
        match find(tree, &begin) {
            None => Ok(()),
            Some(_) => Err(Failure::internal("a genuine lifetime was not put back")),
        }
    }
}

/// How OpenMLS stores a lifetime: `{"not_before":1,"not_after":2}`.
const BEGIN: &[u8] = br#"{"not_before":"#;
const MIDDLE: &[u8] = br#","not_after":"#;

/// Replace the stored lifetimes for which `other` has another.
fn replace(value: &mut Vec<u8>, other: impl Fn(WireLifetime) -> Option<WireLifetime>) {
    let mut result = Vec::new();
    let mut rest = value.as_slice();
    while let Some(at) = find(rest, BEGIN) {
        let (before, found) = rest.split_at(at);
        result.extend_from_slice(before);
        rest = match stored(found).and_then(|(lifetime, after)| Some((other(lifetime)?, after))) {
            Some((lifetime, after)) => {
                result.extend_from_slice(BEGIN);
                result.extend_from_slice(lifetime.not_before.to_string().as_bytes());
                result.extend_from_slice(MIDDLE);
                result.extend_from_slice(lifetime.not_after.to_string().as_bytes());
                after
            }
            None => {
                result.extend_from_slice(BEGIN);
                &found[BEGIN.len()..]
            }
        };
    }
    if !result.is_empty() {
        result.extend_from_slice(rest);
        *value = result;
    }
}

/// The lifetime at the beginning of `text`, and what follows its last digit.
fn stored(text: &[u8]) -> Option<(WireLifetime, &[u8])> {
    let (not_before, rest) = number(text.strip_prefix(BEGIN)?)?;
    let (not_after, rest) = number(rest.strip_prefix(MIDDLE)?)?;
    let lifetime = WireLifetime {
        not_before,
        not_after,
    };
    Some((lifetime, rest))
}

fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = text.split_at(digits);
    Some((std::str::from_utf8(number).ok()?.parse().ok()?, rest))
}

/// A member's provider while stand-ins are shown.
pub struct Showing<'a> {
    pub crypto: Restoring,
    pub rand: &'a Crypto,
    pub storage: &'a MemoryStorage,
}

impl OpenMlsProvider for Showing<'_> {
    type CryptoProvider = Restoring;
    type RandProvider = Crypto;
    type StorageProvider = MemoryStorage;

    fn storage(&self) -> &MemoryStorage {
        self.storage
    }

    fn crypto(&self) -> &Restoring {
        &self.crypto
    }

    fn rand(&self) -> &Crypto {
        self.rand
    }
}
