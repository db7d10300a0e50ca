//! How long a member keeps the keys of messages it may still receive.

use openmls::prelude::SenderRatchetConfiguration;

use crate::error::{Failure, Outcome};

/// Epochs whose message keys are kept, so that a message sent just before a commit can still be read after it.
pub const PAST_EPOCHS: u32 = 3;
/// The most of them: each holds a secret tree as large as the group, and what is kept is not forward secret.
const MAX_PAST_EPOCHS: u32 = 64;
/// How many messages of one sender may arrive late before their keys are dropped.
pub const OUT_OF_ORDER_TOLERANCE: u32 = 32;
/// The most of them: so many keys may be stored for each sender in each epoch.
const MAX_OUT_OF_ORDER_TOLERANCE: u32 = 1024;
/// How many messages of one sender may be missing before one that arrives; bounds the hashing a peer can cause.
pub const MAXIMUM_FORWARD_DISTANCE: u32 = 2000;
/// The most of them: three hashes each, so that one message costs a fraction of a second.
const MAX_FORWARD_DISTANCE: u32 = 100_000;

/// Stored by OpenMLS with each group.
#[derive(Clone, Copy)]
pub struct Retention {
    pub past_epochs: usize,
    pub ratchet: (u32, u32),
}

impl Retention {
    pub fn new(
        past_epochs: u32,
        out_of_order_tolerance: u32,
        maximum_forward_distance: u32,
    ) -> Outcome<Self> {
        let within = |name: &str, value: u32, most: u32| {
            if value <= most {
                Ok(())
            } else {
                Err(Failure::not_allowed(format!("{name} is at most {most}")))
            }
        };
        within("past_epochs", past_epochs, MAX_PAST_EPOCHS)?;
        within(
            "out_of_order_tolerance",
            out_of_order_tolerance,
            MAX_OUT_OF_ORDER_TOLERANCE,
        )?;
        within(
            "maximum_forward_distance",
            maximum_forward_distance,
            MAX_FORWARD_DISTANCE,
        )?;
        Ok(Self {
            past_epochs: past_epochs as usize,
            ratchet: (out_of_order_tolerance, maximum_forward_distance),
        })
    }

    pub fn ratchet(&self) -> SenderRatchetConfiguration {
        SenderRatchetConfiguration::new(self.ratchet.0, self.ratchet.1)
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            past_epochs: PAST_EPOCHS as usize,
            ratchet: (OUT_OF_ORDER_TOLERANCE, MAXIMUM_FORWARD_DISTANCE),
        }
    }
}
