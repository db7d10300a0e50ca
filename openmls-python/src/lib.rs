//! Python bindings for OpenMLS.
//!
//! `client` and `group` are the member's side, `public_group` and `staged` the delivery service's, `inspect`
//! and `keys` need no state. Everything crosses the boundary as TLS-encoded bytes.

use pyo3::prelude::*;

mod aad;
mod added;
mod app_data;
mod bridging;
mod client;
mod committing;
mod config;
mod context;
mod convert;
mod credential;
mod crypto;
mod ed25519;
mod error;
mod external_proposals;
mod external_sender;
mod framing;
mod group;
mod group_info;
mod guard;
mod inspect;
mod join;
mod key_packages;
mod key_store;
mod keys;
mod labels;
mod lifetimes;
mod member;
mod members;
mod observe;
mod options;
mod processed;
mod processing;
mod proposals;
mod proposing;
mod provider;
mod psk;
mod public_group;
mod public_proposal;
mod queued;
mod ratchet_tree;
mod reaching;
mod reinit;
mod replace;
mod requirements;
mod restoring;
mod rules;
mod snapshot;
mod staged;
mod stand_ins;
mod state;
mod store;
mod storing;
mod successor;
mod tracked;
mod values;
mod welcome;
mod wire;

/// A group is many small allocations, made by one thread and freed by another: see decision 0025.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[pymodule]
fn _openmls(module: &Bound<'_, PyModule>) -> PyResult<()> {
    guard::silence_panic_output();
    module.add("CIPHERSUITE_X25519_AES128GCM_SHA256_ED25519", 1_u16)?;
    module.add("CIPHERSUITE_P256_AES128GCM_SHA256_P256", 2_u16)?;
    module.add("CIPHERSUITE_X25519_CHACHA20POLY1305_SHA256_ED25519", 3_u16)?;
    module.add("CIPHERSUITE_P384_AES256GCM_SHA384_P384", 7_u16)?;
    module.add(
        "CIPHERSUITE_XWING_CHACHA20POLY1305_SHA256_ED25519",
        0x4D_u16,
    )?;
    module.add("MAXIMUM_LIFETIME", lifetimes::MAXIMUM_LIFETIME)?;
    module.add_class::<client::Client>()?;
    module.add_class::<group::Group>()?;
    module.add_class::<public_group::PublicGroup>()?;
    module.add_class::<staged::StagedCommit>()?;
    module.add_class::<keys::SignatureKeyPair>()?;
    module.add_class::<keys::HpkeKeyPair>()?;
    module.add_class::<ed25519::Ed25519Key>()?;
    module.add_class::<values::Member>()?;
    module.add_class::<values::AppDataUpdate>()?;
    module.add_class::<values::MessageInfo>()?;
    module.add_class::<values::Capabilities>()?;
    module.add_class::<key_packages::KeyPackageInfo>()?;
    module.add_class::<values::GroupInfoDetails>()?;
    module.add_class::<values::CommitBundle>()?;
    module.add_class::<values::ProposalInfo>()?;
    module.add_class::<ratchet_tree::RatchetTreeInfo>()?;
    module.add_class::<processed::AppEphemeral>()?;
    module.add_class::<processed::Processed>()?;
    module.add_class::<psk::PskId>()?;
    module.add_class::<context::RequiredCapabilities>()?;
    module.add_class::<reinit::ReInit>()?;
    module.add_class::<welcome::WelcomePreview>()?;
    module.add_function(wrap_pyfunction!(inspect::inspect_message, module)?)?;
    module.add_function(wrap_pyfunction!(inspect::reencode, module)?)?;
    module.add_function(wrap_pyfunction!(key_packages::inspect_key_package, module)?)?;
    module.add_function(wrap_pyfunction!(
        key_packages::key_package_reference,
        module
    )?)?;
    module.add_function(wrap_pyfunction!(inspect::welcome_references, module)?)?;
    module.add_function(wrap_pyfunction!(inspect::group_info_details, module)?)?;
    module.add_function(wrap_pyfunction!(inspect::proposal_reference, module)?)?;
    module.add_function(wrap_pyfunction!(
        ratchet_tree::inspect_ratchet_tree,
        module
    )?)?;
    module.add_function(wrap_pyfunction!(inspect::hash, module)?)?;
    module.add_function(wrap_pyfunction!(inspect::verify_with_label, module)?)?;
    module.add_function(wrap_pyfunction!(inspect::encrypt_with_label, module)?)?;
    module.add_function(wrap_pyfunction!(ed25519::ed25519_verify, module)?)?;
    module.add_function(wrap_pyfunction!(ed25519::ed25519_verify_all, module)?)?;
    Ok(())
}
