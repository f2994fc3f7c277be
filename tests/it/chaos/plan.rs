//! The schedule of faults: a pure function of the seed.

use std::fmt;

use strum::{IntoStaticStr, VariantArray};

/// Longest time after which the operator reads a bucket back, by docs/concepts/retention.md.
pub const READ_BACK_SECONDS: u32 = 300;

/// A kind of fault. [`Kind::ending`] says which footage it may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, IntoStaticStr, VariantArray)]
pub enum Kind {
    /// SIGKILL to a recorder process.
    RecorderKilled,
    PodDeleted,
    /// `kubectl delete pod --force --grace-period=0`.
    PodForceDeleted,
    PodEvicted,
    /// `kubectl scale --replicas=0`.
    WorkloadScaled,
    WorkloadDeleted,
    /// `kubectl rollout restart`.
    WorkloadRestarted,
    /// Another CPU request in the Site.
    TemplateChanged,
    /// Another `recorderImage`, with a restart of the operators.
    ImageUpgraded,
    /// A lower `maxCamerasPerPod`, and back.
    CapacityLowered,
    StoreAway,
    /// The store answers 503.
    StoreUnavailable,
    StoreSilent,
    StoreSlow,
    /// The store applies requests, and their responses are lost.
    StoreResponsesLost,
    /// One request in five fails, each in another way.
    StoreFaulty,
    /// The `Date` of the store is an hour ahead.
    StoreClockAhead,
    /// SIGKILL to the leader.
    OperatorKilled,
    /// SIGSTOP to the leader, and SIGCONT.
    LeaderFrozen,
    /// The operator's connections to the API server break.
    ApiAway,
    /// The API server answers the operator no more.
    ApiSilent,
    /// The API server stops, and starts again.
    ApiRestarted,
    RecorderKeyWrong,
    /// A second key of the same identity.
    RecorderKeyRotated,
    RecorderSecretRecreated,
    OperatorKeyWrong,
    CameraPasswordWrong,
    CameraSecretRecreated,
    CamerasOff,
    /// The cameras send nothing more, on connections that stay open.
    CamerasHang,
    /// A Camera is created, and deleted at the end.
    CameraAdded,
    Suspended,
    PolicyEdited,
    /// Somebody deletes the lifecycle rules of a bucket.
    LifecycleRemoved,
    /// Somebody deletes the policy of a bucket.
    BucketPolicyRemoved,
    /// The second node loses its power, and comes back with its disk.
    NodeKilled,
    /// Nothing passes between the second node and the API server.
    NodeCut,
}

/// Object of a fault. Two faults of one object never overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    Workload(u32),
    Store(u32),
    Operator,
    RecorderSecret(u32),
    OperatorSecret(u32),
    Cameras(u32),
    Suspensions(u32),
    AddedCamera(u32),
    Policy,
    Bucket(u32),
    SecondNode,
}

/// Way in which a fault ends recorders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The process of one pod ends. Its disk stays.
    Killed,
    /// SIGTERM to one pod, which then has 55 s for its uploads.
    PodTerminated,
    /// SIGTERM to all pods of the site.
    AllTerminated,
    /// One pod goes at once, with its disk unless that is a volume.
    PodRemoved,
    /// The operator replaces pods with another template, an emptyDir once it has no complete segment.
    Replaced,
    /// Cameras move to another pod.
    Moved,
    /// The node dies, and comes back with its disks.
    NodeLost,
}

/// Size of a run.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Duration of the faults in seconds.
    pub seconds: u32,
    /// Seconds between two faults, at least and at most.
    pub pace: (u32, u32),
    pub sites: u32,
    /// Servers of cameras, each with the same number.
    pub groups: u32,
}

/// A fault of the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Beginning in seconds.
    pub at: u32,
    /// Duration in seconds; 0: the fault is one action.
    pub lasts: u32,
    pub kind: Kind,
    /// Number of the site, or of the group of cameras.
    pub target: u32,
    /// A random number, such as for the choice of a pod.
    pub choice: u32,
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, lasts, kind, target, choice } = self;
        let name: &str = kind.into();
        write!(f, "{at:>5} s  {name:<24} {target}")?;
        if *lasts > 0 { write!(f, "  for {lasts} s") } else { write!(f, "  choice {choice}") }
    }
}

impl Kind {
    /// Returns the shortest and the longest duration in seconds.
    const fn durations(self) -> (u32, u32) {
        match self {
            Self::RecorderKilled
            | Self::PodDeleted
            | Self::PodForceDeleted
            | Self::PodEvicted
            | Self::WorkloadScaled
            | Self::WorkloadDeleted
            | Self::WorkloadRestarted
            | Self::TemplateChanged
            | Self::ImageUpgraded
            | Self::RecorderKeyRotated
            | Self::PolicyEdited => (0, 0),
            Self::RecorderSecretRecreated | Self::CameraSecretRecreated => (2, 20),
            Self::ApiRestarted => (2, 10),
            Self::OperatorKilled | Self::LeaderFrozen | Self::ApiAway | Self::ApiSilent => (5, 40),
            Self::CapacityLowered => (40, 90),
            // Long enough for a part that nothing else disturbs.
            Self::CameraAdded => (60, 150),
            Self::NodeKilled | Self::NodeCut => (20, 120),
            // At most: the operator ends it.
            Self::LifecycleRemoved | Self::BucketPolicyRemoved => (READ_BACK_SECONDS, READ_BACK_SECONDS),
            _ => (10, 60),
        }
    }

    const fn is_of_camera_group(self) -> bool {
        matches!(
            self,
            Self::CameraPasswordWrong
                | Self::CameraSecretRecreated
                | Self::CamerasOff
                | Self::CamerasHang
                | Self::CameraAdded
        )
    }

    /// Returns the object of a fault of this kind.
    pub const fn object(self, target: u32) -> Object {
        match self {
            Self::RecorderKilled
            | Self::PodDeleted
            | Self::PodForceDeleted
            | Self::PodEvicted
            | Self::WorkloadScaled
            | Self::WorkloadDeleted
            | Self::WorkloadRestarted
            | Self::TemplateChanged
            | Self::CapacityLowered => Object::Workload(target),
            Self::StoreAway
            | Self::StoreUnavailable
            | Self::StoreSilent
            | Self::StoreSlow
            | Self::StoreResponsesLost
            | Self::StoreFaulty
            | Self::StoreClockAhead => Object::Store(target),
            Self::OperatorKilled
            | Self::LeaderFrozen
            | Self::ApiAway
            | Self::ApiSilent
            | Self::ApiRestarted
            | Self::ImageUpgraded => Object::Operator,
            Self::RecorderKeyWrong | Self::RecorderKeyRotated | Self::RecorderSecretRecreated => {
                Object::RecorderSecret(target)
            }
            Self::OperatorKeyWrong => Object::OperatorSecret(target),
            Self::CameraPasswordWrong
            | Self::CameraSecretRecreated
            | Self::CamerasOff
            | Self::CamerasHang => Object::Cameras(target),
            Self::CameraAdded => Object::AddedCamera(target),
            Self::Suspended => Object::Suspensions(target),
            Self::PolicyEdited => Object::Policy,
            Self::LifecycleRemoved | Self::BucketPolicyRemoved => Object::Bucket(target),
            Self::NodeKilled | Self::NodeCut => Object::SecondNode,
        }
    }

    /// Returns whether a store behaves badly.
    pub const fn is_of_store(self) -> bool {
        matches!(self.object(0), Object::Store(_))
    }

    /// Returns how recorders end; `None`: they record on.
    pub const fn ending(self) -> Option<Ending> {
        Some(match self {
            Self::RecorderKilled => Ending::Killed,
            Self::PodDeleted | Self::PodEvicted => Ending::PodTerminated,
            Self::PodForceDeleted => Ending::PodRemoved,
            Self::WorkloadScaled | Self::WorkloadDeleted => Ending::AllTerminated,
            Self::WorkloadRestarted | Self::TemplateChanged | Self::ImageUpgraded => Ending::Replaced,
            Self::CapacityLowered | Self::NodeCut => Ending::Moved,
            Self::NodeKilled => Ending::NodeLost,
            _ => return None,
        })
    }

    /// Returns whether somebody changes the configuration of a bucket. The operator ends such a fault.
    pub const fn is_drift(self) -> bool {
        matches!(self.object(0), Object::Bucket(_))
    }

    /// Returns whether segments wait in the spools meanwhile.
    pub const fn stops_uploads(self) -> bool {
        self.is_of_store()
            || matches!(
                self,
                Self::RecorderKeyWrong | Self::RecorderSecretRecreated | Self::BucketPolicyRemoved
            )
    }

    /// Returns whether the operator cannot work meanwhile, so that statuses may be old.
    pub const fn stops_operator(self) -> bool {
        matches!(
            self,
            Self::OperatorKilled
                | Self::LeaderFrozen
                | Self::ApiAway
                | Self::ApiSilent
                | Self::ApiRestarted
                | Self::ImageUpgraded
        )
    }
}

/// Returns the faults of `kinds` for a seed, in the order of their beginnings. Each kind occurs once before any occurs a second
/// time, except those whose object has a fault already.
pub fn plan(seed: u64, size: Size, kinds: &[Kind]) -> Vec<Planned> {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut planned, mut bag): (Vec<Planned>, Vec<Kind>) = (Vec::new(), Vec::new());
    let mut at = 5;
    while at < size.seconds {
        if bag.is_empty() {
            bag = kinds.to_vec();
            random.shuffle(&mut bag);
        }
        let is_busy = |object: Object| {
            planned
                .iter()
                .any(|fault| fault.kind.object(fault.target) == object && fault.at + fault.lasts >= at)
        };
        let free = bag.iter().enumerate().find_map(|(index, kind)| {
            let targets = if kind.is_of_camera_group() { size.groups } else { size.sites };
            // Only the second site is on the second node.
            let first = if kind.object(0) == Object::SecondNode { 1 } else { random.u32(..targets) };
            let target = (0..targets).map(|add| (first + add) % targets);
            target.into_iter().find(|target| !is_busy(kind.object(*target))).map(|target| (index, target))
        });
        if let Some((index, target)) = free {
            let kind = bag.remove(index);
            let (shortest, longest) = kind.durations();
            let lasts = random.u32(shortest..=longest).min(size.seconds - at);
            planned.push(Planned { at, lasts, kind, target, choice: random.u32(..1000) });
        }
        at += random.u32(size.pace.0..=size.pace.1);
    }
    planned
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SIZE: Size = Size { seconds: 1800, pace: (5, 20), sites: 2, groups: 5 };

    #[test]
    fn seed_repeats_its_plan_with_all_kinds() {
        let first = plan(7, SIZE, Kind::VARIANTS);
        assert_eq!(first, plan(7, SIZE, Kind::VARIANTS));
        assert_ne!(first, plan(8, SIZE, Kind::VARIANTS));
        let kinds: BTreeSet<Kind> = first.iter().map(|fault| fault.kind).collect();
        assert_eq!(kinds.len(), Kind::VARIANTS.len(), "{kinds:?}");
    }

    #[test]
    fn faults_of_one_object_do_not_overlap() {
        for seed in 0..50 {
            let all = plan(seed, SIZE, Kind::VARIANTS);
            for (index, fault) in all.iter().enumerate() {
                assert!(fault.at + fault.lasts <= SIZE.seconds, "{fault}");
                let same =
                    |other: &&Planned| other.kind.object(other.target) == fault.kind.object(fault.target);
                for later in all[index + 1..].iter().filter(same) {
                    assert!(later.at > fault.at + fault.lasts, "{seed}: {fault}, {later}");
                }
            }
        }
    }
}
