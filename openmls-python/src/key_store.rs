//! A client's own key packages: making them, taking them over from another device, counting and forgetting them.

use openmls::ciphersuite::hash_ref::KeyPackageRef;
use openmls::prelude::{Ciphersuite, KeyPackage, Lifetime};
use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::random::OpenMlsRand;
use openmls_traits::storage::{traits, Entity, StorageProvider, CURRENT_VERSION};
use openmls_traits::types::HpkePrivateKey;
use openmls_traits::OpenMlsProvider as _;
use serde::{Deserialize, Serialize};
use tls_codec::{Serialize as _, VLBytes};

use crate::app_data::NewValues;
use crate::config;
use crate::crypto::Crypto;
use crate::error::{Failure, Outcome};
use crate::key_packages::valid_at_some_time;
use crate::provider::Provider;
use crate::state::ClientState;
use crate::store::Table;
use crate::wire;

/// What OpenMLS stores for a key package; it has no other way to hand over private keys.
#[derive(Serialize, Deserialize)]
struct Bundle {
    key_package: KeyPackage,
    private_init_key: HpkePrivateKey,
    private_encryption_key: LeafKey,
}

#[derive(Serialize, Deserialize)]
struct LeafKey {
    key: HpkePrivateKey,
}

impl Entity<CURRENT_VERSION> for Bundle {}
impl traits::KeyPackage<CURRENT_VERSION> for Bundle {}

/// Random bytes that both halves of a key pair must agree on.
const PROBE_LENGTH: usize = 32;
pub struct NewKeyPackage {
    pub now: u64,
    pub lifetime: u64,
    pub last_resort: bool,
    pub app_data: NewValues,
    pub leaf_app_data: NewValues,
}

pub fn create(
    client: &ClientState,
    key_packages: &Provider,
    request: NewKeyPackage,
) -> Outcome<Vec<u8>> {
    let not_after = request
        .now
        .checked_add(request.lifetime)
        .ok_or_else(|| Failure::not_allowed("the lifetime is too long"))?;
    let lifetime = Lifetime::init(request.now.saturating_sub(config::CLOCK_SKEW), not_after);
    if !client.validity(None).accepts_length(&lifetime) {
        return Err(Failure::not_allowed("the lifetime is too long"));
    }
    let mut builder = KeyPackage::builder()
        .key_package_lifetime(lifetime)
        .leaf_node_capabilities(config::capabilities())
        .leaf_node_extensions(config::leaf_extensions(request.leaf_app_data)?)
        .key_package_extensions(config::key_package_extensions(
            request.app_data,
            request.last_resort,
        )?);
    if request.last_resort {
        builder = builder.mark_as_last_resort();
    }
    let bundle = builder
        .build(
            client.suite,
            key_packages,
            &client.signer,
            client.certified_key(),
        )
        .map_err(Failure::internal)?;
    Ok(bundle.key_package().tls_serialize_detached()?)
}

/// Keep a key package of this client that was made elsewhere; gives its reference.
pub fn import(
    client: &ClientState,
    key_packages: &Provider,
    key_package: &[u8],
    init_key: &[u8],
    encryption_key: &[u8],
) -> Outcome<Vec<u8>> {
    // Its lifetime may be over: it was used in time by who adds us.
    let key_package = valid_at_some_time(wire::key_package_bytes(key_package))?;
    let leaf = key_package.leaf_node();
    let own = client.certified_key();
    if leaf.credential() != &own.credential || leaf.signature_key() != &own.signature_key {
        return Err(Failure::not_allowed(
            "the key package has another identity or signature key than this client",
        ));
    }
    if key_package.ciphersuite() != client.suite {
        return Err(Failure::not_allowed(
            "the key package is of another ciphersuite",
        ));
    }
    let bundle = Bundle {
        private_init_key: init_key.into(),
        private_encryption_key: LeafKey {
            key: encryption_key.into(),
        },
        key_package,
    };
    let init = bundle.key_package.hpke_init_key();
    check_pair(client.suite, init.as_slice(), &bundle.private_init_key)?;
    let leaf = bundle.key_package.leaf_node().encryption_key();
    let leaf: VLBytes = wire::exact(&leaf.tls_serialize_detached()?)?;
    check_pair(
        client.suite,
        leaf.as_slice(),
        &bundle.private_encryption_key.key,
    )?;
    let reference = bundle
        .key_package
        .hash_ref(key_packages.crypto())
        .map_err(Failure::internal)?;
    key_packages
        .storage()
        .write_key_package(&reference, &bundle)
        .map_err(Failure::internal)?;
    Ok(reference.as_slice().to_vec())
}

/// Seal with one half, open with the other: that works for every KEM.
fn check_pair(suite: Ciphersuite, public: &[u8], private: &[u8]) -> Outcome<()> {
    let crypto = Crypto::default();
    let probe = crypto.random_vec(PROBE_LENGTH).map_err(Failure::internal)?;
    let opened = crypto
        .hpke_seal(suite.hpke_config(), public, &[], &[], &probe)
        .and_then(|sealed| crypto.hpke_open(suite.hpke_config(), &sealed, private, &[], &[]));
    match opened {
        Ok(opened) if opened == probe => Ok(()),
        _ => Err(Failure::not_allowed(
            "a private key does not belong to the key package",
        )),
    }
}

/// The references of the key packages whose private keys are still here, sorted.
pub fn references(provider: &Provider) -> Outcome<Vec<Vec<u8>>> {
    let known: Vec<KeyPackageRef> = provider
        .storage()
        .keys(Table::KeyPackage)
        .map_err(Failure::internal)?;
    let mut found: Vec<Vec<u8>> = known
        .iter()
        .map(|reference| reference.as_slice().to_vec())
        .collect();
    found.sort();
    Ok(found)
}

/// Erase the private keys of a key package.
pub fn forget(provider: &Provider, reference: &[u8]) -> Outcome<()> {
    if !references(provider)?.iter().any(|known| known == reference) {
        return Err(Failure::not_allowed("no such key package"));
    }
    let encoded = VLBytes::from(reference).tls_serialize_detached()?;
    let reference: KeyPackageRef = wire::exact(&encoded)?;
    provider
        .storage()
        .delete_key_package(&reference)
        .map_err(Failure::internal)
}
