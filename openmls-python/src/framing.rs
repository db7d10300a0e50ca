//! Member proposals of kinds that OpenMLS reads but has no function to make: ReInit and AppEphemeral.
//!
//! The FramedContent is put together here and signed like any other. The membership tag needs a key that OpenMLS keeps
//! to itself: it is had by letting OpenMLS frame a SelfRemove of ours with cryptography that computes the tag over our
//! content instead; that SelfRemove is not kept. The result is then verified and stored like a received proposal.

use std::sync::Mutex;

use openmls::framing::SafeAad;
use openmls_basic_credential::SignatureKeyPair as Signer;
use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::types::{
    AeadType, Ciphersuite, CryptoError, ExporterSecret, HashType, HpkeCiphertext, HpkeConfig,
    HpkeKeyPair, KemOutput, SignatureScheme,
};
use openmls_traits::OpenMlsProvider;
use tls_codec::{SecretVLBytes, Serialize, VLBytes};

use crate::crypto::{answered_by, Crypto};
use crate::error::{Failure, Outcome};
use crate::keys;
use crate::state::GroupState;
use crate::store::Store;
use crate::wire::{WireContent, WireSender, CONTENT_PROPOSAL};

/// MLSMessage and FramedContentTBS begin alike: version mls10, wire format mls_public_message.
const PUBLIC_MESSAGE: [u8; 4] = [0, 1, 0, 1];
/// Label of a message's signature, RFC 9420 section 6.1.
const CONTENT_LABEL: &str = "FramedContentTBS";

/// Cryptography that computes every MAC over `message`, and remembers the last one.
struct Tagging {
    inner: Crypto,
    message: Vec<u8>,
    tag: Mutex<Option<Vec<u8>>>,
}

impl OpenMlsCrypto for Tagging {
    fn hmac(
        &self,
        hash_type: HashType,
        key: &[u8],
        _message: &[u8],
    ) -> Result<SecretVLBytes, CryptoError> {
        let tag = self.inner.hmac(hash_type, key, &self.message)?;
        if let Ok(mut kept) = self.tag.lock() {
            *kept = Some(tag.as_slice().to_vec());
        }
        Ok(tag)
    }

    answered_by! { inner:
        hash verify_signature supports supported_ciphersuites hkdf_extract hkdf_expand aead_encrypt aead_decrypt
        signature_key_gen sign hpke_seal hpke_open hpke_setup_sender_and_export
        hpke_setup_receiver_and_export derive_hpke_keypair
    }
}

struct TaggingProvider<'a> {
    crypto: Tagging,
    rand: &'a Crypto,
    storage: Store,
}

impl OpenMlsProvider for TaggingProvider<'_> {
    type CryptoProvider = Tagging;
    type RandProvider = Crypto;
    type StorageProvider = Store;

    fn storage(&self) -> &Store {
        &self.storage
    }

    fn crypto(&self) -> &Tagging {
        &self.crypto
    }

    fn rand(&self) -> &Crypto {
        self.rand
    }
}

/// The MLSMessage(PublicMessage) with which this member proposes `proposal`, an encoded Proposal.
pub fn member_proposal(
    state: &mut GroupState,
    signer: &Signer,
    proposal: &[u8],
) -> Outcome<Vec<u8>> {
    let context = state.group.public_group().group_context();
    let authenticated_data = match context.safe_aad_required() {
        true => SafeAad::empty().tls_serialize_detached()?,
        false => Vec::new(),
    };
    let content = WireContent {
        group_id: context.group_id().as_slice().into(),
        epoch: context.epoch().as_u64(),
        sender: WireSender::Member(state.group.own_leaf_index().u32()),
        authenticated_data: authenticated_data.into(),
        content_type: CONTENT_PROPOSAL,
    };
    let mut message = PUBLIC_MESSAGE.to_vec();
    content.tls_serialize(&mut message)?;
    message.extend_from_slice(proposal);
    let mut signed = message.clone();
    context.tls_serialize(&mut signed)?;
    let signature = VLBytes::from(keys::sign_with_label(signer, CONTENT_LABEL, &signed)?);
    signature.tls_serialize(&mut message)?;
    signature.tls_serialize(&mut signed)?;
    let tag = VLBytes::from(membership_tag(state, signer, signed)?);
    tag.tls_serialize(&mut message)?;
    Ok(message)
}

/// The membership tag over an AuthenticatedContentTBM of the present epoch, RFC 9420 section 6.2.
fn membership_tag(state: &mut GroupState, signer: &Signer, message: Vec<u8>) -> Outcome<Vec<u8>> {
    let provider = TaggingProvider {
        crypto: Tagging {
            inner: Crypto::default(),
            message,
            tag: Mutex::new(None),
        },
        rand: state.provider.rand(),
        // What OpenMLS stores here is dropped with it.
        storage: Store::default(),
    };
    state
        .group
        .leave_group_via_self_remove(&provider, signer)
        .map_err(Failure::not_allowed)?;
    let kept = state.group.pending_proposals().last();
    let reference = kept
        .map(|queued| queued.proposal_reference_ref().clone())
        .ok_or_else(|| Failure::internal("a proposal was not stored"))?;
    state
        .group
        .remove_pending_proposal(&provider.storage, &reference)
        .map_err(Failure::internal)?;
    let tag = provider
        .crypto
        .tag
        .lock()
        .map_err(|_| Failure::internal("a lock"))?
        .take();
    tag.ok_or_else(|| Failure::internal("no membership tag was computed"))
}
