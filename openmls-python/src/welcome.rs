//! Joining by a Welcome (RFC 9420 section 12.4.3.1), and looking into one before.

use std::collections::BTreeMap;

use openmls::group::StagedWelcome;
use openmls::schedule::PreSharedKeyId;
use openmls_traits::OpenMlsProvider as _;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::bridging::Bridging;
use crate::error::{self, Failure, Outcome};
use crate::options::Retention;
use crate::provider::Provider;
use crate::state::{ClientState, GroupState};
use crate::store::{Contents, Store};
use crate::values::{short, Member};
use crate::{config, credential, members, psk, successor, wire};

/// A Welcome that was decrypted and verified against its tree.
struct Opened {
    /// The key packages as they were, before this one was taken.
    before: Contents,
    provider: Provider,
    lent: Vec<PreSharedKeyId>,
    staged: StagedWelcome,
}

fn open(
    client: &ClientState,
    former: &ClientState,
    key_packages: &Provider,
    welcome: &[u8],
    ratchet_tree: Option<&[u8]>,
    retention: Retention,
) -> Outcome<Opened> {
    let mut genuine = Vec::new();
    match attempt(
        client,
        former,
        key_packages,
        welcome,
        ratchet_tree,
        retention,
        &mut genuine,
    ) {
        // Which other group it goes on from was not known before it was decrypted.
        Err(_) if !genuine.is_empty() => attempt(
            client,
            former,
            key_packages,
            welcome,
            ratchet_tree,
            retention,
            &mut genuine,
        ),
        outcome => outcome,
    }
}

/// Open a Welcome with the secrets of `genuine`, groups of `former`, which become those that it names.
fn attempt(
    client: &ClientState,
    former: &ClientState,
    key_packages: &Provider,
    welcome: &[u8],
    ratchet_tree: Option<&[u8]>,
    retention: Retention,
    genuine: &mut Vec<PreSharedKeyId>,
) -> Outcome<Opened> {
    let welcome = wire::welcome(welcome)?;
    let tree = ratchet_tree.map(wire::ratchet_tree).transpose()?;
    // Joining consumes a key package and writes a group into the same store, so it works on a copy; the
    // two parts are separated afterwards and nothing is lost if it fails.
    let before = key_packages.storage().contents();
    let provider = Provider::new(Store::new(before.clone()));
    let mut lent = client.known_psks()?.lend_all(&provider)?;
    for id in genuine.iter() {
        lent.push(successor::lend(former, &provider, id)?);
    }
    let bridging = Bridging::new(&provider, Vec::new());
    let opened =
        StagedWelcome::build_from_welcome(&bridging, &config::join_config(retention), welcome);
    *genuine = bridging.genuine();
    let mut builder = opened
        .map_err(error::from_welcome)?
        // A member whose key package expired since it was added is still a member.
        .skip_lifetime_validation();
    if let Some(tree) = tree {
        builder = builder.with_ratchet_tree(tree);
    }
    let announced = builder
        .processed_welcome()
        .own_key_package()
        .map(|key_package| key_package.leaf_node().clone());
    let staged = builder.build().map_err(error::from_welcome)?;
    // RFC 9420 section 12.4.3.1: "Identify a leaf whose LeafNode is identical to the one in the KeyPackage."
    // OpenMLS compares signature keys only.
    if announced.is_none() || announced.as_ref() != staged.own_leaf_node() {
        return Err(Failure::invalid_commit(
            "the tree does not hold the leaf of the key package",
        ));
    }
    for member in staged.members() {
        credential::check(&member.credential)?;
    }
    successor::check(former, genuine, &staged)?;
    Ok(Opened {
        before,
        provider,
        lent,
        staged,
    })
}

/// Join, perhaps going on from a group of `former`; gives the group ID.
pub fn join(
    client: &ClientState,
    former: &ClientState,
    key_packages: &mut Provider,
    welcome: &[u8],
    ratchet_tree: Option<&[u8]>,
    retention: Retention,
) -> Outcome<Vec<u8>> {
    let Opened {
        before,
        provider,
        lent,
        staged,
    } = open(
        client,
        former,
        key_packages,
        welcome,
        ratchet_tree,
        retention,
    )?;
    let group = staged.into_group(&provider).map_err(error::from_welcome)?;
    let group_id = group.group_id().to_vec();
    psk::take_back(&provider, &lent)?;
    let (kept, moved) = provider.into_storage().into_contents().split(&before);
    let state = GroupState {
        provider: Provider::new(Store::new(moved)),
        group,
    };
    client.change_entry(&group_id, |slot| slot.enter(state))?;
    *key_packages = Provider::new(Store::new(kept));
    Ok(group_id)
}

/// What a Welcome invites to.
#[pyclass(frozen, module = "openmls")]
pub struct WelcomePreview {
    #[pyo3(get)]
    pub group_id: Vec<u8>,
    #[pyo3(get)]
    pub epoch: u64,
    #[pyo3(get)]
    pub ciphersuite: u16,
    #[pyo3(get)]
    pub own_leaf_index: u32,
    #[pyo3(get)]
    pub app_data: BTreeMap<u16, Vec<u8>>,
    sender: Member,
    members: Vec<Member>,
}

#[pymethods]
impl WelcomePreview {
    #[getter]
    fn sender(&self) -> Member {
        self.sender.clone()
    }
    #[getter]
    fn members<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.members.iter().cloned())
    }
    fn __repr__(&self) -> String {
        format!(
            "<WelcomePreview {} epoch={} members={}>",
            short(&self.group_id),
            self.epoch,
            self.members.len()
        )
    }
}

/// Decrypt and verify a Welcome without joining; `client` is not changed.
pub fn preview(
    client: &ClientState,
    former: &ClientState,
    key_packages: &Provider,
    welcome: &[u8],
    ratchet_tree: Option<&[u8]>,
) -> Outcome<WelcomePreview> {
    let retention = Retention::default();
    let Opened {
        provider, staged, ..
    } = open(
        client,
        former,
        key_packages,
        welcome,
        ratchet_tree,
        retention,
    )?;
    let sender = staged.welcome_sender_index().u32();
    let own_leaf_index = staged.own_leaf_index().u32();
    // In the copy of the store that ends here.
    let group = staged.into_group(&provider).map_err(error::from_welcome)?;
    let members = Member::list(group.public_group())?;
    let sender = members
        .iter()
        .find(|member| member.leaf_index == sender)
        .ok_or_else(|| Failure::invalid_commit("the inviter is no member"))?
        .clone();
    let context = group.public_group().group_context();
    Ok(WelcomePreview {
        group_id: context.group_id().to_vec(),
        epoch: context.epoch().as_u64(),
        ciphersuite: context.ciphersuite().into(),
        own_leaf_index,
        app_data: members::app_data(context.extensions()),
        sender,
        members,
    })
}
