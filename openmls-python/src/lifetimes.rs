//! Judging the Add proposals of a handshake message by another time than the present.
//!
//! RFC 9420 section 7.3 demands that the lifetime of a leaf covers the time at which it is sent, and only recommends
//! to check it on receipt. OpenMLS compares the lifetime of every added leaf with the system clock, and has no way
//! to give it another time or to leave the check to its caller. So a commit that everybody accepted would become
//! invalid as soon as a key package in it expires.
//!
//! Where the caller says at what time a message is to be judged, the lifetimes that cover this time but not the
//! present are shown to OpenMLS as stand-ins (see `stand_ins`). All of them, shown or not, are then compared with
//! that time here.

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::{SystemTime, UNIX_EPOCH};

use openmls::group::QueuedProposal;
use openmls::prelude::{Lifetime, Proposal};

use crate::added::{added_lifetimes, AddedLifetime};
use crate::error::{Failure, Kind, Outcome};
use crate::stand_ins::StandIns;
use crate::store::key_bytes;
use crate::wire::{self, WireLifetime, WireProposal};

/// OpenMLS reads the clock a moment later, and clocks are set back: a lifetime that begins or ends this close to
/// the present (in seconds) is treated as if it did not cover it.
const CLOCK_MARGIN: u64 = 60;

/// Seconds since 1970.
pub fn clock() -> Outcome<u64> {
    Ok(SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(Failure::internal)?
        .as_secs())
}

/// Whether OpenMLS, which reads the system clock, may find that `lifetime` does not cover the `present`.
pub fn stale(lifetime: &WireLifetime, present: u64) -> bool {
    !(lifetime.covers(present.saturating_sub(CLOCK_MARGIN))
        && lifetime.covers(present.saturating_add(CLOCK_MARGIN)))
}

/// A handshake message and the time it is judged by.
pub struct Judging<'a> {
    /// The message as OpenMLS is to see it.
    pub message: Cow<'a, [u8]>,
    /// What stands in `message`, and must stand in the proposals `referred` to.
    pub stand_ins: Option<StandIns>,
    /// The queued Add proposals that the message, a commit, refers to and that need a stand-in: their references, as a
    /// store holds them, and lifetimes.
    pub referred: Vec<(Vec<u8>, WireLifetime)>,
    now: Option<u64>,
}

impl<'a> Judging<'a> {
    /// Judge `data`, received and not verified, by `now`, or by the system clock if that is None. `queued` are the
    /// stored proposals.
    pub fn new<'q>(
        data: &'a [u8],
        now: Option<u64>,
        queued: impl Iterator<Item = &'q QueuedProposal>,
    ) -> Outcome<Self> {
        let mut judging = Self {
            message: Cow::Borrowed(data),
            stand_ins: None,
            referred: Vec::new(),
            now,
        };
        let Some(now) = now else { return Ok(judging) };
        let present = clock()?;
        let stale = |lifetime: &WireLifetime| lifetime.covers(now) && stale(lifetime, present);
        // What cannot be decoded is left to OpenMLS, which says what is wrong with it.
        let mut by_value = added_lifetimes(data).unwrap_or_default();
        by_value.retain(|added| stale(&added.lifetime));
        judging.referred = referenced(data, queued)?;
        judging.referred.retain(|(_, lifetime)| stale(lifetime));
        judging.stand_ins = StandIns::new(
            by_value
                .iter()
                .map(|added| added.lifetime)
                .chain(judging.referred.iter().map(|(_, lifetime)| *lifetime)),
        )?;
        if let Some(stand_ins) = &judging.stand_ins {
            let shown = judging.message.to_mut();
            for AddedLifetime { offset, lifetime } in by_value {
                stand_ins.show(shown, offset, lifetime)?;
            }
        }
        Ok(judging)
    }

    /// The lifetime that `shown`, as OpenMLS saw it, really is.
    pub fn genuine(&self, shown: &Lifetime) -> Lifetime {
        let lifetime = WireLifetime {
            not_before: shown.not_before(),
            not_after: shown.not_after(),
        };
        match self
            .stand_ins
            .as_ref()
            .and_then(|known| known.genuine(lifetime))
        {
            Some(genuine) => Lifetime::init(genuine.not_before, genuine.not_after),
            None => *shown,
        }
    }

    /// Refuse a verified proposal that adds a leaf which is not valid at the time in question.
    pub fn check(&self, proposal: &QueuedProposal) -> Outcome<()> {
        let (Some(now), Proposal::Add(add)) = (self.now, proposal.proposal()) else {
            return Ok(());
        };
        let lifetime = self.genuine(add.key_package().life_time());
        let (not_before, not_after) = (lifetime.not_before(), lifetime.not_after());
        let lifetime = WireLifetime {
            not_before,
            not_after,
        };
        if lifetime.covers(now) {
            return Ok(());
        }
        Err(Failure::new(
            Kind::InvalidProposal,
            format!("the key package is valid from {not_before} to {not_after}, not at {now}"),
        ))
    }
}

/// The Add proposals that a commit takes by reference, each with the lifetime of its leaf.
fn referenced<'q>(
    data: &[u8],
    queued: impl Iterator<Item = &'q QueuedProposal>,
) -> Outcome<Vec<(Vec<u8>, WireLifetime)>> {
    let Ok(commit) = wire::commit(data) else {
        return Ok(Vec::new());
    };
    let taken: HashSet<&[u8]> = commit
        .proposals
        .iter()
        .filter_map(|proposal| match proposal {
            WireProposal::Reference(reference) => Some(reference.as_slice()),
            WireProposal::Value(_) => None,
        })
        .collect();
    let mut found = Vec::new();
    for known in queued {
        let reference = known.proposal_reference_ref();
        let Proposal::Add(add) = known.proposal() else {
            continue;
        };
        if taken.contains(reference.as_slice()) {
            let lifetime = add.key_package().life_time();
            found.push((
                key_bytes(reference).map_err(Failure::internal)?,
                WireLifetime {
                    not_before: lifetime.not_before(),
                    not_after: lifetime.not_after(),
                },
            ));
        }
    }
    Ok(found)
}
