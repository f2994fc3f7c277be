//! The store's lifecycle rules as documented for S3. A delete marker is added at the first midnight N days after the
//! upload. The bytes are deleted at the first midnight a day after that. Versions with other tags stay.

use jiff::Timestamp;
use toezicht::api::Ceilings;
use toezicht::rules::retention::{VersionState, lifecycle_deadline};

use super::api::CEILINGS;
use super::store::{Actor, Caller, Store, Version};

const EXPIRING_TAGS: [&str; 2] = ["video", "calls"];

fn has_expiration_rule(key: &str, version: &Version) -> bool {
    let tag = version.tag().filter(|tag| EXPIRING_TAGS.contains(tag));
    tag.is_some_and(|tag| key.starts_with(&format!("{tag}/")))
}

fn due(key: &str, ceilings: &Ceilings, hidden: VersionState, now: Timestamp) -> bool {
    let ceiling = if key.starts_with("calls/") { ceilings.calls } else { ceilings.video };
    lifecycle_deadline(ceiling, hidden).is_some_and(|due| due <= now)
}

impl Store {
    /// Runs all lifecycle steps that are due at `now`.
    pub fn expire(&mut self, now: Timestamp, sent: Timestamp) {
        self.run_lifecycle_with(&CEILINGS, now, sent);
    }

    /// Runs all due lifecycle steps by these ceilings.
    pub fn run_lifecycle_with(&mut self, ceilings: &Ceilings, now: Timestamp, sent: Timestamp) {
        let by = Caller { actor: Actor::Lifecycle, now, sent };
        let (mut hide, mut remove) = (Vec::new(), Vec::new());
        for (key, versions) in &self.keys {
            for (place, version) in versions.iter().enumerate() {
                let newer = place.checked_sub(1).map(|place| versions[place].uploaded_at);
                match newer {
                    None if version.is_marker && versions.len() == 1 => {
                        remove.push((key.clone(), version.id.clone()));
                    }
                    None if version.is_marker || !has_expiration_rule(key, version) => (),
                    None if due(key, ceilings, VersionState::CurrentSince(version.modified), now) => {
                        hide.push(key.clone());
                    }
                    None => (),
                    Some(since) => {
                        let is_removable =
                            version.is_marker || has_expiration_rule(key, version) && !version.is_held();
                        let is_recording = key.starts_with("video/") || key.starts_with("calls/");
                        if is_removable
                            && is_recording
                            && due(key, ceilings, VersionState::NoncurrentSince(since), now)
                        {
                            remove.push((key.clone(), version.id.clone()));
                        }
                    }
                }
            }
        }
        for key in hide {
            let _ = self.delete(by, &key, None);
        }
        for (key, id) in remove {
            let _ = self.delete(by, &key, Some(&id));
        }
    }
}
