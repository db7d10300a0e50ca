//! What a client holds: its signer, its key packages, and per group a state of its own.
//!
//! Locks are taken in this order: key packages, the list of groups, a group. Whoever waits for a group holds none that
//! another group needs, except to save everything or to forget a group.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openmls::group::{GroupId, MlsGroup, PastEpochDeletion};
use openmls::prelude::{Ciphersuite, Credential, CredentialType, CredentialWithKey};
use openmls_basic_credential::SignatureKeyPair as Signer;
use openmls_traits::OpenMlsProvider as _;
use zeroize::Zeroizing;

use crate::error::{Failure, Kind, Outcome};
use crate::guard::{caught, Handle};
use crate::lifetimes::Validity;
use crate::provider::Provider;
use crate::psk::Psks;
use crate::snapshot::{self, ClientSnapshot, Holds, JoiningSnapshot, SlotSnapshot};
use crate::store::{Contents, Store, Value};
use crate::{config, credential, keys};

/// One group with the store it lives in.
pub struct GroupState {
    pub provider: Provider,
    pub group: MlsGroup,
}

impl GroupState {
    pub fn load(group_id: &[u8], store: Store) -> Outcome<Self> {
        let group = MlsGroup::load(&store, &GroupId::from_slice(group_id))
            .map_err(Failure::snapshot)?
            .ok_or_else(|| Failure::snapshot("the group is missing from its own state"))?;
        Ok(Self {
            provider: Provider::new(store),
            group,
        })
    }

    /// The store with everything in it that the group needs.
    pub fn stored(&mut self) -> Outcome<&Store> {
        let Self { provider, group } = self;
        let store = provider.storage();
        if store.lacks_secrets() {
            // Deletes nothing, and writes what is left.
            let nothing = PastEpochDeletion::older_than_duration(Duration::MAX);
            store
                .keeping_secrets(|| group.delete_past_epoch_secrets(provider, nothing))
                .map_err(Failure::internal)?;
        }
        Ok(store)
    }

    /// Change what is stored, and take up the group from there.
    pub fn edit_store(&mut self, edit: impl FnOnce(&mut Contents) -> Outcome<()>) -> Outcome<()> {
        let mut contents = self.stored()?.contents();
        edit(&mut contents)?;
        *self = Self::load(self.group.group_id().as_slice(), Store::new(contents))?;
        Ok(())
    }

    /// Run `work` that goes through a state which must not last. If it fails, all is as before; that costs a copy of
    /// the store, which ordinary work does without because OpenMLS changes nothing when it refuses.
    pub fn undoable<T>(&mut self, work: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        let before = self.stored()?.contents();
        caught(|| work(self)).or_else(|failure| {
            *self = Self::load(self.group.group_id().as_slice(), Store::new(before))
                .map_err(|broken| Failure::half_done(broken.message))?;
            Err(Failure {
                half_done: false,
                ..failure
            })
        })
    }

    pub fn epoch(&self) -> u64 {
        self.group.epoch().as_u64()
    }
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

impl Slot {
    fn none_in_use(&self) -> Failure {
        if self.joining.is_none() {
            return unknown_group();
        }
        Failure::not_allowed("the external commit that joins this group is still pending")
    }

    pub fn in_use(&self) -> Outcome<&GroupState> {
        self.current.as_ref().ok_or_else(|| self.none_in_use())
    }

    pub fn current(&mut self) -> Outcome<&mut GroupState> {
        self.in_use()?;
        self.current.as_mut().ok_or_else(unknown_group)
    }

    /// Take up a group that its store holds all of.
    pub fn enter(&mut self, state: GroupState) -> Outcome<()> {
        if matches!(&self.current, Some(present) if present.group.is_active()) {
            return Err(already_here());
        }
        *self = Self {
            current: Some(state),
            joining: None,
        };
        Ok(())
    }

    /// The same for a group of our own, which nobody can have known.
    pub fn begin(&mut self, state: GroupState) -> Outcome<()> {
        if !self.is_empty() {
            return Err(already_here());
        }
        self.enter(state)
    }

    pub fn is_empty(&self) -> bool {
        self.current.is_none() && self.joining.is_none()
    }
}

fn already_here() -> Failure {
    Failure::not_allowed("this client is already in the group")
}

pub fn unknown_group() -> Failure {
    Failure::new(Kind::UnknownGroup, "this client has no such group")
}

pub type Groups = BTreeMap<Vec<u8>, Arc<Handle<Slot>>>;

/// A client, shared by its handle and those of its groups.
pub struct ClientState {
    pub suite: Ciphersuite,
    /// Replaced when certificates are renewed; the key stays.
    credential: Mutex<Credential>,
    pub signer: Signer,
    /// Seconds a leaf may be valid.
    pub maximum_lifetime: u64,
    /// Holds the key packages and nothing else.
    pub key_packages: Handle<Provider>,
    pub psks: Handle<Psks>,
    pub groups: Handle<Groups>,
}

impl ClientState {
    pub fn new(
        suite: Ciphersuite,
        credential: Credential,
        signer: Signer,
        maximum_lifetime: u64,
    ) -> Self {
        Self {
            suite,
            credential: Mutex::new(credential),
            signer,
            maximum_lifetime,
            key_packages: Handle::new(Provider::default()),
            psks: Handle::new(Psks::default()),
            groups: Handle::new(Groups::new()),
        }
    }

    fn current(&self) -> MutexGuard<'_, Credential> {
        self.credential
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Its credential as it is now.
    pub fn credential(&self) -> Credential {
        self.current().clone()
    }

    /// Have other certificates for the same key from now on; groups get them with our next commits.
    pub fn renew(&self, certificates: Vec<Vec<u8>>) -> Outcome<()> {
        let renewed = credential::one_of(None, Some(certificates))?;
        let mut current = self.current();
        if current.credential_type() != renewed.credential_type() {
            return Err(Failure::not_allowed("this client has no certificates"));
        }
        *current = renewed;
        Ok(())
    }

    pub fn certified_key(&self) -> CredentialWithKey {
        CredentialWithKey {
            credential: self.credential(),
            signature_key: self.signer.public().into(),
        }
    }

    /// What its new groups ask of their members.
    pub fn required_credentials(&self) -> Vec<CredentialType> {
        credential::required(self.current().credential_type())
    }

    pub fn validity(&self, now: Option<u64>) -> Validity {
        Validity {
            now,
            maximum: self.maximum_lifetime,
        }
    }

    /// The pre-shared keys as they are now.
    pub fn known_psks(&self) -> Outcome<Psks> {
        self.psks.view(|psks| Ok(psks.clone()))
    }

    pub fn slot(&self, group_id: &[u8]) -> Outcome<Arc<Handle<Slot>>> {
        self.groups
            .view(|groups| groups.get(group_id).cloned().ok_or_else(unknown_group))
    }

    /// Run `work` on a group that need not exist, or may not afterwards.
    pub fn change_entry<T>(
        &self,
        group_id: &[u8],
        work: impl FnOnce(&mut Slot) -> Outcome<T>,
    ) -> Outcome<T> {
        self.groups.change(|groups| {
            let slot = groups.entry(group_id.to_vec()).or_default();
            let result = slot.change(work);
            if matches!(slot.view(|slot| Ok(slot.is_empty())), Ok(true)) {
                groups.remove(group_id);
            }
            result
        })
    }

    /// Look at the state in use of a group.
    pub fn view_group<T>(
        &self,
        group_id: &[u8],
        work: impl FnOnce(&GroupState) -> Outcome<T>,
    ) -> Outcome<T> {
        self.slot(group_id)?.view(|slot| work(slot.in_use()?))
    }

    /// Run `work` on a group; the list of groups is free for others meanwhile.
    pub fn change_group<T>(
        &self,
        group_id: &[u8],
        work: impl FnOnce(&mut Slot) -> Outcome<T>,
    ) -> Outcome<T> {
        self.slot(group_id)?.change(work)
    }

    pub fn save(&self) -> Outcome<Zeroizing<Vec<u8>>> {
        let mut key_packages = self.key_packages.lock();
        let mut groups = self.groups.lock();
        let slots = groups.change(|groups| Ok(groups.clone()))?;
        let mut held: Vec<_> = slots.iter().map(|(id, slot)| (id, slot.lock())).collect();
        let mut states = Vec::with_capacity(held.len());
        for (group_id, slot) in &mut held {
            states.push((*group_id, slot.get()?));
        }
        let mut groups = Vec::with_capacity(states.len());
        for (group_id, slot) in &mut states {
            let current = slot.current.as_mut().map(GroupState::stored).transpose()?;
            let joining = match &mut slot.joining {
                None => None,
                Some(joining) => Some(JoiningSnapshot {
                    base_epoch: joining.base_epoch,
                    store: joining.state.stored()?,
                }),
            };
            groups.push(SlotSnapshot {
                group_id: group_id.to_vec(),
                current,
                joining,
            });
        }
        let credential = self.credential();
        let body = ClientSnapshot {
            ciphersuite: self.suite.into(),
            content: credential.serialized_content().to_vec(),
            signature_key: Value(keys::private_of(&self.signer)?),
            key_packages: key_packages.get()?.storage(),
            psks: self.known_psks()?,
            maximum_lifetime: self.maximum_lifetime,
            groups,
        };
        snapshot::encode(Holds::client(&credential), &body)
    }

    pub fn load(data: &[u8]) -> Outcome<Self> {
        let (kind, body): (_, ClientSnapshot<Store>) = snapshot::decode_client(data)?;
        let broken = |failure: Failure| Failure::snapshot(failure.message);
        let suite = config::ciphersuite(body.ciphersuite).map_err(broken)?;
        let signer = keys::signer_from_private(suite, &body.signature_key.0).map_err(broken)?;
        let credential = Credential::new(kind, body.content);
        credential::check(&credential).map_err(broken)?;
        let mut groups = Groups::new();
        for saved in body.groups {
            let group_id = saved.group_id;
            let current = saved
                .current
                .map(|store| GroupState::load(&group_id, store))
                .transpose()?;
            let joining = saved
                .joining
                .map(|joining| {
                    Ok::<_, Failure>(Joining {
                        base_epoch: joining.base_epoch,
                        state: GroupState::load(&group_id, joining.store)?,
                    })
                })
                .transpose()?;
            let slot = Slot { current, joining };
            groups.insert(group_id, Arc::new(Handle::new(slot)));
        }
        Ok(Self {
            suite,
            credential: Mutex::new(credential),
            signer,
            maximum_lifetime: body.maximum_lifetime,
            key_packages: Handle::new(Provider::new(body.key_packages)),
            psks: Handle::new(body.psks),
            groups: Handle::new(groups),
        })
    }
}
