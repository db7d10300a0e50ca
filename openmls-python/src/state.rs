//! What a client holds: its signer, its key packages, and per group a state of its own.

use std::collections::{BTreeMap, HashMap};

use openmls::group::{GroupId, MlsGroup};
use openmls::prelude::{BasicCredential, Ciphersuite, CredentialWithKey};
use openmls_basic_credential::SignatureKeyPair as Signer;

use crate::error::{Failure, Kind, Outcome};
use crate::guard::caught;
use crate::provider::{Entries, Provider};
use crate::psk::Psks;
use crate::snapshot::{
    self, ClientSnapshot, Holds, JoiningSnapshot, PskSnapshot, SlotSnapshot, StateSnapshot,
};
use crate::{config, keys};

/// One group with the store it lives in.
pub struct GroupState {
    pub provider: Provider,
    pub group: MlsGroup,
}

impl GroupState {
    pub fn load(group_id: &[u8], entries: Entries) -> Outcome<Self> {
        let provider = Provider::from_entries(entries);
        let group = load_group(&provider, group_id)?;
        Ok(Self { provider, group })
    }

    /// Run `work`; if it fails or panics, the group and its store are as before.
    pub fn transact<T>(&mut self, work: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        let before = self.provider.checkpoint()?;
        match caught(|| work(self)) {
            Ok(value) => Ok(value),
            Err(failure) => {
                self.rollback(before)?;
                Err(failure)
            }
        }
    }

    fn rollback(&mut self, before: HashMap<Vec<u8>, Vec<u8>>) -> Outcome<()> {
        let group_id = self.group.group_id().to_vec();
        *self = Self::load(&group_id, before.into_iter().collect())?;
        Ok(())
    }

    /// Change what is stored, and take up the group from there.
    pub fn edit_store(&mut self, edit: impl FnOnce(&mut Entries)) -> Outcome<()> {
        let mut entries = self.provider.entries()?;
        edit(&mut entries);
        let group_id = self.group.group_id().to_vec();
        *self = Self::load(&group_id, entries)?;
        Ok(())
    }

    pub fn epoch(&self) -> u64 {
        self.group.epoch().as_u64()
    }
}

fn load_group(provider: &Provider, group_id: &[u8]) -> Outcome<MlsGroup> {
    use openmls_traits::OpenMlsProvider as _;
    MlsGroup::load(provider.storage(), &GroupId::from_slice(group_id))
        .map_err(Failure::snapshot)?
        .ok_or_else(|| Failure::snapshot("the group is missing from its own state"))
}

/// A state reached by an external commit that the hub has not accepted yet.
pub struct Joining {
    pub base_epoch: u64,
    pub state: GroupState,
}

/// A group ID of a client: the state in use, and perhaps one that waits for its external commit.
#[derive(Default)]
pub struct Slot {
    pub current: Option<GroupState>,
    pub joining: Option<Joining>,
}

pub struct ClientState {
    pub suite: Ciphersuite,
    pub identity: Vec<u8>,
    pub signer: Signer,
    /// Holds the key packages and nothing else.
    pub key_packages: Provider,
    pub psks: Psks,
    pub groups: BTreeMap<Vec<u8>, Slot>,
}

impl ClientState {
    pub fn credential(&self) -> CredentialWithKey {
        CredentialWithKey {
            credential: BasicCredential::new(self.identity.clone()).into(),
            signature_key: self.signer.public().into(),
        }
    }

    pub fn slot(&mut self, group_id: &[u8]) -> Outcome<&mut Slot> {
        self.groups
            .get_mut(group_id)
            .ok_or_else(|| Failure::new(Kind::UnknownGroup, "this client has no such group"))
    }

    /// The state in use, with the signer that acts in it.
    pub fn current(&mut self, group_id: &[u8]) -> Outcome<(&mut GroupState, &Signer)> {
        let signer = &self.signer;
        let slot = self
            .groups
            .get_mut(group_id)
            .ok_or_else(|| Failure::new(Kind::UnknownGroup, "this client has no such group"))?;
        match &mut slot.current {
            Some(state) => Ok((state, signer)),
            None => Err(Failure::not_allowed(
                "the external commit that joins this group is still pending",
            )),
        }
    }

    pub fn save(&self) -> Outcome<Vec<u8>> {
        let mut groups = Vec::with_capacity(self.groups.len());
        for (group_id, slot) in &self.groups {
            let current = slot
                .current
                .as_ref()
                .map(|state| state.provider.entries())
                .transpose()?
                .map(|entries| StateSnapshot {
                    entries: snapshot::to_list(entries),
                });
            let joining = match &slot.joining {
                None => None,
                Some(joining) => Some(JoiningSnapshot {
                    base_epoch: joining.base_epoch,
                    entries: snapshot::to_list(joining.state.provider.entries()?),
                }),
            };
            groups.push(SlotSnapshot {
                group_id: group_id.as_slice().into(),
                current,
                joining,
            });
        }
        let body = ClientSnapshot {
            ciphersuite: self.suite.into(),
            identity: self.identity.as_slice().into(),
            signature_key: keys::private_of(&self.signer)?.as_slice().into(),
            key_packages: snapshot::to_list(self.key_packages.entries()?),
            psks: self.psks.parts().map(PskSnapshot::new).collect(),
            groups,
        };
        snapshot::encode(Holds::Client, &body)
    }

    pub fn load(data: &[u8]) -> Outcome<Self> {
        let body: ClientSnapshot = snapshot::decode(Holds::Client, data)?;
        let broken = |failure: Failure| Failure::snapshot(failure.message);
        let suite = config::ciphersuite(body.ciphersuite).map_err(broken)?;
        let signer =
            keys::signer_from_private(suite, body.signature_key.as_slice()).map_err(broken)?;
        let mut groups = BTreeMap::new();
        for saved in body.groups {
            let group_id: Vec<u8> = saved.group_id.into();
            let current = saved
                .current
                .map(|state| GroupState::load(&group_id, snapshot::from_list(state.entries)?))
                .transpose()?;
            let joining = saved
                .joining
                .map(|joining| {
                    Ok::<_, Failure>(Joining {
                        base_epoch: joining.base_epoch,
                        state: GroupState::load(&group_id, snapshot::from_list(joining.entries)?)?,
                    })
                })
                .transpose()?;
            groups.insert(group_id, Slot { current, joining });
        }
        let mut psks = Psks::default();
        for saved in body.psks {
            saved.restore(&mut psks).map_err(broken)?;
        }
        Ok(Self {
            suite,
            identity: body.identity.into(),
            signer,
            key_packages: Provider::from_entries(snapshot::from_list(body.key_packages)?),
            psks,
            groups,
        })
    }
}
