//! Credentials of the two types that RFC 9420 section 5.3 defines.
//!
//! "The CredentialType basic … identity"; "x509: Certificate certificates<V>". OpenMLS passes both along unseen. What is
//! held here is the form; whether the certificates hold, and whether the first one is for the leaf's key, is for the
//! Authentication Service (section 5.3.1), which is the caller.

use openmls::prelude::{BasicCredential, Credential, CredentialType};
use tls_codec::{DeserializeBytes, Serialize, VLBytes};

use crate::error::{Failure, Outcome};

/// Refuse a credential of another type, whose content could not be told from a basic one's, or a malformed chain.
pub fn check(credential: &Credential) -> Outcome<()> {
    match credential.credential_type() {
        CredentialType::Basic => Ok(()),
        CredentialType::X509 => chain(credential).map(|_| ()),
        _ => Err(Failure::invalid_commit(
            "only basic and X.509 credentials are supported",
        )),
    }
}

/// The identity in a basic credential; empty for another. Taking the content of another type for one would let it pose
/// as somebody.
pub fn identity(credential: &Credential) -> &[u8] {
    match credential.credential_type() {
        CredentialType::Basic => credential.serialized_content(),
        _ => &[],
    }
}

/// The DER certificates of an X.509 credential, the leaf's first; none of a basic one.
pub fn certificates(credential: &Credential) -> Outcome<Vec<Vec<u8>>> {
    match credential.credential_type() {
        CredentialType::X509 => chain(credential),
        _ => Ok(Vec::new()),
    }
}

fn chain(credential: &Credential) -> Outcome<Vec<Vec<u8>>> {
    let mut rest = credential.serialized_content();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (certificate, after) = VLBytes::tls_deserialize_bytes(rest)?;
        found.push(Vec::from(certificate));
        rest = after;
    }
    if found.is_empty() || found.iter().any(Vec::is_empty) {
        return Err(Failure::invalid_commit(
            "an X.509 credential has certificates, and none of them is empty",
        ));
    }
    Ok(found)
}

/// What every member of a new group has to support whose creator has a credential of this type. RFC 9420 section 7.3:
/// "Verify that the credential type is supported by all members of the group".
pub fn required(own: CredentialType) -> Vec<CredentialType> {
    match own {
        CredentialType::X509 => vec![CredentialType::Basic, CredentialType::X509],
        _ => vec![CredentialType::Basic],
    }
}

/// A basic credential or one with certificates: what the caller gave.
pub fn one_of(identity: Option<&[u8]>, certificates: Option<Vec<Vec<u8>>>) -> Outcome<Credential> {
    match (identity, certificates) {
        (Some(identity), None) => Ok(BasicCredential::new(identity.to_vec()).into()),
        (None, Some(certificates)) => x509(certificates),
        _ => Err(Failure::not_allowed(
            "a client has either an identity or certificates",
        )),
    }
}

/// The credential that holds these DER certificates.
fn x509(certificates: Vec<Vec<u8>>) -> Outcome<Credential> {
    let mut content = Vec::new();
    for certificate in certificates {
        content.extend(VLBytes::new(certificate).tls_serialize_detached()?);
    }
    let credential = Credential::new(CredentialType::X509, content);
    check(&credential).map_err(|failure| Failure::not_allowed(failure.message))?;
    Ok(credential)
}
