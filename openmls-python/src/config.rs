//! Choices this binding makes for every group: ciphersuites, capabilities, wire formats, retention.

use std::collections::BTreeMap;

use openmls::extensions::{
    AppDataDictionary, AppDataDictionaryExtension, Extension, ExtensionType, Extensions,
    ExternalSender, RequiredCapabilitiesExtension,
};
use openmls::group::{
    GroupContext, MlsGroupCreateConfig, MlsGroupJoinConfig, PURE_PLAINTEXT_WIRE_FORMAT_POLICY,
};
use openmls::prelude::{
    BasicCredential, Capabilities, Ciphersuite, CredentialType, KeyPackage, LeafNode, Lifetime,
    ProposalType, ProtocolVersion,
};

use crate::error::{Failure, Outcome};
use crate::options::Retention;

/// Proposals kept per epoch. RFC 9420 has no bound; without one a member could grow the state without end.
pub const MAX_PENDING_PROPOSALS: usize = 1024;
/// Seconds a key package is valid before its creation, for clocks that run behind.
pub const CLOCK_SKEW: u64 = 3600;
/// Seconds the first leaf of a new group is valid: 84 days, see `lifetimes::MAXIMUM_LIFETIME`.
const CREATOR_LIFETIME: u64 = 84 * 24 * 3600;
/// Epochs whose resumption secret is kept: as many as OpenMLS keeps for who creates a group or joins it by itself.
const RESUMPTION_PSKS: usize = 32;

/// Component ID of `last_resort_key_package`, draft-ietf-mls-extensions section 7.5.
const LAST_RESORT_COMPONENT: u16 = 0x0004;

/// What we use, tested each. RFC 9420 has more: 0x0005 (P-521) and those with X448, for which `openmls_rust_crypto`
/// has no primitives.
pub const SUPPORTED: [Ciphersuite; 5] = [
    Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519,
    Ciphersuite::MLS_128_DHKEMP256_AES128GCM_SHA256_P256,
    Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519,
    Ciphersuite::MLS_256_DHKEMP384_AES256GCM_SHA384_P384,
    Ciphersuite::MLS_256_XWING_CHACHA20POLY1305_SHA256_Ed25519,
];

pub fn ciphersuite(number: u16) -> Outcome<Ciphersuite> {
    SUPPORTED
        .into_iter()
        .find(|suite| u16::from(*suite) == number)
        .ok_or_else(|| Failure::not_allowed(format!("ciphersuite {number:#06x} is not supported")))
}

/// What our leaves announce. `ratchet_tree`, `external_pub`, `required_capabilities` and
/// `external_senders` are default extensions, which RFC 9420 section 7.2 forbids to list.
pub fn capabilities() -> Capabilities {
    Capabilities::new(
        Some(&[ProtocolVersion::Mls10]),
        Some(&SUPPORTED),
        Some(&[ExtensionType::AppDataDictionary, ExtensionType::LastResort]),
        Some(&[
            ProposalType::AppDataUpdate,
            ProposalType::AppEphemeral,
            ProposalType::SelfRemove,
        ]),
        Some(&[CredentialType::Basic, CredentialType::X509]),
    )
}

pub fn join_config(retention: Retention) -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
        .use_ratchet_tree_extension(false)
        .max_past_epochs(retention.past_epochs)
        .number_of_resumption_psks(RESUMPTION_PSKS)
        .sender_ratchet_configuration(retention.ratchet())
        .build()
}

pub fn create_config(
    suite: Ciphersuite,
    extensions: Extensions<GroupContext>,
    leaf_extensions: Extensions<LeafNode>,
    retention: Retention,
    now: Option<u64>,
) -> Outcome<MlsGroupCreateConfig> {
    let lifetime = now.map_or_else(Lifetime::default, |now| {
        Lifetime::init(
            now.saturating_sub(CLOCK_SKEW),
            now.saturating_add(CREATOR_LIFETIME),
        )
    });
    Ok(MlsGroupCreateConfig::builder()
        .ciphersuite(suite)
        .capabilities(capabilities())
        .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
        .use_ratchet_tree_extension(false)
        .max_past_epochs(retention.past_epochs)
        .number_of_resumption_psks(RESUMPTION_PSKS)
        .sender_ratchet_configuration(retention.ratchet())
        .lifetime(lifetime)
        .with_group_context_extensions(extensions)
        .with_leaf_node_extensions(leaf_extensions)
        .map_err(Failure::not_allowed)?
        .build())
}

/// Whether a key package is marked for repeated use, by the component or by the extension of earlier drafts.
pub fn is_last_resort(key_package: &KeyPackage) -> bool {
    key_package.last_resort()
        || key_package
            .extensions()
            .app_data_dictionary()
            .is_some_and(|extension| extension.dictionary().contains(&LAST_RESORT_COMPONENT))
}

/// An `app_data_dictionary` extension (draft-ietf-mls-extensions, section 4.6).
pub fn dictionary(components: impl IntoIterator<Item = (u16, Vec<u8>)>) -> Extension {
    let mut dictionary = AppDataDictionary::new();
    for (component, data) in components {
        dictionary.insert(component, data);
    }
    Extension::AppDataDictionary(AppDataDictionaryExtension::new(dictionary))
}

/// The extensions of a leaf with these components, if there are any.
pub fn leaf_extensions(components: BTreeMap<u16, Vec<u8>>) -> Outcome<Extensions<LeafNode>> {
    if components.is_empty() {
        return Ok(Extensions::empty());
    }
    Extensions::single(dictionary(components)).map_err(Failure::internal)
}

/// draft-ietf-mls-extensions, Last-Resort KeyPackages: "a last_resort_key_package component contains the
/// component_id with an empty data field." OpenMLS itself goes by the extension of earlier drafts and adds it.
pub fn key_package_extensions(
    mut components: BTreeMap<u16, Vec<u8>>,
    last_resort: bool,
) -> Outcome<Extensions<KeyPackage>> {
    if components.contains_key(&LAST_RESORT_COMPONENT) {
        return Err(Failure::not_allowed(
            "component 0x0004 is set by last_resort",
        ));
    }
    if last_resort {
        components.insert(LAST_RESORT_COMPONENT, Vec::new());
    }
    if components.is_empty() {
        return Ok(Extensions::empty());
    }
    Extensions::single(dictionary(components)).map_err(Failure::internal)
}

/// The GroupContext extensions of a new group. Without `required_capabilities` and `app_data` there is nothing in
/// them that a client of RFC 9420 alone does not know.
pub fn group_extensions(
    app_data: impl IntoIterator<Item = (u16, Vec<u8>)>,
    external_senders: Vec<(Vec<u8>, Vec<u8>)>,
    required_credentials: Option<&[CredentialType]>,
) -> Outcome<Extensions<GroupContext>> {
    let components: BTreeMap<u16, Vec<u8>> = app_data.into_iter().collect();
    let mut extensions = Vec::new();
    if let Some(credentials) = required_credentials {
        extensions.push(Extension::RequiredCapabilities(
            RequiredCapabilitiesExtension::new(
                &[ExtensionType::AppDataDictionary],
                &[ProposalType::AppDataUpdate, ProposalType::SelfRemove],
                credentials,
            ),
        ));
    }
    if !external_senders.is_empty() {
        extensions.push(senders(external_senders));
    }
    // The last one: an AppDataUpdate should leave the extension where it is (draft-ietf-mls-extensions section
    // 4.7), but OpenMLS moves it to the end, and members who do not would have another GroupContext.
    if required_credentials.is_some() || !components.is_empty() {
        extensions.push(dictionary(components));
    }
    Extensions::from_vec(extensions).map_err(Failure::not_allowed)
}

/// An `external_senders` extension; each sender has a signature key and the content of its basic credential.
pub fn senders(external_senders: Vec<(Vec<u8>, Vec<u8>)>) -> Extension {
    let senders = external_senders
        .into_iter()
        .map(|(key, identity)| {
            ExternalSender::new(key.into(), BasicCredential::new(identity).into())
        })
        .collect();
    Extension::ExternalSenders(senders)
}
