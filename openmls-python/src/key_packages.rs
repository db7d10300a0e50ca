//! Key packages outside of any group: their content, validity and reference.
//!
//! OpenMLS compares the lifetime of a key package with the system clock. Where the caller says what time it is, this
//! is the only clock: a lifetime that does not cover the present is shown to OpenMLS as a stand-in (see `stand_ins`),
//! and the genuine one is compared with the caller's time here.

use std::collections::BTreeMap;

use crate::crypto::Crypto;
use openmls::prelude::{KeyPackage, LeafNode, ProtocolVersion};
use pyo3::prelude::*;
use tls_codec::{DeserializeBytes, Serialize};

use crate::added::key_package_lifetime;
use crate::convert::{Certificates, ExtensionList};
use crate::error::{Failure, Kind, Outcome};
use crate::guard::detached;
use crate::lifetimes::{self, clock, stale, Judging, Validity};
use crate::requirements::Requirements;
use crate::stand_ins::StandIns;
use crate::values::{short, Capabilities};
use crate::wire::{self, WireLifetime};
use crate::{config, credential, labels, members};

/// Label of a KeyPackageRef, RFC 9420 section 5.2.
const REFERENCE_LABEL: &str = "MLS 1.0 KeyPackage Reference";
/// ProtocolVersion mls10.
const MLS10: u16 = 1;

fn invalid(text: impl std::fmt::Display) -> Failure {
    Failure::new(Kind::InvalidKeyPackage, text)
}

fn as_invalid(failure: Failure) -> Failure {
    match failure.kind {
        Kind::Poisoned => failure,
        _ => invalid(failure.message),
    }
}

/// Decode a key package and check everything that does not depend on a group, with `validity.now` as the only clock if
/// it is there.
pub fn valid_key_package(data: &[u8], validity: Validity) -> Outcome<KeyPackage> {
    let data = wire::key_package_bytes(data);
    let key_package = match validity.now {
        None => validated(data)?,
        Some(now) => valid_at(data, now)?,
    };
    let suite: u16 = key_package.ciphersuite().into();
    config::ciphersuite(suite).map_err(as_invalid)?;
    credential::check(key_package.leaf_node().credential()).map_err(as_invalid)?;
    if !validity.accepts_length(key_package.life_time()) {
        return Err(invalid("the key package is valid for too long"));
    }
    check_capabilities(key_package.leaf_node(), suite)?;
    Ok(key_package)
}

/// What OpenMLS checks only when the leaf is put into a group. RFC 9420 section 7.2: the capabilities hold the
/// versions, ciphersuites and credential types that the client supports; section 7.3: "the ID for each extension in the
/// extensions field is listed in the capabilities.extensions field of the LeafNode."
fn check_capabilities(leaf: &LeafNode, suite: u16) -> Outcome<()> {
    let capabilities = Capabilities::of(leaf.capabilities())?;
    if !capabilities.ciphersuites.contains(&suite) || !capabilities.versions.contains(&MLS10) {
        return Err(invalid(
            "the leaf does not announce its own ciphersuite and version",
        ));
    }
    let own = Requirements {
        extensions: members::extension_list(leaf.extensions())?
            .iter()
            .map(|extension| extension.kind)
            .collect(),
        proposals: Vec::new(),
        credentials: vec![leaf.credential().credential_type().into()],
    };
    match own.missing(&capabilities) {
        None => Ok(()),
        Some(missing) => Err(invalid(format!(
            "the leaf does not announce its own {missing}"
        ))),
    }
}

fn validated(data: &[u8]) -> Outcome<KeyPackage> {
    wire::key_package(data)
        .map_err(as_invalid)?
        .validate(&Crypto::default(), ProtocolVersion::Mls10)
        .map_err(invalid)
}

fn located_lifetime(data: &[u8]) -> Outcome<(usize, WireLifetime)> {
    key_package_lifetime(data)
        .map_err(as_invalid)?
        .ok_or_else(|| invalid("the leaf is not that of a key package"))
}

fn valid_at(data: &[u8], now: u64) -> Outcome<KeyPackage> {
    let (_, lifetime) = located_lifetime(data)?;
    // RFC 9420 section 7.2: "A client MUST NOT use the data in a LeafNode for any processing before the not_before
    // date, or after the not_after date."
    if !lifetime.covers(now) {
        return Err(invalid(format!(
            "the key package is valid from {} to {}, not at {now}",
            lifetime.not_before, lifetime.not_after
        )));
    }
    if !stale(&lifetime, clock()?) {
        return validated(data);
    }
    valid_at_some_time(data)
}

/// Decode a KeyPackage struct and verify everything but when it is valid.
pub fn valid_at_some_time(data: &[u8]) -> Outcome<KeyPackage> {
    let decoded = wire::key_package(data).map_err(as_invalid)?;
    let (offset, lifetime) = located_lifetime(data)?;
    let stand_ins = StandIns::new([lifetime].into_iter())?
        .ok_or_else(|| Failure::internal("nothing to stand in for"))?;
    let mut shown = data.to_vec();
    stand_ins.show(&mut shown, offset, lifetime)?;
    wire::key_package(&shown)
        .map_err(as_invalid)?
        .validate(
            &stand_ins.crypto(&[data]).map_err(as_invalid)?,
            ProtocolVersion::Mls10,
        )
        .map_err(invalid)?;
    // All that OpenMLS checks holds for the genuine bytes: its signatures were verified over them.
    Ok(decoded.into_unchecked())
}

/// The KeyPackage struct of an added client, with its genuine lifetime.
pub fn genuine(key_package: &KeyPackage, judging: Option<&Judging<'_>>) -> Outcome<Vec<u8>> {
    let mut data = key_package.tls_serialize_detached()?;
    let shown = key_package.life_time();
    if let Some(genuine) = judging.map(|judging| judging.genuine(shown)) {
        if genuine != *shown {
            let genuine = WireLifetime {
                not_before: genuine.not_before(),
                not_after: genuine.not_after(),
            }
            .tls_serialize_detached()?;
            let (offset, _) = key_package_lifetime(&data)?
                .ok_or_else(|| Failure::internal("a key package without lifetime"))?;
            data[offset..offset + genuine.len()].copy_from_slice(&genuine);
        }
    }
    Ok(data)
}

/// The KeyPackageRef of a KeyPackage struct whose ciphersuite this binding knows. Nothing is verified.
pub fn reference(key_package: &[u8]) -> Outcome<Vec<u8>> {
    let (_version, rest) = u16::tls_deserialize_bytes(key_package)?;
    let (suite, _) = u16::tls_deserialize_bytes(rest)?;
    labels::ref_hash(config::ciphersuite(suite)?, REFERENCE_LABEL, key_package)
}

#[pyclass(frozen, get_all, module = "openmls")]
pub struct KeyPackageInfo {
    pub reference: Vec<u8>,
    pub ciphersuite: u16,
    pub identity: Vec<u8>,
    pub credential: Vec<u8>,
    pub certificates: Certificates,
    pub signature_key: Vec<u8>,
    pub encryption_key: Vec<u8>,
    pub init_key: Vec<u8>,
    pub last_resort: bool,
    pub not_before: u64,
    pub not_after: u64,
    pub capabilities: Capabilities,
    pub app_data: BTreeMap<u16, Vec<u8>>,
    pub leaf_app_data: BTreeMap<u16, Vec<u8>>,
    pub extensions: ExtensionList,
    pub leaf_extensions: ExtensionList,
}

#[pymethods]
impl KeyPackageInfo {
    fn __repr__(&self) -> String {
        format!(
            "<KeyPackageInfo {} identity={:?}>",
            short(&self.reference),
            String::from_utf8_lossy(&self.identity)
        )
    }
}

fn key_package_info(
    data: &[u8],
    validity: Validity,
    required: &Requirements,
    suite: Option<u16>,
) -> Outcome<KeyPackageInfo> {
    let key_package = valid_key_package(data, validity)?;
    let leaf = key_package.leaf_node();
    let capabilities = Capabilities::of(leaf.capabilities())?;
    let ciphersuite: u16 = key_package.ciphersuite().into();
    if let Some(wanted) = suite.filter(|wanted| *wanted != ciphersuite) {
        return Err(invalid(format!(
            "the key package is of ciphersuite {ciphersuite:#06x}, not {wanted:#06x}"
        )));
    }
    if let Some(missing) = required.missing(&capabilities) {
        return Err(invalid(format!("the client does not support {missing}")));
    }
    Ok(KeyPackageInfo {
        reference: reference(wire::key_package_bytes(data))?,
        ciphersuite,
        identity: credential::identity(leaf.credential()).to_vec(),
        credential: leaf.credential().tls_serialize_detached()?,
        certificates: Certificates(credential::certificates(leaf.credential())?),
        signature_key: leaf.signature_key().as_slice().to_vec(),
        encryption_key: members::encryption_key(leaf)?,
        init_key: key_package.hpke_init_key().as_slice().to_vec(),
        last_resort: config::is_last_resort(&key_package),
        not_before: key_package.life_time().not_before(),
        not_after: key_package.life_time().not_after(),
        capabilities,
        app_data: members::app_data(key_package.extensions()),
        leaf_app_data: members::app_data(leaf.extensions()),
        extensions: ExtensionList(members::extension_list(key_package.extensions())?),
        leaf_extensions: ExtensionList(members::extension_list(leaf.extensions())?),
    })
}

#[pyfunction]
#[pyo3(signature = (data, *, now, ciphersuite = None, required_extensions = Vec::new(),
                    required_proposals = Vec::new(), required_credentials = Vec::new(),
                    maximum_lifetime = lifetimes::MAXIMUM_LIFETIME))]
pub fn inspect_key_package(
    py: Python<'_>,
    data: &[u8],
    now: u64,
    ciphersuite: Option<u16>,
    required_extensions: Vec<u16>,
    required_proposals: Vec<u16>,
    required_credentials: Vec<u16>,
    maximum_lifetime: u64,
) -> PyResult<KeyPackageInfo> {
    let required = Requirements {
        extensions: required_extensions,
        proposals: required_proposals,
        credentials: required_credentials,
    };
    let validity = Validity {
        now: Some(now),
        maximum: maximum_lifetime,
    };
    detached(py, || {
        key_package_info(data, validity, &required, ciphersuite)
    })
}

#[pyfunction]
pub fn key_package_reference(py: Python<'_>, data: &[u8]) -> PyResult<Vec<u8>> {
    detached(py, || {
        let data = wire::key_package_bytes(data);
        wire::key_package(data)?;
        reference(data)
    })
}
