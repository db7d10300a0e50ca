//! Checking a GroupInfo against the commit that leads to its epoch, and completing one of which only the part is
//! known that the commit does not determine.

use tls_codec::{Serialize, VLBytes};

use crate::error::{Failure, Outcome};
use crate::staged::StagedCommit;
use crate::wire::{self, WireExtension};
use crate::{labels, observe};

/// Label of the GroupInfo signature, RFC 9420 section 12.4.3.
const LABEL: &str = "GroupInfoTBS";
/// Extension type of `ratchet_tree`, RFC 9420 section 17.3.
const RATCHET_TREE: u16 = 2;

/// Check a GroupInfo of the new epoch against the commit that leads there.
pub fn verify(staged: &StagedCommit, data: &[u8]) -> Outcome<()> {
    // OpenMLS' decoder is the stricter one: it also knows which extensions may stand in a GroupInfo.
    let decoded = wire::group_info(data)?;
    let info = wire::wire_group_info(data)?;
    if info.context.epoch != staged.epoch {
        return Err(Failure::wrong_epoch(
            staged.origin.epoch,
            format!(
                "the GroupInfo is of epoch {}, not {}",
                info.context.epoch, staged.epoch
            ),
        ));
    }
    if info.context_bytes != staged.group_context {
        return Err(Failure::invalid_commit(
            "the GroupInfo does not describe the group after the commit",
        ));
    }
    if info.confirmation_tag != staged.confirmation_tag {
        return Err(Failure::invalid_commit(
            "the GroupInfo does not carry the confirmation tag of the commit",
        ));
    }
    if decoded.extensions().ratchet_tree().is_some() {
        // A tree inside would be preferred to the one delivered apart; a wrong one would keep joiners out.
        observe::observe(data, None, None)?;
    }
    let signer = staged
        .changes
        .tree
        .get(&info.signer)
        .ok_or_else(|| Failure::invalid_commit("the GroupInfo is signed by an empty leaf"))?;
    labels::verify(
        decoded.ciphersuite(),
        signer.signature_key(),
        LABEL,
        &info.signed_bytes,
        &info.signature,
    )
}

/// The GroupInfo of the new epoch that the committer signed, from its `Extension extensions<V>` and its signature
/// (draft-mahy-mls-ratchet-tree-options-02, PartialGroupInfo). Everything else in it follows from the commit.
pub fn rebuild(staged: &StagedCommit, extensions: &[u8], signature: &[u8]) -> Outcome<Vec<u8>> {
    let list: Vec<WireExtension> = wire::exact(extensions)?;
    // "Extension group_info_extensions<V> (without ratchet_tree)"
    if list.iter().any(|extension| extension.kind == RATCHET_TREE) {
        return Err(Failure::malformed(
            "a partial GroupInfo must not hold the ratchet tree",
        ));
    }
    // GroupInfo: group_context, extensions<V>, confirmation_tag<V>, uint32 signer, signature<V>
    let mut info = staged.group_context.clone();
    info.extend_from_slice(extensions);
    let tag: VLBytes = staged.confirmation_tag.as_slice().into();
    info.extend_from_slice(&tag.tls_serialize_detached()?);
    info.extend_from_slice(&staged.changes.committer.leaf_index.to_be_bytes());
    let signature: VLBytes = signature.into();
    info.extend_from_slice(&signature.tls_serialize_detached()?);
    verify(staged, &info)?;
    Ok(info)
}
