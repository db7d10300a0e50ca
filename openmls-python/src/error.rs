//! Failures of the binding and how they become Python exceptions.
//!
//! Everything below the Python surface returns [`Failure`]; it is turned into one of the classes of
//! `openmls.exceptions` in a single place.

use std::fmt::Display;

use openmls::group::{
    CreateCommitError, ExternalCommitBuilderFinalizeError, ProcessMessageError,
    PublicProcessMessageError, StageCommitError, ValidationError, WelcomeError,
};
use openmls::prelude::{CreationFromExternalError, ExternalCommitBuilderError};
use openmls::schedule::errors::PskError;
use openmls::treesync::errors::TreeSyncFromNodesError;
use openmls::treesync::RatchetTreeError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyModule};

/// Which exception class a failure becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    MalformedMessage,
    WrongEpoch { current: u64 },
    InvalidSignature,
    InvalidProposal,
    InvalidCommit,
    NotAllowed,
    InvalidKeyPackage,
    UnknownGroup,
    CannotDecrypt,
    SnapshotFormat,
    Poisoned,
}

impl Kind {
    fn class_name(self) -> &'static str {
        match self {
            Kind::MalformedMessage => "MalformedMessage",
            Kind::WrongEpoch { .. } => "WrongEpoch",
            Kind::InvalidSignature => "InvalidSignature",
            Kind::InvalidProposal => "InvalidProposal",
            Kind::InvalidCommit => "InvalidCommit",
            Kind::NotAllowed => "NotAllowed",
            Kind::InvalidKeyPackage => "InvalidKeyPackage",
            Kind::UnknownGroup => "UnknownGroup",
            Kind::CannotDecrypt => "CannotDecrypt",
            Kind::SnapshotFormat => "SnapshotFormat",
            Kind::Poisoned => "Poisoned",
        }
    }
}

/// A failure with the exception it becomes and a message for people.
#[derive(Clone, Debug)]
pub struct Failure {
    pub kind: Kind,
    pub message: String,
    /// Something may have been changed in part; see `guard::Handle`.
    pub half_done: bool,
}

pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub fn new(kind: Kind, message: impl Display) -> Self {
        Self {
            kind,
            message: message.to_string(),
            half_done: false,
        }
    }

    pub fn malformed(message: impl Display) -> Self {
        Self::new(Kind::MalformedMessage, message)
    }

    pub fn not_allowed(message: impl Display) -> Self {
        Self::new(Kind::NotAllowed, message)
    }

    pub fn invalid_commit(message: impl Display) -> Self {
        Self::new(Kind::InvalidCommit, message)
    }

    pub fn invalid_signature(message: impl Display) -> Self {
        Self::new(Kind::InvalidSignature, message)
    }

    pub fn wrong_epoch(current: u64, message: impl Display) -> Self {
        Self::new(Kind::WrongEpoch { current }, message)
    }

    pub fn snapshot(message: impl Display) -> Self {
        Self::new(Kind::SnapshotFormat, message)
    }

    /// For conditions that only a defect in this crate or in OpenMLS can cause.
    pub fn internal(message: impl Display) -> Self {
        Self::new(Kind::Poisoned, format!("internal error: {message}"))
    }

    /// The same in the midst of a change.
    pub fn half_done(message: impl Display) -> Self {
        Self {
            half_done: true,
            ..Self::internal(message)
        }
    }
}

impl From<tls_codec::Error> for Failure {
    fn from(error: tls_codec::Error) -> Self {
        Self::malformed(error)
    }
}

/// How a message that failed framing or signature checks is reported.
pub fn from_validation(error: ValidationError, current: u64) -> Failure {
    let kind = match &error {
        ValidationError::WrongEpoch | ValidationError::NoPastEpochData => {
            Kind::WrongEpoch { current }
        }
        ValidationError::InvalidSignature
        | ValidationError::InvalidMembershipTag
        | ValidationError::MissingMembershipTag
        | ValidationError::InvalidLeafNodeSignature => Kind::InvalidSignature,
        ValidationError::UnableToDecrypt(_) => Kind::CannotDecrypt,
        ValidationError::KeyPackageVerifyError(_)
        | ValidationError::InvalidAddProposalCiphersuite => Kind::InvalidProposal,
        ValidationError::WrongGroupId => Kind::UnknownGroup,
        ValidationError::UnknownMember
        | ValidationError::UnauthorizedExternalSender
        | ValidationError::NoExternalSendersExtension
        | ValidationError::UnencryptedApplicationMessage
        | ValidationError::NonMemberApplicationMessage
        | ValidationError::InvalidSenderType => Kind::NotAllowed,
        ValidationError::LibraryError(_) => Kind::Poisoned,
        _ => Kind::InvalidCommit,
    };
    Failure::new(kind, error)
}

pub fn from_stage(error: StageCommitError, current: u64) -> Failure {
    let kind = match &error {
        StageCommitError::EpochMismatch => Kind::WrongEpoch { current },
        StageCommitError::PathLeafNodeVerificationFailure => Kind::InvalidSignature,
        StageCommitError::OwnCommitMismatch => Kind::CannotDecrypt,
        StageCommitError::ProposalValidationError(_)
        | StageCommitError::MissingProposal
        | StageCommitError::AppDataUpdateValidationError(_)
        | StageCommitError::GroupContextExtensionsProposalValidationError(_) => {
            Kind::InvalidProposal
        }
        StageCommitError::PskError(PskError::KeyNotFound) => Kind::NotAllowed,
        StageCommitError::LibraryError(_) => Kind::Poisoned,
        _ => Kind::InvalidCommit,
    };
    Failure::new(kind, error)
}

pub fn from_public_process(error: PublicProcessMessageError, current: u64) -> Failure {
    match error {
        PublicProcessMessageError::ValidationError(inner) => from_validation(inner, current),
        PublicProcessMessageError::InvalidCommit(inner) => from_stage(inner, current),
        PublicProcessMessageError::LibraryError(inner) => Failure::internal(inner),
        PublicProcessMessageError::UnsupportedProposalType => {
            Failure::new(Kind::InvalidProposal, error)
        }
        other => Failure::not_allowed(other),
    }
}

pub fn from_process<E: Display>(error: ProcessMessageError<E>, current: u64) -> Failure {
    match error {
        ProcessMessageError::ValidationError(inner) => from_validation(inner, current),
        ProcessMessageError::InvalidCommit(inner) => from_stage(inner, current),
        ProcessMessageError::LibraryError(inner) => Failure::internal(inner),
        ProcessMessageError::StorageError(inner) => Failure::internal(inner),
        ProcessMessageError::UnsupportedProposalType => {
            Failure::new(Kind::InvalidProposal, "unsupported proposal type")
        }
        ProcessMessageError::GroupStateError(inner) => Failure::not_allowed(inner),
        ProcessMessageError::IncompatibleWireFormat => {
            Failure::not_allowed("handshake messages must be PublicMessages in this group")
        }
        other => Failure::not_allowed(other),
    }
}

pub fn from_create_commit(error: CreateCommitError) -> Failure {
    let kind = match &error {
        CreateCommitError::LibraryError(_) => Kind::Poisoned,
        CreateCommitError::CannotRemoveSelf
        | CreateCommitError::PskError(PskError::KeyNotFound) => Kind::NotAllowed,
        CreateCommitError::ProposalValidationError(_)
        | CreateCommitError::MissingProposal
        | CreateCommitError::WrongProposalSenderType
        | CreateCommitError::AppDataUpdateValidationError(_)
        | CreateCommitError::GroupContextExtensionsProposalValidationError(_) => {
            Kind::InvalidProposal
        }
        _ => Kind::InvalidCommit,
    };
    Failure::new(kind, error)
}

/// A GroupInfo or ratchet tree that does not hold together.
pub fn from_external_creation<E: Display>(error: CreationFromExternalError<E>) -> Failure {
    match error {
        CreationFromExternalError::InvalidGroupInfoSignature => {
            Failure::invalid_signature("invalid signature on the GroupInfo")
        }
        CreationFromExternalError::LibraryError(inner) => Failure::internal(inner),
        CreationFromExternalError::WriteToStorageError(inner) => Failure::internal(inner),
        CreationFromExternalError::TreeSyncError(TreeSyncFromNodesError::RatchetTreeError(
            RatchetTreeError::InvalidNodeSignature,
        )) => Failure::invalid_signature("invalid signature on a leaf of the tree"),
        other => Failure::invalid_commit(other),
    }
}

pub fn from_welcome<E: Display>(error: WelcomeError<E>) -> Failure {
    match error {
        WelcomeError::PublicGroupError(inner) => from_external_creation(inner),
        WelcomeError::InvalidGroupInfoSignature => {
            Failure::invalid_signature("invalid signature on the GroupInfo")
        }
        WelcomeError::LibraryError(inner) => Failure::internal(inner),
        WelcomeError::StorageError(inner) => Failure::internal(inner),
        WelcomeError::GroupAlreadyExists => {
            Failure::not_allowed("this client is already in the group")
        }
        WelcomeError::MissingRatchetTree => Failure::not_allowed("the ratchet tree is missing"),
        WelcomeError::Psk(PskError::KeyNotFound) => {
            Failure::not_allowed("a pre-shared key of the Welcome is unknown to this client")
        }
        WelcomeError::NoMatchingKeyPackage
        | WelcomeError::NoMatchingEncryptionKey
        | WelcomeError::PrivateInitKeyNotFound
        | WelcomeError::JoinerSecretNotFound
        | WelcomeError::UnableToDecrypt
        | WelcomeError::GroupSecrets(_)
        | WelcomeError::GroupInfo(_) => Failure::new(Kind::CannotDecrypt, error),
        other => Failure::invalid_commit(other),
    }
}

pub fn from_external_builder<E: Display>(error: ExternalCommitBuilderError<E>) -> Failure {
    match error {
        ExternalCommitBuilderError::PublicGroupError(inner) => from_external_creation(inner),
        ExternalCommitBuilderError::LibraryError(inner) => Failure::internal(inner),
        ExternalCommitBuilderError::StorageError(inner) => Failure::internal(inner),
        ExternalCommitBuilderError::MissingRatchetTree
        | ExternalCommitBuilderError::MissingExternalPub => Failure::not_allowed(error),
        ExternalCommitBuilderError::InvalidProposal(inner) => {
            let failure = from_validation(inner, 0);
            Failure::new(Kind::InvalidProposal, failure.message)
        }
        other => Failure::invalid_commit(other),
    }
}

pub fn from_external_finalize<E: Display>(error: ExternalCommitBuilderFinalizeError<E>) -> Failure {
    Failure::internal(error)
}

static EXCEPTIONS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        Python::attach(|py| {
            build(py, &failure).unwrap_or_else(|error| {
                // Only reachable when `openmls.exceptions` itself cannot be imported.
                PyRuntimeError::new_err(format!("{} ({error})", failure.message))
            })
        })
    }
}

fn build(py: Python<'_>, failure: &Failure) -> PyResult<PyErr> {
    let module = EXCEPTIONS
        .get_or_try_init(py, || {
            PyModule::import(py, "openmls.exceptions").map(Bound::unbind)
        })?
        .bind(py);
    let class = module.getattr(failure.kind.class_name())?;
    let value = if let Kind::WrongEpoch { current } = failure.kind {
        let extra = PyDict::new(py);
        extra.set_item("current_epoch", current)?;
        class.call((failure.message.as_str(),), Some(&extra))?
    } else {
        class.call1((failure.message.as_str(),))?
    };
    Ok(PyErr::from_value(value))
}
