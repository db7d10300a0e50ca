//! The store as OpenMLS sees it: which of its many verbs writes, reads or deletes which value.

use openmls_traits::storage::{traits, StorageProvider};

use crate::store::{
    decoded, encoded, failed, key_bytes, Queued, Store, StoreError, Stored, Table, ONLY, V,
};

/// Writer, reader and deleter of a value that a group has once.
macro_rules! once {
    ($table:ident, $type:ident, $write:ident, $read:ident, $delete:ident) => {
        fn $write<G: traits::GroupId<V>, T: traits::$type<V>>(&self, _: &G, it: &T) -> Stored<()> {
            self.put(Table::$table, ONLY, it)
        }

        fn $read<G: traits::GroupId<V>, T: traits::$type<V>>(&self, _: &G) -> Stored<Option<T>> {
            self.get(Table::$table, ONLY)
        }

        fn $delete<G: traits::GroupId<V>>(&self, _: &G) -> Stored<()> {
            self.drop_value(Table::$table, ONLY);
            Ok(())
        }
    };
}

/// Writer, reader and deleter of a value with a key of its own.
macro_rules! keyed {
    ($table:ident, $key:ident, $type:ident, $write:ident, $read:ident, $delete:ident) => {
        fn $write<K: traits::$key<V>, T: traits::$type<V>>(&self, key: &K, it: &T) -> Stored<()> {
            self.put(Table::$table, key_bytes(key)?, it)
        }

        keyed!(@read $table, $key, $type, $read);

        fn $delete<K: traits::$key<V>>(&self, key: &K) -> Stored<()> {
            self.drop_value(Table::$table, key_bytes(key)?);
            Ok(())
        }
    };
    // Two readers name the value's type before the key's.
    (@read $table:ident, EncryptionKey, $type:ident, $read:ident) => {
        fn $read<T: traits::$type<V>, K: traits::EncryptionKey<V>>(&self, key: &K) -> Stored<Option<T>> {
            self.get(Table::$table, key_bytes(key)?)
        }
    };
    (@read $table:ident, PskId, $type:ident, $read:ident) => {
        fn $read<T: traits::$type<V>, K: traits::PskId<V>>(&self, key: &K) -> Stored<Option<T>> {
            self.get(Table::$table, key_bytes(key)?)
        }
    };
    (@read $table:ident, $key:ident, $type:ident, $read:ident) => {
        fn $read<K: traits::$key<V>, T: traits::$type<V>>(&self, key: &K) -> Stored<Option<T>> {
            self.get(Table::$table, key_bytes(key)?)
        }
    };
}

impl StorageProvider<V> for Store {
    type Error = StoreError;

    fn write_tree<G: traits::GroupId<V>, T: traits::TreeSync<V>>(
        &self,
        _: &G,
        tree: &T,
    ) -> Stored<()> {
        let leaving = self.shelf().leaving_tree;
        if leaving {
            self.drop_value(Table::Tree, ONLY);
            return Ok(());
        }
        self.put(Table::Tree, ONLY, tree)
    }

    fn tree<G: traits::GroupId<V>, T: traits::TreeSync<V>>(&self, _: &G) -> Stored<Option<T>> {
        self.get(Table::Tree, ONLY)
    }

    fn delete_tree<G: traits::GroupId<V>>(&self, _: &G) -> Stored<()> {
        self.drop_value(Table::Tree, ONLY);
        Ok(())
    }

    once!(
        GroupContext,
        GroupContext,
        write_context,
        group_context,
        delete_context
    );
    once!(
        InterimTranscriptHash,
        InterimTranscriptHash,
        write_interim_transcript_hash,
        interim_transcript_hash,
        delete_interim_transcript_hash
    );
    once!(
        ConfirmationTag,
        ConfirmationTag,
        write_confirmation_tag,
        confirmation_tag,
        delete_confirmation_tag
    );
    once!(
        ResumptionPsks,
        ResumptionPskStore,
        write_resumption_psk_store,
        resumption_psk_store,
        delete_all_resumption_psk_secrets
    );
    once!(
        OwnLeafIndex,
        LeafNodeIndex,
        write_own_leaf_index,
        own_leaf_index,
        delete_own_leaf_index
    );
    once!(
        EpochSecrets,
        GroupEpochSecrets,
        write_group_epoch_secrets,
        group_epoch_secrets,
        delete_group_epoch_secrets
    );
    keyed!(
        SignatureKeyPair,
        SignaturePublicKey,
        SignatureKeyPair,
        write_signature_key_pair,
        signature_key_pair,
        delete_signature_key_pair
    );
    keyed!(
        EncryptionKeyPair,
        EncryptionKey,
        HpkeKeyPair,
        write_encryption_key_pair,
        encryption_key_pair,
        delete_encryption_key_pair
    );
    keyed!(
        KeyPackage,
        HashReference,
        KeyPackage,
        write_key_package,
        key_package,
        delete_key_package
    );
    keyed!(Psk, PskId, PskBundle, write_psk, psk, delete_psk);

    // OpenMLS reads an older form of the configuration too, which only a format that says what it holds can tell apart.

    fn write_mls_join_config<G: traits::GroupId<V>, T: traits::MlsGroupJoinConfig<V>>(
        &self,
        _: &G,
        config: &T,
    ) -> Stored<()> {
        let json = serde_json::to_vec(config).map_err(failed)?;
        self.put(Table::JoinConfig, ONLY, serde_bytes::Bytes::new(&json))
    }

    fn mls_group_join_config<G: traits::GroupId<V>, T: traits::MlsGroupJoinConfig<V>>(
        &self,
        _: &G,
    ) -> Stored<Option<T>> {
        self.get::<serde_bytes::ByteBuf>(Table::JoinConfig, ONLY)?
            .map(|json| serde_json::from_slice(&json).map_err(failed))
            .transpose()
    }

    fn delete_group_config<G: traits::GroupId<V>>(&self, _: &G) -> Stored<()> {
        self.drop_value(Table::JoinConfig, ONLY);
        Ok(())
    }

    fn write_group_state<T: traits::GroupState<V>, G: traits::GroupId<V>>(
        &self,
        _: &G,
        state: &T,
    ) -> Stored<()> {
        self.put(Table::GroupState, ONLY, state)
    }

    fn group_state<T: traits::GroupState<V>, G: traits::GroupId<V>>(
        &self,
        _: &G,
    ) -> Stored<Option<T>> {
        self.get(Table::GroupState, ONLY)
    }

    fn delete_group_state<G: traits::GroupId<V>>(&self, _: &G) -> Stored<()> {
        self.drop_value(Table::GroupState, ONLY);
        Ok(())
    }

    fn write_message_secrets<G: traits::GroupId<V>, T: traits::MessageSecrets<V>>(
        &self,
        _: &G,
        secrets: &T,
    ) -> Stored<()> {
        let keeping = self.shelf().keeping_secrets;
        if keeping {
            self.put(Table::MessageSecrets, ONLY, secrets)
        } else {
            self.drop_value(Table::MessageSecrets, ONLY);
            Ok(())
        }
    }

    fn message_secrets<G: traits::GroupId<V>, T: traits::MessageSecrets<V>>(
        &self,
        _: &G,
    ) -> Stored<Option<T>> {
        self.get(Table::MessageSecrets, ONLY)
    }

    fn delete_message_secrets<G: traits::GroupId<V>>(&self, _: &G) -> Stored<()> {
        self.drop_value(Table::MessageSecrets, ONLY);
        Ok(())
    }

    fn write_application_export_tree<G: traits::GroupId<V>, T: traits::ApplicationExportTree<V>>(
        &self,
        _: &G,
        tree: &T,
    ) -> Stored<()> {
        self.put(Table::ExportTree, ONLY, tree)
    }

    fn application_export_tree<G: traits::GroupId<V>, T: traits::ApplicationExportTree<V>>(
        &self,
        _: &G,
    ) -> Stored<Option<T>> {
        self.get(Table::ExportTree, ONLY)
    }

    fn delete_application_export_tree<
        G: traits::GroupId<V>,
        T: traits::ApplicationExportTree<V>,
    >(
        &self,
        _: &G,
    ) -> Stored<()> {
        self.drop_value(Table::ExportTree, ONLY);
        Ok(())
    }

    fn write_encryption_epoch_key_pairs<
        G: traits::GroupId<V>,
        E: traits::EpochKey<V>,
        T: traits::HpkeKeyPair<V>,
    >(
        &self,
        _: &G,
        epoch: &E,
        leaf_index: u32,
        key_pairs: &[T],
    ) -> Stored<()> {
        self.put(
            Table::EpochKeyPairs,
            key_bytes(&(epoch, leaf_index))?,
            key_pairs,
        )
    }

    fn encryption_epoch_key_pairs<
        G: traits::GroupId<V>,
        E: traits::EpochKey<V>,
        T: traits::HpkeKeyPair<V>,
    >(
        &self,
        _: &G,
        epoch: &E,
        leaf_index: u32,
    ) -> Stored<Vec<T>> {
        let found = self.get(Table::EpochKeyPairs, key_bytes(&(epoch, leaf_index))?)?;
        Ok(found.unwrap_or_default())
    }

    fn delete_encryption_epoch_key_pairs<G: traits::GroupId<V>, E: traits::EpochKey<V>>(
        &self,
        _: &G,
        epoch: &E,
        leaf_index: u32,
    ) -> Stored<()> {
        self.drop_value(Table::EpochKeyPairs, key_bytes(&(epoch, leaf_index))?);
        Ok(())
    }

    fn append_own_leaf_node<G: traits::GroupId<V>, T: traits::LeafNode<V>>(
        &self,
        _: &G,
        leaf_node: &T,
    ) -> Stored<()> {
        let value = encoded(leaf_node, 0)?;
        self.shelf().contents.own_leaf_nodes.push(value);
        Ok(())
    }

    fn own_leaf_nodes<G: traits::GroupId<V>, T: traits::LeafNode<V>>(
        &self,
        _: &G,
    ) -> Stored<Vec<T>> {
        self.shelf()
            .contents
            .own_leaf_nodes
            .iter()
            .map(|value| decoded(&value.0))
            .collect()
    }

    fn delete_own_leaf_nodes<G: traits::GroupId<V>>(&self, _: &G) -> Stored<()> {
        self.shelf().contents.own_leaf_nodes.clear();
        Ok(())
    }

    fn queue_proposal<
        G: traits::GroupId<V>,
        R: traits::ProposalRef<V>,
        T: traits::QueuedProposal<V>,
    >(
        &self,
        _: &G,
        reference: &R,
        proposal: &T,
    ) -> Stored<()> {
        let queued = Queued {
            reference: key_bytes(reference)?,
            proposal: encoded(proposal, 0)?,
        };
        self.shelf().contents.proposals.push_back(queued);
        Ok(())
    }

    fn queued_proposal_refs<G: traits::GroupId<V>, R: traits::ProposalRef<V>>(
        &self,
        _: &G,
    ) -> Stored<Vec<R>> {
        self.shelf()
            .contents
            .proposals
            .iter()
            .map(|queued| decoded(&queued.reference))
            .collect()
    }

    fn queued_proposals<
        G: traits::GroupId<V>,
        R: traits::ProposalRef<V>,
        T: traits::QueuedProposal<V>,
    >(
        &self,
        _: &G,
    ) -> Stored<Vec<(R, T)>> {
        self.shelf()
            .contents
            .proposals
            .iter()
            .map(|queued| Ok((decoded(&queued.reference)?, decoded(&queued.proposal.0)?)))
            .collect()
    }

    fn remove_proposal<G: traits::GroupId<V>, R: traits::ProposalRef<V>>(
        &self,
        _: &G,
        reference: &R,
    ) -> Stored<()> {
        let reference = key_bytes(reference)?;
        self.shelf()
            .contents
            .proposals
            .retain(|queued| queued.reference != reference);
        Ok(())
    }

    fn clear_proposal_queue<G: traits::GroupId<V>, R: traits::ProposalRef<V>>(
        &self,
        _: &G,
    ) -> Stored<()> {
        self.shelf().contents.proposals.clear();
        Ok(())
    }
}
