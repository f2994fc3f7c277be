//! What of a bucket is weaker than it could be, with what follows from it: pure, from what was read back.

use super::spec::{
    BucketState, ForbiddenSubresource, RequiredSubresource, SubresourceState, UnreadableReason,
};

impl BucketState {
    /// What this store does not have or does not show, in sentences; empty where there is nothing of it.
    pub fn limitations(&self) -> Vec<String> {
        let unseen = |why| {
            let parts = self.unreadable.iter().filter(|(_, found)| **found == why);
            parts.map(|(extra, _)| <&str>::from(*extra)).collect::<Vec<_>>()
        };
        let denied_settings = self.required.iter().filter(|(_, kept)| **kept == SubresourceState::Denied);
        let mut denied = unseen(UnreadableReason::Denied);
        denied.extend(denied_settings.map(|(setting, _)| <&str>::from(*setting)));
        let mut gaps = Vec::new();
        if !denied.is_empty() {
            gaps.push(format!(
                "the operator may not read whether the bucket has {}: give it the rights that docs/reference/stores.md lists",
                denied.join(", ")
            ));
        }
        let other = unseen(UnreadableReason::UnexpectedAnswer);
        if !other.is_empty() {
            gaps.push(format!(
                "the store does not understand the question whether the bucket has {}: what is set there in another way \
                 is not seen",
                other.join(", ")
            ));
        }
        let weaker = self
            .required
            .iter()
            .filter(|(_, kept)| matches!(kept, SubresourceState::Unsupported | SubresourceState::Differs(_)));
        gaps.extend(
            weaker.map(|(setting, _)| format!("the store keeps no {setting}: {}", setting.consequence())),
        );
        let stronger = self.required.iter().filter_map(|(setting, kept)| match kept {
            SubresourceState::Stronger(how) => Some(format!(
                "the {setting} is {how}, with a key of the organisation's own: whoever withdraws or deletes that key makes all \
                 recordings unreadable, held ones too"
            )),
            _ => None,
        });
        gaps.extend(stronger);
        gaps
    }

    /// Whether the operator may not read if the bucket has this. A store that does not know the question has no
    /// such thing to be set by S3.
    pub(crate) fn is_unreadable(&self, extra: ForbiddenSubresource) -> bool {
        self.unreadable.get(&extra) == Some(&UnreadableReason::Denied)
    }
}

impl RequiredSubresource {
    fn consequence(self) -> &'static str {
        match self {
            Self::PublicAccessBlock => {
                "that nobody is allowed by wildcard rests on the bucket's policy alone"
            }
            Self::Encryption => "whether recordings lie encrypted on its disks is up to the store",
            Self::Ownership => {
                "objects may belong to who put them; that ACLs are not changed rests on the bucket's policy"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limitations_distinguish_denied_from_unsupported() {
        let mut state = BucketState::default();
        assert_eq!(state.limitations(), Vec::<String>::new());
        state.unreadable.insert(ForbiddenSubresource::Cors, UnreadableReason::Denied);
        state.required.insert(RequiredSubresource::Ownership, SubresourceState::Denied);
        state.unreadable.insert(ForbiddenSubresource::Inventory, UnreadableReason::UnexpectedAnswer);
        state.required.insert(RequiredSubresource::Encryption, SubresourceState::Unsupported);
        state.required.insert(RequiredSubresource::PublicAccessBlock, SubresourceState::Compliant);
        let gaps = state.limitations();
        assert_eq!(gaps.len(), 3, "{gaps:?}");
        let mut stronger = state.clone();
        stronger.required.insert(RequiredSubresource::Encryption, SubresourceState::Stronger("aws:kms"));
        let told = stronger.limitations();
        assert!(
            told.iter().any(|gap| gap.contains("aws:kms") && gap.contains("deletes that key")),
            "{told:?}"
        );
        assert!(gaps[0].contains("CORS rules, object ownership"), "{gaps:?}");
        assert!(gaps[1].contains("inventories") && gaps[2].contains("no default encryption"), "{gaps:?}");
    }
}
