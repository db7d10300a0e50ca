//! Lifetimes that cover the present, shown to OpenMLS in place of genuine ones that do not.
//!
//! `Restoring` puts the genuine ones back into everything that is hashed, signed or authenticated, and `put_back`
//! into what OpenMLS stored.

use std::collections::BTreeSet;

use crate::crypto::Crypto;
use openmls_traits::random::OpenMlsRand;
use openmls_traits::OpenMlsProvider;
use tls_codec::Serialize;

use crate::error::{Failure, Kind, Outcome};
use crate::restoring::{find, Restoring};
use crate::store::{Contents, Store, Value};
use crate::wire::WireLifetime;

/// Random bits in either end of a stand-in. The beginning of one is before 2004, so that it covers every present.
const RANDOM_BITS: u32 = 29;
/// The beginning of every stand-in is above this, so that all are encoded in the same number of bytes.
const BEGIN: u64 = 1 << RANDOM_BITS;
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
            not_before: BEGIN | ((random >> NUMBER_BITS) & mask),
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

    /// Show the stand-ins in the queued Add proposals `added`: their references, as the store holds them, and lifetimes.
    pub fn show_stored(
        &self,
        contents: &mut Contents,
        added: &[(Vec<u8>, WireLifetime)],
    ) -> Outcome<()> {
        for (reference, genuine) in added {
            let Some(shown) = self.shown(*genuine) else {
                continue;
            };
            let queued = contents
                .proposals
                .iter_mut()
                .find(|queued| queued.reference == *reference)
                .ok_or_else(|| Failure::internal("a proposal is not in the store"))?;
            let (genuine, shown) = (stored(*genuine)?, stored(shown)?);
            let begin = &queued.proposal.0;
            let at = find(begin, &genuine)
                .ok_or_else(|| Failure::internal("a lifetime is not in the store"))?;
            // The proposal holds its lifetime once. Where the same bytes stand elsewhere in it as well, nobody could
            // say which are meant.
            if find(&begin[at + 1..], &genuine).is_some() {
                return Err(Failure::new(
                    Kind::InvalidProposal,
                    "the key package repeats its lifetime",
                ));
            }
            let mut value = begin[..at].to_vec();
            value.extend_from_slice(&shown);
            value.extend_from_slice(&begin[at + genuine.len()..]);
            queued.proposal = Value(value.into());
        }
        Ok(())
    }

    /// Put the genuine lifetimes back into a store.
    pub fn put_back(&self, contents: &mut Contents) -> Outcome<()> {
        let begin = stored_number(self.not_before)?;
        for value in contents.values.values_mut() {
            self.put_back_value(value, &begin)?;
        }
        for queued in &mut contents.proposals {
            self.put_back_value(&mut queued.proposal, &begin)?;
        }
        Ok(())
    }

    fn put_back_value(&self, value: &mut Value, begin: &[u8]) -> Outcome<()> {
        let mut result = Vec::new();
        let mut rest = value.0.as_slice();
        while let Some(at) = find(rest, begin) {
            let end = at + begin.len();
            let found = postcard::take_from_bytes(&rest[end..]).ok();
            let genuine = found.and_then(|(not_after, after)| {
                let not_before = self.not_before;
                let shown = WireLifetime {
                    not_before,
                    not_after,
                };
                Some((self.genuine(shown)?, after))
            });
            rest = match genuine {
                Some((genuine, after)) => {
                    result.extend_from_slice(&rest[..at]);
                    result.extend_from_slice(&stored(genuine)?);
                    after
                }
                None => {
                    result.extend_from_slice(&rest[..end]);
                    &rest[end..]
                }
            };
        }
        if !result.is_empty() {
            result.extend_from_slice(rest);
            *value = Value(result.into());
        }
        Ok(())
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

/// How a number stands in a store.
fn stored_number(number: u64) -> Outcome<Vec<u8>> {
    postcard::to_stdvec(&number).map_err(Failure::internal)
}

/// How a lifetime stands in a store.
fn stored(lifetime: WireLifetime) -> Outcome<Vec<u8>> {
    Ok([
        stored_number(lifetime.not_before)?,
        stored_number(lifetime.not_after)?,
    ]
    .concat())
}

/// A member's provider while stand-ins are shown.
pub struct Showing<'a> {
    pub crypto: Restoring,
    pub rand: &'a Crypto,
    pub storage: &'a Store,
}

impl OpenMlsProvider for Showing<'_> {
    type CryptoProvider = Restoring;
    type RandProvider = Crypto;
    type StorageProvider = Store;

    fn storage(&self) -> &Store {
        self.storage
    }

    fn crypto(&self) -> &Restoring {
        &self.crypto
    }

    fn rand(&self) -> &Crypto {
        self.rand
    }
}
