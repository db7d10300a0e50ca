//! What a client must support (RFC 9420 sections 7.2 and 11.1), as numbers of the IANA registries.

use openmls::prelude::RequiredCapabilitiesExtension;

use crate::values::Capabilities;

/// Extension and proposal types that RFC 9420 section 7.2 calls default: every client supports them and none
/// lists them.
const DEFAULT_EXTENSIONS: std::ops::RangeInclusive<u16> = 1..=5;
const DEFAULT_PROPOSALS: std::ops::RangeInclusive<u16> = 1..=7;

#[derive(Default)]
pub struct Requirements {
    pub extensions: Vec<u16>,
    pub proposals: Vec<u16>,
    pub credentials: Vec<u16>,
}

impl Requirements {
    pub fn of(required: &RequiredCapabilitiesExtension) -> Self {
        Self {
            extensions: required
                .extension_types()
                .iter()
                .map(|kind| u16::from(*kind))
                .collect(),
            proposals: required
                .proposal_types()
                .iter()
                .map(|kind| u16::from(*kind))
                .collect(),
            credentials: required
                .credential_types()
                .iter()
                .map(|kind| u16::from(*kind))
                .collect(),
        }
    }

    /// What `capabilities` lacks, for people; None if that is nothing.
    pub fn missing(&self, capabilities: &Capabilities) -> Option<String> {
        let lacking = |name: &str, wanted: &[u16], default: &[u16], offered: &[u16]| {
            wanted
                .iter()
                .filter(|kind| !offered.contains(kind) && !default.contains(kind))
                .map(|kind| format!("{name} {kind:#06x}"))
                .collect::<Vec<_>>()
        };
        let default_extensions: Vec<u16> = DEFAULT_EXTENSIONS.collect();
        let default_proposals: Vec<u16> = DEFAULT_PROPOSALS.collect();
        let mut missing = lacking(
            "extension",
            &self.extensions,
            &default_extensions,
            &capabilities.extensions,
        );
        missing.extend(lacking(
            "proposal",
            &self.proposals,
            &default_proposals,
            &capabilities.proposals,
        ));
        missing.extend(lacking(
            "credential",
            &self.credentials,
            &[],
            &capabilities.credentials,
        ));
        (!missing.is_empty()).then(|| missing.join(", "))
    }
}
