//! What of a bucket is weaker than it could be, with what follows from it: pure, from what was read back.

use super::bucket::{BucketState, Extra, Kept, Setting, Unseen};

impl BucketState {
    /// What this store does not have or does not show, in sentences; empty where there is nothing of it.
    pub fn gaps(&self) -> Vec<String> {
        let unseen = |why| {
            let parts = self.unseen.iter().filter(|(_, found)| **found == why);
            parts.map(|(extra, _)| <&str>::from(*extra)).collect::<Vec<_>>()
        };
        let denied_settings = self.settings.iter().filter(|(_, kept)| **kept == Kept::Denied);
        let mut denied = unseen(Unseen::Denied);
        denied.extend(denied_settings.map(|(setting, _)| <&str>::from(*setting)));
        let mut gaps = Vec::new();
        if !denied.is_empty() {
            gaps.push(format!(
                "the operator may not read whether the bucket has {}: give it the rights that docs/storage.md lists",
                denied.join(", ")
            ));
        }
        let other = unseen(Unseen::OtherAnswer);
        if !other.is_empty() {
            gaps.push(format!(
                "the store does not understand the question whether the bucket has {}: what is set there in another way \
                 is not seen",
                other.join(", ")
            ));
        }
        let weaker =
            self.settings.iter().filter(|(_, kept)| matches!(kept, Kept::Lacking | Kept::Otherwise(_)));
        gaps.extend(
            weaker.map(|(setting, _)| format!("the store keeps no {setting}: {}", setting.consequence())),
        );
        let stronger = self.settings.iter().filter_map(|(setting, kept)| match kept {
            Kept::Stronger(how) => Some(format!(
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
    pub(crate) fn hides(&self, extra: Extra) -> bool {
        self.unseen.get(&extra) == Some(&Unseen::Denied)
    }
}

impl Setting {
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
    fn what_may_not_be_read_is_not_what_is_not_there() {
        let mut state = BucketState::default();
        assert_eq!(state.gaps(), Vec::<String>::new());
        state.unseen.insert(Extra::Cors, Unseen::Denied);
        state.settings.insert(Setting::Ownership, Kept::Denied);
        state.unseen.insert(Extra::Inventory, Unseen::OtherAnswer);
        state.settings.insert(Setting::Encryption, Kept::Lacking);
        state.settings.insert(Setting::PublicAccessBlock, Kept::AsRequired);
        let gaps = state.gaps();
        assert_eq!(gaps.len(), 3, "{gaps:?}");
        let mut stronger = state.clone();
        stronger.settings.insert(Setting::Encryption, Kept::Stronger("aws:kms"));
        let told = stronger.gaps();
        assert!(
            told.iter().any(|gap| gap.contains("aws:kms") && gap.contains("deletes that key")),
            "{told:?}"
        );
        assert!(gaps[0].contains("CORS rules, object ownership"), "{gaps:?}");
        assert!(gaps[1].contains("inventories") && gaps[2].contains("no default encryption"), "{gaps:?}");
    }
}
