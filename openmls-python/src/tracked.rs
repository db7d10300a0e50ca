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

use crate::app_data::{self, NewValues};
use crate::error::{self, Failure, Kind, Outcome};
use crate::guard::caught;
use crate::lifetimes::Judging;
use crate::member::Roster;
use crate::members::{self, member_index};
use crate::provider::Provider;
use crate::snapshot::{self, Holds, PublicGroupSnapshot};
use crate::staged::{Origin, StagedCommit};
use crate::stand_ins::StandIns;
use crate::values::{AppDataUpdate, ProposalInfo};
use crate::{config, external_updates, rules, wire};

pub struct Public {
    pub provider: Provider,
    pub group: Tracked,
}

impl Public {
    pub fn load(group_id: &[u8], provider: Provider) -> Outcome<Self> {
        let group = Tracked::load(provider.storage(), &GroupId::from_slice(group_id))
            .map_err(Failure::snapshot)?
            .ok_or_else(|| Failure::snapshot("the group is missing from its own state"))?;
        Ok(Self { provider, group })
    }

    pub fn from_snapshot(data: &[u8]) -> Outcome<Self> {
        let body: PublicGroupSnapshot = snapshot::decode(Holds::PublicGroup, data)?;
        let provider = Provider::from_entries(snapshot::from_list(body.entries)?);
        Self::load(body.group_id.as_slice(), provider)
    }

    pub fn save(&self) -> Outcome<Vec<u8>> {
        let body = PublicGroupSnapshot {
            group_id: self.group.group_id().as_slice().into(),
            entries: snapshot::to_list(self.provider.entries()?),
        };
        snapshot::encode(Holds::PublicGroup, &body)
    }

    /// Run `work`; if it fails or panics, the group and its store are as before.
    fn transact<T>(&mut self, work: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        let before = self.provider.entries()?;
        match caught(|| work(self)) {
            Ok(value) => Ok(value),
            Err(failure) => {
                let group_id = self.group.group_id().to_vec();
                *self = Self::load(&group_id, Provider::from_entries(before))?;
                Err(failure)
            }
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
        Ok(message)
    }

    fn verified(&self, data: &[u8], judging: &Judging<'_>) -> Outcome<QueuedProposal> {
        let message = self.protocol_message(&judging.message)?;
        if let Some(proposal) = external_updates::verified(&self.group, data)? {
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
        let judging = Judging::new(data, now, iter::empty())?;
        ProposalInfo::of(&self.verified(data, &judging)?, Some(&judging))
    }

    pub fn add_proposal(&mut self, data: &[u8], now: Option<u64>) -> Outcome<ProposalInfo> {
        let judging = Judging::new(data, now, iter::empty())?;
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
        self.transact(|public| {
            public
                .group
                .add_proposal(public.provider.storage(), proposal)
                .map_err(Failure::internal)?;
            public.put_back(judging.stand_ins.as_ref())
        })?;
        Ok(info)
    }

    /// A copy in which the stored proposals hold stand-ins.
    fn showing(&self, stand_ins: &StandIns) -> Outcome<Self> {
        let mut entries = self.provider.entries()?;
        stand_ins.show_stored(&mut entries);
        Self::load(
            self.group.group_id().as_slice(),
            Provider::from_entries(entries),
        )
    }

    /// Undo what `stand_ins` did to the group.
    fn put_back(&mut self, stand_ins: Option<&StandIns>) -> Outcome<()> {
        let Some(stand_ins) = stand_ins else {
            return Ok(());
        };
        let mut entries = self.provider.entries()?;
        stand_ins.put_back(&mut entries);
        let group_id = self.group.group_id().to_vec();
        *self = Self::load(&group_id, Provider::from_entries(entries))?;
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
        let judging = Judging::new(data, now, queued.iter())?;
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
                if judging.refers {
                    let showing = self.showing(stand_ins)?;
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
        self.transact(|public| {
            public
                .group
                .merge_commit(public.provider.storage(), commit)
                .map_err(Failure::internal)?;
            public.put_back(staged.stand_ins.as_ref())
        })
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
