use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::controllers::recorder_client::RecorderStatusError;
use crate::controllers::site::fixtures::fixture;
use crate::controllers::site::recorders::workload::read_config;
use crate::controllers::testing;
use crate::wire::{CameraConfig, SpoolStatus};

fn names() -> ChildNames {
    ChildNames::of(&testing::site())
}

/// Returns a bound claim of the class `fast` without evidence.
fn claim(shard: u32) -> SpoolClaim {
    SpoolClaim {
        shard,
        name: names().claim(shard),
        content: ClaimContent::Unknown,
        is_deleting: false,
        is_labelled: true,
        created: None,
        storage: storage("fast"),
        finalizers: vec![CLAIM_FINALIZER.to_owned()],
        uid: None,
        resource_version: None,
    }
}

fn empty(shard: u32) -> SpoolClaim {
    SpoolClaim { content: ClaimContent::Empty, ..claim(shard) }
}

fn deleting(claim: SpoolClaim) -> SpoolClaim {
    SpoolClaim { is_deleting: true, ..claim }
}

fn storage(class: &str) -> ClaimStorage {
    ClaimStorage { class: class.to_owned(), size: "20Gi".to_owned() }
}

fn wanted(pods: u32, class: &str) -> WantedSpools {
    WantedSpools { pods, storage: Some(storage(class)) }
}

fn pod(shard: u32) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": names().pod(shard)}})).unwrap()
}

fn reply(shard: u32, revision: &str, segments: u64) -> ShardReply {
    let spool = SpoolStatus { segments, bytes: segments, ..SpoolStatus::default() };
    let status = testing::recorder_status(revision, Timestamp::UNIX_EPOCH, vec![]);
    ShardReply { shard, status: Ok(RecorderStatus { spool, ..status }) }
}

/// Returns a configuration with a camera for each of these shards that may record.
fn config(revision: &str, recording: &BTreeSet<u32>) -> RecorderConfig {
    static ANY: LazyLock<RecorderConfig> =
        LazyLock::new(|| read_config(&fixture().plan().config_secret).unwrap());
    let camera = |shard: &u32| CameraConfig { shard: *shard, ..ANY.cameras[0].clone() };
    let cameras = recording.iter().map(camera).collect();
    RecorderConfig { revision: revision.to_owned(), cameras, ..ANY.clone() }
}

fn is_empty_at(revision: &str) -> impl Fn(&RecorderStatus) -> bool {
    move |status| status.revision == revision && !has_content(status)
}

fn object(name: &str, annotations: &serde_json::Value, volume: Option<&str>) -> PersistentVolumeClaim {
    serde_json::from_value(json!({
        "metadata": {"name": name, "annotations": annotations, "finalizers": ["kubernetes.io/pvc-protection"]},
        "spec": {
            "storageClassName": "fast", "volumeName": volume, "resources": {"requests": {"storage": "20Gi"}},
        },
    }))
    .unwrap()
}

#[test]
fn claim_has_content_unless_it_says_otherwise() {
    for (annotations, volume, content) in [
        (json!({}), Some("pv-1"), ClaimContent::Unknown),
        (json!({"other": "true"}), Some("pv-1"), ClaimContent::Unknown),
        (json!({}), None, ClaimContent::NeverBound),
        (json!({SPOOL_EMPTY_ANNOTATION: "0123"}), Some("pv-1"), ClaimContent::Empty),
        (json!({SPOOL_GIVEN_UP_ANNOTATION: "true"}), Some("pv-1"), ClaimContent::GivenUp),
    ] {
        let read =
            SpoolClaim::new(&object("spool-zwembad-recorder-3", &annotations, volume), &names()).unwrap();
        assert_eq!((read.shard, read.content), (3, content), "{annotations} {volume:?}");
        assert_eq!(read.may_go(), content != ClaimContent::Unknown);
        assert_eq!((read.is_protected(), read.storage), (false, storage("fast")));
    }
    for other in ["data-zwembad-recorder-0", "spool-zwembad-recorder-01", "spool-zwembad-recorder-9999999"] {
        assert_eq!(SpoolClaim::new(&object(other, &json!({}), None), &names()), None, "{other}");
    }
}

#[test]
fn claim_belongs_to_the_site_by_its_name_whatever_its_labels() {
    let bare = object("spool-zwembad-recorder-1", &json!({}), Some("pv-1"));
    let mut labelled = bare.clone();
    labelled.metadata.labels = Some(names().labels());
    let mut protected = bare.clone();
    protected.metadata.finalizers = Some(vec![CLAIM_FINALIZER.to_owned()]);
    for (claim, used, is_own_claim) in
        [(&bare, 2, true), (&bare, 1, false), (&labelled, 0, true), (&protected, 0, true)]
    {
        assert_eq!(is_own(claim, &names(), used), is_own_claim, "{claim:?}");
    }
    assert!(!is_own(&object("spool-hal-recorder-0", &json!({}), None), &names(), 9));
    let read = SpoolClaim::new(&bare, &names()).unwrap();
    assert!(!read.is_labelled && !read.may_go() && needed_pods(&[read]) == 2);
}

#[test]
fn claim_that_is_not_bound_needs_no_pods() {
    let mut foreign = object("spool-zwembad-recorder-40", &json!({}), Some("nope"));
    foreign.status = serde_json::from_value(json!({"phase": "Pending"})).unwrap();
    let read = SpoolClaim::new(&foreign, &names()).unwrap();
    assert_eq!((read.content, read.may_go(), read.needs_finalizer()), (ClaimContent::Unbound, false, false));
    assert_eq!(needed_pods(std::slice::from_ref(&read)), 0);
    assert_eq!(wanted(2, "slow").storage_to_adopt(&[read]), None);
    foreign.status = serde_json::from_value(json!({"phase": "Lost"})).unwrap();
    assert_eq!(SpoolClaim::new(&foreign, &names()).unwrap().content, ClaimContent::Unknown, "it was bound");
}

#[test]
fn claim_beyond_all_pods_is_recognised_and_goes() {
    let mut beyond = object("spool-zwembad-recorder-299", &json!({}), Some("pv-1"));
    assert_eq!(SpoolClaim::new(&beyond, &names()), None, "it is not from the template");
    beyond.metadata.finalizers = Some(vec![CLAIM_FINALIZER.to_owned()]);
    let read = SpoolClaim::new(&beyond, &names()).unwrap();
    assert_eq!((read.shard, needed_pods(std::slice::from_ref(&read))), (299, 0));
    assert!(wanted(2, "fast").is_leaving(&read, Some(256)));
}

#[test]
fn claims_with_content_need_their_pods() {
    assert_eq!(needed_pods(&[]), 0);
    assert_eq!(needed_pods(&[claim(0), claim(2), empty(4)]), 3);
    let never_bound = SpoolClaim { content: ClaimContent::NeverBound, ..claim(7) };
    assert_eq!(needed_pods(&[never_bound]), 0);
}

#[test]
fn only_unwanted_claims_with_evidence_leave() {
    let (two, other_class) = (wanted(2, "fast"), wanted(2, "slow"));
    for (claim, wanted, live_pods, leaves) in [
        (claim(2), &two, Some(2), false),
        (empty(2), &two, Some(2), true),
        (empty(2), &two, Some(3), false),
        (empty(1), &two, Some(2), false),
        (deleting(claim(1)), &two, Some(2), false),
        (deleting(empty(1)), &two, Some(2), true),
        // Its StatefulSet still exists, or somebody deleted it.
        (empty(1), &other_class, Some(2), false),
        (empty(1), &other_class, None, true),
        (claim(1), &other_class, None, false),
        (empty(1), &two, None, false),
        (empty(1), &WantedSpools { pods: 2, storage: None }, None, true),
    ] {
        assert_eq!(wanted.is_leaving(&claim, live_pods), leaves, "{claim:?} {wanted:?} {live_pods:?}");
    }
    let larger =
        SpoolClaim { storage: ClaimStorage { size: "1Ti".to_owned(), ..storage("fast") }, ..empty(0) };
    assert!(!two.is_leaving(&larger, None), "somebody expanded it");
}

#[test]
fn missing_workload_is_created_as_claims_with_content_need_it() {
    assert_eq!(wanted(2, "fast").storage_to_adopt(&[claim(0), claim(1)]), None);
    assert_eq!(wanted(2, "slow").storage_to_adopt(&[claim(0), empty(1)]), Some(storage("fast")));
    assert_eq!(wanted(2, "slow").storage_to_adopt(&[empty(0)]), None);
    let no_claims = WantedSpools { pods: 2, storage: None };
    assert_eq!(no_claims.storage_to_adopt(&[claim(0)]), Some(storage("fast")));
    // Later nobody would list the claims.
    assert!(no_claims.blocks_creation(&empty(5)));
    assert!(!wanted(2, "slow").blocks_creation(&empty(5)));
    assert!(wanted(2, "slow").blocks_creation(&empty(1)));
}

#[test]
fn deleted_claim_is_replaced_while_its_pod_runs() {
    let must_recreate =
        |claims: &[SpoolClaim], pods: &[Pod]| wanted(2, "fast").must_recreate(claims, &names(), pods);
    assert!(!must_recreate(&[claim(0), empty(1)], &[pod(0), pod(1)]));
    assert!(must_recreate(&[claim(0), deleting(claim(1))], &[pod(0), pod(1)]));
    assert!(
        must_recreate(&[claim(0), deleting(empty(1))], &[pod(0), pod(1)]),
        "until the StatefulSet is gone"
    );
    assert!(!must_recreate(&[claim(0), deleting(empty(1))], &[pod(0)]), "it only has to go");
    let mut without_node = pod(1);
    let condition = json!({"conditions": [{"type": "PodScheduled", "status": "False"}]});
    without_node.status = serde_json::from_value(condition).unwrap();
    let pods = [pod(0), without_node];
    assert!(!must_recreate(&[claim(0), deleting(empty(1))], &pods), "its pod cannot use it");
    assert!(must_recreate(&[claim(0), deleting(claim(1))], &pods), "it may have content");
    assert!(
        !must_recreate(&[claim(0), deleting(claim(2))], &[pod(0), pod(2)]),
        "it goes as all unwanted ones"
    );
}

#[test]
fn evidence_needs_a_configuration_without_recording() {
    let claims = [claim(0), claim(1), empty(2)];
    let records = config("r", &[0].into());
    let replies = [reply(0, "r", 0), reply(1, "r", 0), reply(2, "r", 0), reply(3, "r", 0)];
    assert_eq!(proved_shards(&claims, &replies, &records, is_empty_at("r")), [1]);
    let unproved = [
        reply(1, "r", 1),
        reply(1, "earlier", 0),
        ShardReply { shard: 1, status: Err(RecorderStatusError::Unreachable) },
    ];
    assert_eq!(proved_shards(&claims, &unproved, &records, is_empty_at("r")), [0_u32; 0]);
}

#[test]
fn recording_and_content_take_evidence_away() {
    let claims = [empty(0), empty(1), deleting(empty(2)), deleting(empty(3)), claim(4)];
    let records = config("r", &[0, 2, 3, 4].into());
    let pods = [pod(0), pod(2)];
    // Shard 3 has no pod, and no pod can use its claim.
    assert_eq!(shards_to_reopen(&claims, &records, &names(), &pods), [0, 2]);
    assert_eq!(contradicted_shards(&claims, &[reply(0, "r", 1), reply(1, "r", 0), reply(4, "r", 9)]), [0]);
}

/// Claim of the simulated cluster.
#[derive(Clone, Debug)]
struct SimulatedClaim {
    claim: SpoolClaim,
    has_content: bool,
}

/// Cluster with one Site. The recorders of `pods` follow the configurations that are their values.
#[derive(Clone, Debug)]
struct Cluster {
    wanted: WantedSpools,
    workload: Option<WantedSpools>,
    pods: BTreeMap<u32, (u64, BTreeSet<u32>)>,
    claims: BTreeMap<u32, SimulatedClaim>,
    /// Revision, and the shards that may record.
    config: (u64, BTreeSet<u32>),
    lost: Vec<u32>,
}

#[derive(Clone, Debug)]
enum Action {
    /// The operator reconciles, and stops before its request of this number.
    Reconcile(usize),
    /// The StatefulSet controller and the garbage collector work.
    Kubernetes,
    Record(u32),
    Upload(u32),
    RestartPod(u32),
    Scale(u32),
    DeleteWorkload,
    DeleteClaim(u32),
    Want(u32, bool),
}

impl Cluster {
    fn new() -> Self {
        Self {
            wanted: wanted(2, "fast"),
            workload: None,
            pods: BTreeMap::new(),
            claims: BTreeMap::new(),
            config: (0, BTreeSet::new()),
            lost: Vec::new(),
        }
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Reconcile(requests) => drop(self.reconcile(*requests)),
            Action::Kubernetes => self.run_kubernetes(),
            Action::Record(shard) => {
                // A recorder reads the configuration at any time.
                if let Some(seen) = self.pods.get_mut(shard) {
                    seen.clone_from(&self.config);
                    if seen.1.contains(shard)
                        && let Some(claim) = self.claims.get_mut(shard)
                    {
                        claim.has_content = true;
                    }
                }
            }
            Action::Upload(shard) => {
                if let Some(claim) = self.claims.get_mut(shard).filter(|_| self.pods.contains_key(shard)) {
                    claim.has_content = false;
                }
            }
            Action::RestartPod(shard) => drop(self.pods.remove(shard)),
            Action::Scale(pods) => {
                if let Some(workload) = &mut self.workload {
                    workload.pods = *pods;
                }
            }
            Action::DeleteWorkload => self.workload = None,
            Action::DeleteClaim(shard) => {
                if let Some(claim) = self.claims.get_mut(shard) {
                    claim.claim.is_deleting = true;
                }
            }
            Action::Want(pods, is_fast) => {
                self.wanted = wanted(*pods, if *is_fast { "fast" } else { "slow" });
            }
        }
    }

    fn run_kubernetes(&mut self) {
        let Some(workload) = &self.workload else {
            self.pods.clear();
            return;
        };
        self.pods.retain(|shard, _| *shard < workload.pods);
        for shard in 0..workload.pods {
            let storage = workload.storage.clone().unwrap();
            let new = || SimulatedClaim { claim: SpoolClaim { storage, ..claim(shard) }, has_content: false };
            let claim = self.claims.entry(shard).or_insert_with(new);
            if !claim.claim.is_deleting {
                self.pods.entry(shard).or_insert_with(|| self.config.clone());
            }
        }
    }

    fn pod_objects(&self) -> Vec<Pod> {
        self.pods.keys().map(|shard| pod(*shard)).collect()
    }

    fn replies(&self) -> Vec<ShardReply> {
        let live = self.workload.as_ref().map_or(0, |workload| workload.pods);
        let status = |shard: u32| match (self.pods.get(&shard), self.claims.get(&shard)) {
            (Some((revision, _)), Some(claim)) => {
                reply(shard, &revision.to_string(), u64::from(claim.has_content))
            }
            _ => ShardReply { shard, status: Err(RecorderStatusError::Unreachable) },
        };
        (0..live).map(status).collect()
    }

    fn set_content(&mut self, shards: &[u32], content: ClaimContent, left: &mut usize) -> Option<()> {
        for shard in shards {
            spend(left)?;
            self.claims.get_mut(shard)?.claim.content = content;
        }
        Some(())
    }

    /// Takes the steps of `apply` in their order. `None`: the operator stopped.
    fn reconcile(&mut self, requests: usize) -> Option<()> {
        let mut left = requests;
        let read: Vec<SpoolClaim> = self.claims.values().map(|claim| claim.claim.clone()).collect();
        let (wanted, names, pods) = (self.wanted.clone(), names(), self.pod_objects());
        let live_pods = self.workload.as_ref().map(|workload| workload.pods);
        for claim in read.iter().filter(|claim| wanted.is_leaving(claim, live_pods)) {
            if !has_pod(&names, &pods, claim.shard) {
                spend(&mut left)?;
                let gone = self.claims.remove(&claim.shard)?;
                self.lost.extend(gone.has_content.then_some(claim.shard));
            }
        }
        if self.workload.is_none() && read.iter().any(|claim| wanted.blocks_creation(claim)) {
            return None;
        }
        let adopted = wanted.storage_to_adopt(&read).filter(|_| self.workload.is_none());
        let must_recreate = self.workload.as_ref().is_some_and(|live| live.storage != wanted.storage)
            || self.workload.is_some() && wanted.must_recreate(&read, &names, &pods);
        let has_evidence = |shard| read.iter().any(|claim| claim.shard == shard && claim.may_go());
        let is_drained = |reply: &ShardReply| {
            has_evidence(reply.shard) || reply.status.as_ref().is_ok_and(|status| !has_content(status))
        };
        let recording = if must_recreate && self.replies().iter().all(is_drained) {
            BTreeSet::new()
        } else {
            (0..wanted.pods).collect()
        };
        let next = config("", &recording);
        let reopened = shards_to_reopen(&read, &next, &names, &pods);
        self.set_content(&reopened, ClaimContent::Unknown, &mut left)?;
        if self.config.1 != recording {
            spend(&mut left)?;
            self.config = (self.config.0 + 1, recording);
        }
        let revision = self.config.0.to_string();
        let read: Vec<SpoolClaim> = self.claims.values().map(|claim| claim.claim.clone()).collect();
        let contradicted = contradicted_shards(&read, &self.replies());
        self.set_content(&contradicted, ClaimContent::Unknown, &mut left)?;
        let proved = proved_shards(&read, &self.replies(), &next, is_empty_at(&revision));
        self.set_content(&proved, ClaimContent::Empty, &mut left)?;
        let read: Vec<SpoolClaim> = self.claims.values().map(|claim| claim.claim.clone()).collect();
        let needed = needed_pods(&read);
        spend(&mut left)?;
        self.workload = match self.workload.take() {
            Some(live) if must_recreate && needed > 0 => {
                Some(WantedSpools { pods: live.pods.max(needed), ..live })
            }
            Some(_) if must_recreate => None,
            _ => Some(WantedSpools { pods: wanted.pods.max(needed), storage: adopted.or(wanted.storage) }),
        };
        Some(())
    }
}

/// Counts a request; `None`: the operator stops before it.
fn spend(left: &mut usize) -> Option<()> {
    *left = left.checked_sub(1)?;
    Some(())
}

fn action() -> impl Strategy<Value = Action> {
    let shard = || 0_u32..3;
    prop_oneof![
        6 => (0_usize..8).prop_map(Action::Reconcile),
        4 => Just(Action::Reconcile(usize::MAX)),
        6 => Just(Action::Kubernetes),
        4 => shard().prop_map(Action::Record),
        4 => shard().prop_map(Action::Upload),
        1 => shard().prop_map(Action::RestartPod),
        1 => (0_u32..4).prop_map(Action::Scale),
        1 => Just(Action::DeleteWorkload),
        1 => shard().prop_map(Action::DeleteClaim),
        2 => ((0_u32..4), any::<bool>()).prop_map(|(pods, is_fast)| Action::Want(pods, is_fast)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_claim_is_deleted_with_content(actions in proptest::collection::vec(action(), 0..120)) {
        let mut cluster = Cluster::new();
        for action in &actions {
            cluster.act(action);
            prop_assert!(cluster.lost.is_empty(), "{action:?}: {cluster:?}");
        }
        for _ in 0..12 {
            for shard in 0..4 {
                cluster.act(&Action::Record(shard));
                cluster.act(&Action::Upload(shard));
            }
            cluster.act(&Action::Reconcile(usize::MAX));
            cluster.act(&Action::Kubernetes);
        }
        // No pod can use a claim that somebody deleted, and a person must decide. Everything else settles.
        let is_stuck = cluster.claims.iter().any(|(shard, claim)| {
            claim.claim.is_deleting && !claim.claim.may_go() && !cluster.pods.contains_key(shard)
        });
        prop_assume!(!is_stuck);
        prop_assert_eq!(cluster.workload.as_ref(), Some(&cluster.wanted));
        prop_assert!(cluster.claims.values().all(|claim| wanted_claim(&cluster.wanted, &claim.claim)), "{cluster:?}");
        prop_assert!(cluster.lost.is_empty());
    }
}

fn wanted_claim(wanted: &WantedSpools, claim: &SpoolClaim) -> bool {
    claim.shard < wanted.pods && !claim.is_deleting
}
