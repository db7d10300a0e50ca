//! Changing GroupContext extensions other than the application data (RFC 9420 section 12.1.7).

use openmls::extensions::{Extension, ExtensionType, Extensions, RequiredCapabilitiesExtension};
use openmls::group::{GroupContext, MlsGroup};
use openmls::prelude::{CredentialType, ProposalType};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use tls_codec::{Serialize, TlsDeserializeBytes, TlsSerialize, TlsSize, VLBytes};

use crate::error::{Failure, Kind, Outcome};
use crate::{config, wire};

/// Every client supports these and lists them nowhere, RFC 9420 section 7.2.
const DEFAULT_EXTENSIONS: std::ops::RangeInclusive<u16> = 1..=5;
const DEFAULT_PROPOSALS: std::ops::RangeInclusive<u16> = 1..=7;

/// What every member must support (RFC 9420 section 11.1), as numbers of the IANA registries.
#[pyclass(frozen, eq, hash, module = "openmls")]
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequiredCapabilities {
    extensions: Vec<u16>,
    proposals: Vec<u16>,
    credentials: Vec<u16>,
}

impl RequiredCapabilities {
    pub fn of(extensions: &Extensions<GroupContext>) -> Option<Self> {
        extensions.required_capabilities().map(|required| Self {
            extensions: numbers(required.extension_types()),
            proposals: numbers(required.proposal_types()),
            credentials: numbers(required.credential_types()),
        })
    }

    fn extension(&self) -> RequiredCapabilitiesExtension {
        RequiredCapabilitiesExtension::new(
            &types::<ExtensionType>(&self.extensions),
            &types::<ProposalType>(&self.proposals),
            &types::<CredentialType>(&self.credentials),
        )
    }
}

fn numbers<T: Copy>(types: &[T]) -> Vec<u16>
where
    u16: From<T>,
{
    types.iter().map(|kind| u16::from(*kind)).collect()
}

fn types<T: From<u16>>(numbers: &[u16]) -> Vec<T> {
    numbers.iter().map(|number| T::from(*number)).collect()
}

#[pymethods]
impl RequiredCapabilities {
    #[staticmethod]
    #[pyo3(signature = (*, extensions = Vec::new(), proposals = Vec::new(), credentials = Vec::new()))]
    fn create(extensions: Vec<u16>, proposals: Vec<u16>, credentials: Vec<u16>) -> Self {
        Self {
            extensions,
            proposals,
            credentials,
        }
    }
    #[getter]
    fn extensions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.extensions)
    }
    #[getter]
    fn proposals<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.proposals)
    }
    #[getter]
    fn credentials<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.credentials)
    }
    fn __repr__(&self) -> String {
        format!(
            "<RequiredCapabilities extensions={:?} proposals={:?} credentials={:?}>",
            self.extensions, self.proposals, self.credentials
        )
    }
}

/// A signature key and the content of a basic credential.
pub type Sender = (Vec<u8>, Vec<u8>);

/// An ExternalSender, RFC 9420 section 12.1.8.1.
#[derive(Debug, TlsDeserializeBytes, TlsSerialize, TlsSize)]
struct WireExternalSender {
    signature_key: VLBytes,
    credential_type: u16,
    credential_content: VLBytes,
}

/// The senders in an `external_senders` extension.
pub fn external_senders(extensions: &Extensions<GroupContext>) -> Outcome<Vec<Sender>> {
    let Some(senders) = extensions.external_senders() else {
        return Ok(Vec::new());
    };
    senders
        .iter()
        .map(|sender| {
            let sender: WireExternalSender = wire::exact(&sender.tls_serialize_detached()?)?;
            Ok((
                sender.signature_key.into(),
                sender.credential_content.into(),
            ))
        })
        .collect()
}

/// What is to change; None leaves an extension as it is.
#[derive(Default)]
pub struct ContextChange {
    pub external_senders: Option<Vec<Sender>>,
    pub required: Option<RequiredCapabilities>,
}

impl ContextChange {
    /// All extensions of the group after the change, or None if there is none.
    pub fn applied(&self, group: &MlsGroup) -> Outcome<Option<Extensions<GroupContext>>> {
        if self.external_senders.is_none() && self.required.is_none() {
            return Ok(None);
        }
        let mut extensions = group.extensions().clone();
        if let Some(senders) = &self.external_senders {
            if senders.is_empty() {
                extensions.remove(ExtensionType::ExternalSenders);
            } else {
                extensions
                    .add_or_replace(config::senders(senders.clone()))
                    .map_err(Failure::internal)?;
            }
        }
        if let Some(required) = &self.required {
            let extension = required.extension();
            check_support(group, &extension)?;
            extensions
                .add_or_replace(Extension::RequiredCapabilities(extension))
                .map_err(Failure::internal)?;
        }
        Ok(Some(extensions))
    }
}

/// RFC 9420 section 12.1.7: a GroupContextExtensions proposal is invalid "if it includes a required_capabilities
/// extension and some members of the group do not support some of the required capabilities". OpenMLS asks all members
/// for the extensions only.
fn check_support(group: &MlsGroup, required: &RequiredCapabilitiesExtension) -> Outcome<()> {
    for (index, leaf) in group.public_group().treesync().full_leaves() {
        let capabilities = leaf.capabilities();
        let supported = required.extension_types().iter().all(|kind| {
            DEFAULT_EXTENSIONS.contains(&u16::from(*kind))
                || capabilities.extensions().contains(kind)
        }) && required.proposal_types().iter().all(|kind| {
            DEFAULT_PROPOSALS.contains(&u16::from(*kind)) || capabilities.proposals().contains(kind)
        }) && required
            .credential_types()
            .iter()
            .all(|kind| capabilities.credentials().contains(kind));
        if !supported {
            return Err(Failure::new(
                Kind::InvalidProposal,
                format!("the member at leaf {} does not support it", index.u32()),
            ));
        }
    }
    Ok(())
}
