//! The state of a public group: what it verifies, stores and stages.

use std::collections::BTreeSet;
use std::iter;
use std::sync::Mutex;

use openmls::group::{GroupId, PublicGroup as Tracked, QueuedProposal, StagedCommit as Staged};
use openmls::prelude::{
    MlsMessageBodyIn, OpenMlsCrypto, ProcessedMessageContent, ProtocolMessage, Sender,
};
use openmls_traits::OpenMlsProvider as _;
use tls_codec::{Serialize, VLBytes};
use zeroize::Zeroizing;

use crate::app_data::{self, NewValues};
use crate::error::{self, Failure, Kind, Outcome};
use crate::guard::caught;
use crate::lifetimes::{Judging, Validity};
use crate::member::Roster;
use crate::members::{self, member_index};
use crate::provider::Provider;
use crate::snapshot::{self, Holds, PublicGroupSnapshot};
use crate::staged::{Origin, StagedCommit};
use crate::stand_ins::StandIns;
use crate::store::{Contents, Store, Table, ONLY};
use crate::values::{AppDataUpdate, ProposalInfo};
use crate::{config, external_proposals, reinit, rules, wire};

pub struct Public {
    pub provider: Provider,
    pub group: Tracked,
    /// Seconds a leaf may be valid.
    pub maximum_lifetime: u64,
}

impl Public {
    pub fn load(group_id: &[u8], store: Store, maximum_lifetime: u64) -> Outcome<Self> {
        let group = Tracked::load(&store, &GroupId::from_slice(group_id))
            .map_err(Failure::snapshot)?
            .ok_or_else(|| Failure::snapshot("the group is missing from its own state"))?;
        Ok(Self {
            provider: Provider::new(store),
            group,
            maximum_lifetime,
        })
    }

    pub fn from_snapshot(data: &[u8]) -> Outcome<Self> {
        let body: PublicGroupSnapshot<Store> = snapshot::decode(Holds::PublicGroup, data)?;
        Self::load(&body.group_id, body.store, body.maximum_lifetime)
    }

    /// The store with everything in it: a merge leaves the tree in memory.
    fn stored(&self) -> Outcome<&Store> {
        let store = self.provider.storage();
        if store.lacks_tree() {
            store
                .put(Table::Tree, ONLY, self.group.treesync())
                .map_err(Failure::internal)?;
        }
        Ok(store)
    }

    pub fn save(&self) -> Outcome<Zeroizing<Vec<u8>>> {
        let body = PublicGroupSnapshot {
            group_id: self.group.group_id().to_vec(),
            store: self.stored()?,
            maximum_lifetime: self.maximum_lifetime,
        };
        snapshot::encode(Holds::PublicGroup, &body)
    }

    /// Run `work` that may fail after it changed something; all is as before then. That costs a copy of the store,
    /// which ordinary work does without because OpenMLS changes nothing when it refuses.
    fn undoable<T>(&mut self, work: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        let before = self.stored()?.contents();
        caught(|| work(self)).or_else(|failure| {
            *self = self
                .reload(before)
                .map_err(|broken| Failure::half_done(broken.message))?;
            Err(Failure {
                half_done: false,
                ..failure
            })
        })
    }

    /// The same group from another store.
    fn reload(&self, contents: Contents) -> Outcome<Self> {
        let group_id = self.group.group_id().as_slice();
        Self::load(group_id, Store::new(contents), self.maximum_lifetime)
    }

    pub fn validity(&self, now: Option<u64>) -> Validity {
        Validity {
            now,
            maximum: self.maximum_lifetime,
        }
    }

    pub fn epoch(&self) -> u64 {
        self.group.group_context().epoch().as_u64()
    }

    pub fn queued(&self) -> Outcome<Vec<QueuedProposal>> {
        Ok(self
            .group
            .queued_proposals(self.provider.storage())
            .map_err(Failure::internal)?
            .into_iter()
            .map(|(_, proposal)| proposal)
            .collect())
    }

    pub fn protocol_message(&self, data: &[u8]) -> Outcome<ProtocolMessage> {
        let message = match wire::message(data)?.extract() {
            MlsMessageBodyIn::PublicMessage(message) => message,
            MlsMessageBodyIn::PrivateMessage(_) => {
                return Err(Failure::not_allowed(
                    "a delivery service cannot read private messages",
                ))
            }
            _ => return Err(Failure::malformed("not a group message")),
        };
        if message.group_id() != self.group.group_id() {
            return Err(Failure::new(
                Kind::UnknownGroup,
                "a message of another group",
            ));
        }
        let current = self.epoch();
        if message.epoch().as_u64() != current {
            return Err(Failure::wrong_epoch(
                current,
                format!(
                    "the message is of epoch {}, the group in {current}",
                    message.epoch()
                ),
            ));
        }
        let message = ProtocolMessage::from(message);
        rules::check_sender(&message)?;
        reinit::refuse_ended_in(self.provider.storage())?;
        Ok(message)
    }

    fn verified(&self, data: &[u8], judging: &Judging<'_>) -> Outcome<QueuedProposal> {
        let message = self.protocol_message(&judging.message)?;
        if let Some(proposal) = external_proposals::verified(&self.group, data)? {
            return Ok(proposal);
        }
        let processed = match &judging.stand_ins {
            None => self.group.process_message(self.provider.crypto(), message),
            Some(stand_ins) => self
                .group
                .process_message(&stand_ins.crypto(&[data])?, message),
        };
        let content = processed
            .map_err(|failure| error::from_public_process(failure, self.epoch()))?
            .into_content();
        let proposal = match content {
            ProcessedMessageContent::ProposalMessage(proposal)
            | ProcessedMessageContent::ExternalJoinProposalMessage(proposal) => *proposal,
            _ => return Err(Failure::not_allowed("not a proposal")),
        };
        judging.check(&proposal)?;
        Ok(proposal)
    }

    pub fn stage_proposal(&self, data: &[u8], now: Option<u64>) -> Outcome<ProposalInfo> {
        let judging = Judging::new(data, self.validity(now), iter::empty())?;
        ProposalInfo::of(&self.verified(data, &judging)?, Some(&judging))
    }

    pub fn add_proposal(&mut self, data: &[u8], now: Option<u64>) -> Outcome<ProposalInfo> {
        let judging = Judging::new(data, self.validity(now), iter::empty())?;
        let proposal = self.verified(data, &judging)?;
        let info = ProposalInfo::of(&proposal, Some(&judging))?;
        let queued = self.queued()?;
        if queued
            .iter()
            .any(|known| known.proposal_reference_ref() == proposal.proposal_reference_ref())
        {
            return Ok(info);
        }
        if queued.len() >= config::MAX_PENDING_PROPOSALS {
            return Err(Failure::not_allowed("too many proposals in this epoch"));
        }
        let add = |public: &mut Self| {
            public
                .group
                .add_proposal(public.provider.storage(), proposal)
                .map_err(Failure::half_done)
        };
        match &judging.stand_ins {
            None => add(self)?,
            Some(stand_ins) => self.undoable(|public| {
                add(public)?;
                public.put_back(stand_ins)
            })?,
        }
        Ok(info)
    }

    /// A copy in which the proposals that `judging` refers to hold stand-ins.
    fn showing(&self, stand_ins: &StandIns, judging: &Judging<'_>) -> Outcome<Self> {
        let mut contents = self.stored()?.contents();
        stand_ins.show_stored(&mut contents, &judging.referred)?;
        self.reload(contents)
    }

    /// Undo what `stand_ins` did to the group.
    fn put_back(&mut self, stand_ins: &StandIns) -> Outcome<()> {
        let mut contents = self.stored()?.contents();
        stand_ins.put_back(&mut contents)?;
        *self = self.reload(contents)?;
        stand_ins.refuse_left(&self.group.export_ratchet_tree().tls_serialize_detached()?)
    }

    pub fn app_data_updates(&self, data: &[u8]) -> Outcome<Vec<AppDataUpdate>> {
        let commit = wire::commit(data)?;
        Ok(app_data::of_commit(&commit, self.queued()?.iter()))
    }

    /// `members` are those of the present epoch.
    pub fn stage(
        &self,
        data: &[u8],
        values: NewValues,
        now: Option<u64>,
        instance: u64,
        members: &Roster,
    ) -> Outcome<StagedCommit> {
        let epoch = self.epoch();
        let queued = self.queued()?;
        let judging = Judging::new(data, self.validity(now), queued.iter())?;
        let message = self.protocol_message(&judging.message)?;
        let confirmation_tag = match &message {
            ProtocolMessage::PublicMessage(message) => message
                .confirmation_tag()
                .map(|tag| tag.tls_serialize_detached())
                .transpose()?
                .map(|encoded| wire::exact::<VLBytes>(&encoded))
                .transpose()?
                .map(Vec::<u8>::from),
            ProtocolMessage::PrivateMessage(_) => None,
        };
        let commit = wire::commit(data)?;
        let updates = app_data::of_commit(&commit, queued.iter());
        let (sender, staged) = match &judging.stand_ins {
            None => verified_commit(&self.group, self.provider.crypto(), message, values)?,
            Some(stand_ins) => {
                let crypto = stand_ins.crypto(&[data])?;
                if !judging.referred.is_empty() {
                    let showing = self.showing(stand_ins, &judging)?;
                    verified_commit(&showing.group, &crypto, message, values)?
                } else {
                    verified_commit(&self.group, &crypto, message, values)?
                }
            }
        };
        let changes = members::changes(members, &staged, &sender, &judging)?;
        rules::check(
            &self.group,
            &staged,
            &sender,
            &changes,
            &commit,
            &updates,
            &judging,
        )?;
        let context = staged.group_context();
        Ok(StagedCommit {
            unused: unused(&queued, &changes.references)?,
            origin: Origin { instance, epoch },
            group_context: context.tls_serialize_detached()?,
            confirmation_tag: confirmation_tag
                .ok_or_else(|| Failure::internal("a verified commit without confirmation tag"))?,
            updates,
            epoch: context.epoch().as_u64(),
            sender_leaf: member_index(&sender),
            is_external: member_index(&sender).is_none(),
            authenticated_data: commit.content.authenticated_data.into(),
            app_data: members::app_data(context.extensions()),
            changes,
            stand_ins: judging.stand_ins,
            reinit: reinit::in_staged(&staged)?,
            staged: Mutex::new(Some(staged)),
        })
    }

    pub fn merge(&mut self, staged: &StagedCommit, instance: u64) -> Outcome<()> {
        let here = Origin {
            instance,
            epoch: self.epoch(),
        };
        if staged.origin != here {
            return Err(Failure::not_allowed(
                "the commit was staged against another group or epoch",
            ));
        }
        let commit = staged
            .staged
            .lock()
            .map_err(|_| Failure::internal("staged commit lock"))?
            .take()
            .ok_or_else(|| Failure::not_allowed("the commit was merged already"))?;
        let merge = |public: &mut Self| {
            let store = public.provider.storage();
            store
                .leaving_tree(|| public.group.merge_commit(store, commit))
                .map_err(Failure::half_done)?;
            match &staged.reinit {
                Some(reinit) => reinit::end(public.provider.storage(), reinit),
                None => Ok(()),
            }
        };
        match &staged.stand_ins {
            None => merge(self),
            Some(stand_ins) => self.undoable(|public| {
                merge(public)?;
                public.put_back(stand_ins)
            }),
        }
    }
}

/// The stored proposals that a commit leaves out.
fn unused(queued: &[QueuedProposal], taken: &[Vec<u8>]) -> Outcome<Vec<ProposalInfo>> {
    let taken: BTreeSet<&[u8]> = taken.iter().map(Vec::as_slice).collect();
    queued
        .iter()
        .filter(|proposal| !taken.contains(proposal.proposal_reference_ref().as_slice()))
        .map(|proposal| ProposalInfo::of(proposal, None))
        .collect()
}

fn verified_commit(
    group: &Tracked,
    crypto: &impl OpenMlsCrypto,
    message: ProtocolMessage,
    values: NewValues,
) -> Outcome<(Sender, Staged)> {
    let epoch = group.group_context().epoch().as_u64();
    let processed = group
        .process_message(crypto, message)
        .map_err(|failure| error::from_public_process(failure, epoch))?;
    let sender = processed.sender().clone();
    let staged = match processed.into_content() {
        ProcessedMessageContent::StagedCommitMessage(staged) => {
            app_data::refuse_rest(&values)?;
            *staged
        }
        ProcessedMessageContent::UnresolvedAppDataCommit(unresolved) => {
            let changes = app_data::resolve_unresolved(
                group.app_data_dictionary_updater(),
                &unresolved,
                values,
            )?;
            group
                .stage_app_data_commit(crypto, *unresolved, changes)
                .map_err(|failure| error::from_stage(failure, epoch))?
        }
        _ => return Err(Failure::not_allowed("not a commit")),
    };
    Ok((sender, staged))
}
