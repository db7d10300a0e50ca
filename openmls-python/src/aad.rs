//! The `authenticated_data` of what a member sends (draft-ietf-mls-extensions section 4.9, Safe AAD).

use openmls::framing::{SafeAad, SafeAadItem};
use openmls::group::{GroupContext, MlsGroup};
use tls_codec::DeserializeBytes;

use crate::app_data::NewValues;
use crate::error::{Failure, Outcome};

#[derive(Default)]
pub struct Aad {
    pub plain: Vec<u8>,
    /// By component.
    pub safe: NewValues,
}

impl Aad {
    /// draft-ietf-mls-extensions, Safe AAD: "If the `safe_aad` component in the `app_data_dictionary` extension is
    /// present in the GroupContext, the entire `authenticated_data` field is framed as a `SafeAAD` struct".
    pub fn check(&self, framed: bool) -> Outcome<()> {
        if framed && !self.plain.is_empty() {
            return Err(Failure::not_allowed(
                "the group has the safe_aad component: all additional data belongs to components",
            ));
        }
        if !framed && !self.safe.is_empty() {
            return Err(Failure::not_allowed(
                "the group does not have the safe_aad component",
            ));
        }
        Ok(())
    }

    /// Send this with the next message.
    pub fn set(self, group: &mut MlsGroup) -> Outcome<()> {
        self.check(group.public_group().group_context().safe_aad_required())?;
        group.set_aad(self.plain);
        let items = self
            .safe
            .into_iter()
            .map(|(component, data)| SafeAadItem::new(component, data))
            .collect();
        group.set_safe_aad(items).map_err(Failure::internal)
    }
}

pub fn items(safe: &SafeAad) -> NewValues {
    safe.items()
        .iter()
        .map(|item| (item.component_id(), item.data().to_vec()))
        .collect()
}

/// The items of received `authenticated_data` in a group that frames it, and what is not of a component.
pub fn split(context: &GroupContext, data: &[u8]) -> Outcome<(Option<NewValues>, Vec<u8>)> {
    if !context.safe_aad_required() {
        return Ok((None, data.to_vec()));
    }
    let (safe, rest) = SafeAad::tls_deserialize_bytes(data)?;
    Ok((Some(items(&safe)), rest.to_vec()))
}
