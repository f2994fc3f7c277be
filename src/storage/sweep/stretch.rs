//! Where a sweep has deleted, to be read back. Pure.

use crate::storage::listing::{After, Listed};

/// Pages one after the other that had something due, to be read back when all is deleted: then a listing finds only what
/// is left, so that every version is listed about once.
pub(super) struct Stretch {
    /// Where the first page began.
    pub(super) after: Option<After>,
    /// The last key that was due.
    pub(super) last: String,
    /// How many were due.
    pub(super) versions: u64,
    /// And their bytes.
    pub(super) bytes: u64,
}

impl Stretch {
    /// Adds what was due on the page after `after`: to the last stretch, if that goes on there.
    pub(super) fn note(stretches: &mut Vec<Self>, after: Option<&After>, due: &[Listed]) {
        let Some(last) = due.last() else { return };
        let bytes: u64 = due.iter().map(|listed| listed.size).sum();
        match stretches.last_mut() {
            Some(stretch) if after.is_some_and(|after| !after.is_past(&stretch.last)) => {
                stretch.last.clone_from(&last.key);
                stretch.versions += due.len() as u64;
                stretch.bytes += bytes;
            }
            _ => stretches.push(Self {
                after: after.cloned(),
                last: last.key.clone(),
                versions: due.len() as u64,
                bytes,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn listed(key: &str) -> Listed {
        Listed {
            key: key.into(),
            id: "1".into(),
            is_marker: false,
            is_latest: true,
            modified: Timestamp::UNIX_EPOCH,
            size: 10,
            etag: "e".into(),
        }
    }

    #[test]
    fn pages_that_follow_each_other_are_one_stretch() {
        let of = |keys: &[&str]| keys.iter().map(|key| listed(key)).collect::<Vec<_>>();
        let mut stretches = Vec::new();
        for (after, due) in [
            (None, of(&["a", "b"])),
            // The page before ended with what was due: this one goes on there.
            (Some("b"), of(&["c"])),
            (Some("c"), of(&[])),
            // Something that is not due lies between.
            (Some("d"), of(&["e"])),
            (Some("e"), of(&["f"])),
        ] {
            Stretch::note(&mut stretches, after.map(After::key).as_ref(), &due);
        }
        let told = stretches.iter().map(|stretch| {
            (
                stretch.after.clone(),
                stretch.last.as_str(),
                stretch.versions,
                stretch.bytes,
            )
        });
        let expected = [(None, "c", 3, 30), (Some(After::key("d")), "f", 2, 20)];
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }
}
