use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason, merge};
use crate::api::{CameraStatus, Ceilings, SiteStatus, Suspension};
use crate::controllers::kubernetes::quantity;
use crate::controllers::kubernetes::secret_ref::ReferencedSecret;
use crate::controllers::site::bucket::evaluation::{evaluate_bucket, unobserved};
use crate::controllers::site::fixtures::{Fixture, OPERATOR_CONFIG, compliant_bucket, fixture};
use crate::controllers::site::recorders::claims::ClaimStorage;
use crate::controllers::site::recorders::hold_widening::Widening;
use crate::controllers::site_policies::FollowingPolicy;
use crate::controllers::testing::camera;
use crate::rules::{CameraSelector, Class, HoldScope, Recording};
use crate::storage::{Claimant, EnforceError, TargetError};
use crate::wire::{CONFIG_KEY, Window};

fn config_of(plan: &RecorderPlan) -> RecorderConfig {
    let data = plan.config_secret.data.clone().unwrap();
    serde_json::from_slice(&data[CONFIG_KEY].0).unwrap()
}

/// Returns the site a moment later, after the plan was applied.
fn after_apply(fixture: &Fixture, plan: &RecorderPlan) -> Fixture {
    let mut fixture = fixture.clone();
    fixture.observed.recorder_config = Some(config_of(plan));
    fixture.observed.replicas = Some(1);
    fixture
}

#[test]
fn recorder_config_is_complete() {
    let plan = fixture().plan();
    let document = config_of(&plan);
    assert_eq!((document.namespace.as_str(), document.site.as_str()), ("gemeente", "zwembad"));
    assert_eq!(document.storage.credentials.as_access_key().unwrap().access_key_id.reveal(), "s3-recorder");
    assert_eq!(document.video_ceiling_ms, 28 * DAY_MS);
    assert!(document.spool_bytes < 20 << 30);
    let hal = &document.cameras[0];
    assert_eq!((hal.name.as_str(), hal.shard, hal.source.url.reveal()), ("hal", 0, "rtsp://10.0.0.1/hal"));
    assert_eq!(hal.source.login.as_ref().unwrap().password.reveal(), "camera-password");
    assert_eq!(hal.permitted[0].from.to_string(), "2020-05-05T22:00:00Z");
    let expected = plan.expected;
    assert_eq!((expected.revision, expected.pods), (document.revision, 1));
}

/// In a deletion in the foreground, Kubernetes would delete them before the recorders have uploaded.
#[test]
fn children_have_no_owner_reference() {
    let plan = fixture().plan();
    for metadata in [
        &plan.service_account.metadata,
        &plan.service.metadata,
        &plan.config_secret.metadata,
        &plan.workload.metadata,
    ] {
        assert_eq!(metadata.owner_references, None, "{:?}", metadata.name);
    }
}

#[test]
fn recorders_forget_a_suspension_a_week_after_its_end() {
    let mut fixture = fixture();
    let suspensions = |fixture: &Fixture| {
        let counts = config_of(&fixture.plan()).cameras.into_iter().map(|camera| camera.suspended.len());
        counts.collect::<Vec<usize>>()
    };
    for (now, of_hal) in [
        ("2026-03-18T05:00:00Z", 1),
        ("2026-03-18T12:00:00Z", 1),
        ("2026-03-25T20:59:59Z", 1),
        ("2026-03-25T21:00:00Z", 0),
    ] {
        fixture.now = now.parse().unwrap();
        assert_eq!(suspensions(&fixture), [of_hal, 0], "at {now}");
    }
}

#[test]
fn recorder_pods_are_restricted_without_api_token() {
    let recorders = fixture().plan();
    assert_eq!(recorders.service_account.automount_service_account_token, Some(false));
    let spec = recorders.workload.spec.unwrap();
    assert_eq!((spec.replicas, spec.pod_management_policy.as_deref()), (Some(1), Some("Parallel")));
    let pod = spec.template.spec.unwrap();
    assert_eq!(pod.automount_service_account_token, Some(false));
    assert_eq!(pod.service_account_name.as_deref(), Some("zwembad-recorder"));
    let security = pod.security_context.unwrap();
    assert_eq!((security.run_as_non_root, security.run_as_user), (Some(true), Some(65532)));
    assert_eq!(security.seccomp_profile.unwrap().type_, "RuntimeDefault");
    let container = pod.containers[0].security_context.clone().unwrap();
    assert_eq!(container.read_only_root_filesystem, Some(true));
    assert_eq!(container.allow_privilege_escalation, Some(false));
    assert_eq!(container.capabilities.unwrap().drop.unwrap(), ["ALL"]);
    let mounts = pod.containers[0].volume_mounts.clone().unwrap();
    assert!(mounts.iter().all(|mount| mount.sub_path.is_none()), "the kubelet never renews a subPath");
    assert_eq!(pod.volumes.unwrap()[1].empty_dir.clone().unwrap().size_limit.unwrap().0, "20Gi");
    // A new camera must not restart recorders.
    assert!(spec.template.metadata.unwrap().annotations.is_none());
}

#[test]
fn spool_on_the_nodes_disk_is_requested_and_allowed() {
    let own = (20_u64 << 30) + (256 << 20);
    for (resources, request, limit) in [
        (None, own, own),
        (Some(json!({"requests": {"cpu": "1"}})), own, own),
        (Some(json!({"requests": {"ephemeral-storage": "1Gi"}})), 1 << 30, own),
        (Some(json!({"requests": {"ephemeral-storage": "30Gi"}})), 30 << 30, 30 << 30),
        (Some(json!({"limits": {"ephemeral-storage": "1Gi"}})), 1 << 30, 1 << 30),
        (Some(json!({"limits": {"ephemeral-storage": "30Gi"}})), own, 30 << 30),
        (
            Some(json!({"requests": {"ephemeral-storage": "1Gi"}, "limits": {"ephemeral-storage": "2Gi"}})),
            1 << 30,
            2 << 30,
        ),
    ] {
        let mut fixture = fixture();
        let text = format!("{resources:?}");
        let has_own_cpu = resources.is_none();
        fixture.site.spec.recorder.resources = resources.map(|it| serde_json::from_value(it).unwrap());
        let pod = fixture.plan().workload.spec.unwrap().template.spec.unwrap();
        let planned = pod.containers[0].resources.clone().unwrap();
        let bytes = |amounts: &Option<BTreeMap<String, Quantity>>| {
            quantity::parse_bytes(&amounts.as_ref().unwrap()["ephemeral-storage"].0)
        };
        assert_eq!(
            (bytes(&planned.requests), bytes(&planned.limits)),
            (Some(request), Some(limit)),
            "{text}"
        );
        assert!(!has_own_cpu || planned.requests.unwrap()["cpu"].0 == "100m", "{text}");
    }
}

/// Returns the variable with the bytes that segments may use of a spool.
fn spool_bytes(workload: &StatefulSet) -> Option<u64> {
    let pod = workload.spec.as_ref()?.template.spec.as_ref()?;
    let variables = pod.containers.first()?.env.as_ref()?;
    let found = variables.iter().find(|variable| variable.name == "TOEZICHT_SPOOL_BYTES")?;
    found.value.as_ref()?.parse().ok()
}

/// A running recorder reloads its configuration. With the new limit, it would fill the volume that its pod still has, and Kubernetes
/// would evict it, or it would evict what that volume still holds.
#[test]
fn new_size_reaches_a_recorder_only_with_its_volume() {
    for class in [None, Some("fast")] {
        let mut fixture = fixture();
        fixture.site.spec.recorder.spool.storage_class_name = class.map(str::to_owned);
        let before = fixture.plan();
        assert_eq!(spool_bytes(&before.workload), Some((20 << 30) / 100 * 90));
        for (size, expected) in
            [("400Mi", (400 << 20) / 100 * 90), ("40Gi", (40 << 30) / 100 * 90), ("a lot", 0)]
        {
            let mut changed = after_apply(&fixture, &before);
            changed.site.spec.recorder.spool.size = size.into();
            let after = changed.plan();
            assert_eq!(config_of(&after).spool_bytes, config_of(&before).spool_bytes, "{size}");
            assert_eq!(spool_bytes(&after.workload).unwrap_or_default(), expected, "{size}");
        }
    }
}

/// A tenant may write Secrets. Recorders reject a document without a limit.
#[test]
fn configuration_without_a_limit_gets_one() {
    let fixture = fixture();
    let plan = fixture.plan();
    let mut edited = after_apply(&fixture, &plan);
    edited.observed.recorder_config.as_mut().unwrap().spool_bytes = 0;
    assert_eq!(config_of(&edited.plan()).spool_bytes, config_of(&plan).spool_bytes);
}

/// The kubelet evicts a pod that uses more of the node's disk than its limit, even if its volume has room.
#[test]
fn segments_fit_into_the_pods_limit() {
    for (class, limit, expected) in
        [(None, "1Gi", 1_u64 << 30), (None, "30Gi", 20 << 30), (Some("fast"), "1Gi", 20 << 30)]
    {
        let mut fixture = fixture();
        let settings = &mut fixture.site.spec.recorder;
        settings.spool.storage_class_name = class.map(str::to_owned);
        let resources = json!({"limits": {"ephemeral-storage": limit}});
        settings.resources = Some(serde_json::from_value(resources).unwrap());
        assert_eq!(spool_bytes(&fixture.plan().workload), Some(expected / 100 * 90), "{class:?} {limit}");
    }
}

#[test]
fn spool_with_storage_class_uses_volume_claim() {
    let mut fixture = fixture();
    fixture.site.spec.recorder.spool.storage_class_name = Some("fast".into());
    let workload = fixture.plan().workload;
    let spec = workload.spec.clone().unwrap();
    let claim = spec.volume_claim_templates.unwrap().remove(0).metadata;
    assert_eq!(claim.name.as_deref(), Some("spool"));
    assert_eq!(claim.finalizers.as_deref(), Some(&["toezicht.dev/spool".to_owned()][..]));
    let policy = spec.persistent_volume_claim_retention_policy.unwrap();
    assert_eq!(policy.when_deleted.as_deref(), Some("Retain"));
    assert_eq!(policy.when_scaled.as_deref(), Some("Retain"));
    let pod = spec.template.spec.unwrap();
    assert_eq!(pod.volumes.unwrap().len(), 1);
    let resources = serde_json::to_string(&pod.containers[0].resources).unwrap();
    assert!(!resources.contains("ephemeral-storage"), "a claim is not on the node's disk: {resources}");
    assert!(objects::can_be_updated(&workload, &workload));
    fixture.site.spec.recorder.spool.size = "20480Mi".into();
    assert!(objects::can_be_updated(&fixture.plan().workload, &workload));
    fixture.site.spec.recorder.spool.size = "30Gi".into();
    assert!(!objects::can_be_updated(&fixture.plan().workload, &workload));
}

#[test]
fn spool_can_become_a_claim_and_keep_the_metadata_of_another_template() {
    let mut fixture = fixture();
    let mut workload = fixture.plan().workload;
    fixture.site.spec.recorder.spool.storage_class_name = Some("fast".into());
    let mut desired = fixture.plan().workload;
    let storage = ClaimStorage { class: "fast".into(), size: fixture.site.spec.recorder.spool.size.clone() };
    objects::set_claim_storage(&mut workload, &fixture.valid().names, &storage);
    // Until the pods are replaced, they ask for the node's disk, and upload before they end.
    let containers = |workload: &mut StatefulSet| {
        let pod = workload.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
        let container = &mut pod.containers[0];
        let args = container.args.take().unwrap();
        (container.resources.take(), args.contains(&"--persistent-spool".to_owned()))
    };
    let (of_node, of_claim) = (containers(&mut workload), containers(&mut desired));
    assert_ne!(of_node.0, of_claim.0);
    assert_eq!((of_node.1, of_claim.1), (false, true));
    assert_eq!(workload, desired);
    let large = ClaimStorage { class: "fast".into(), size: "40Gi".into() };
    objects::set_claim_storage(&mut workload, &fixture.valid().names, &large);
    assert_eq!(spool_bytes(&workload), Some((40 << 30) / 100 * 90), "of the claims that it uses");
    workload = desired.clone();

    let templates = workload.spec.as_mut().unwrap().volume_claim_templates.as_mut().unwrap();
    templates[0].metadata.finalizers = None;
    let mut kept = desired.clone();
    objects::keep_claim_metadata(&mut kept, &workload);
    assert_eq!(kept, workload);
}

#[test]
fn deleted_workload_is_planned_again_while_nothing_may_be_recorded() {
    let first = fixture();
    let plan = first.plan();
    let mut deleted = after_apply(&first, &plan);
    deleted.observed.replicas = None;
    let claimed =
        evaluate_bucket(Err(EnforceError::ClaimedByOther(Claimant::SameCluster)), None, deleted.now);
    let planned = deleted.plan_with(&claimed).unwrap();
    assert!(config_of(&planned).cameras.iter().all(|camera| camera.permitted.is_empty()));
}

#[test]
fn plan_is_stable_for_unchanged_site() {
    let first = fixture();
    let plan = first.plan();
    let mut again = after_apply(&first, &plan);
    again.now += jiff::SignedDuration::from_hours(24 * 30);
    assert_eq!(again.plan(), plan);
}

#[test]
fn new_camera_keeps_existing_shards_and_adds_pod_when_full() {
    let mut first = fixture();
    first.site.spec.recorder.max_cameras_per_pod = 2;
    let plan = first.plan();
    let mut next = after_apply(&first, &plan);
    next.observed.cameras.insert(0, camera("aula"));
    let next_plan = next.plan();
    let shards: Vec<(String, u32)> =
        config_of(&next_plan).cameras.into_iter().map(|camera| (camera.name, camera.shard)).collect();
    assert_eq!(shards, [("aula".to_owned(), 1), ("hal".to_owned(), 0), ("kassa".to_owned(), 0)]);
    assert_eq!(next_plan.expected.pods, 2);
    assert_ne!(config_of(&next_plan).revision, config_of(&plan).revision);
    assert_eq!(config_of(&next_plan).status_api, config_of(&plan).status_api);
}

#[test]
fn recording_requires_a_read_back_bucket() {
    let first = fixture();
    let claimed = evaluate_bucket(Err(EnforceError::ClaimedByOther(Claimant::SameCluster)), None, first.now);
    assert_eq!(claimed.finding.reason, Reason::BucketClaimed);
    assert_eq!(first.plan_with(&claimed), None);

    let running = after_apply(&first, &first.plan());
    let stopped = config_of(&running.plan_with(&claimed).unwrap());
    assert!(stopped.cameras.iter().all(|camera| camera.permitted.is_empty()));
    assert_eq!(stopped.cameras.len(), 2, "recorders still upload the spool");
}

/// Reports in the status of a Site that it is not accepted, for this long.
fn not_accepted_for(fixture: &mut Fixture, minutes: i64) {
    let before = [ConditionFinding::new(ConditionType::Accepted, false, Reason::ReferenceNotFound, "m")];
    let since = fixture.now - SignedDuration::from_mins(minutes);
    let conditions = merge(&[], &before, None, since);
    fixture.site.status = Some(SiteStatus {
        conditions,
        missing_reference_grace_end_time: Some(Time(since + SignedDuration::from_mins(5))),
        ceilings: Some(Ceilings { video: Days(28), calls: Days(7) }),
        ..SiteStatus::default()
    });
}

#[test]
fn missing_reference_stops_recording_after_five_minutes() {
    let bucket_unread = unobserved(compliant_bucket(fixture().now).status.as_ref());
    for (remove, bucket) in [
        ((|observed| observed.store_secrets.clear()) as fn(&mut ObservedSite), &bucket_unread),
        (|observed| drop(observed.store_secrets.remove("s3-operator")), &bucket_unread),
        (|observed| observed.policies.policy = None, &compliant_bucket(fixture().now)),
    ] {
        let first = fixture();
        let recording = config_of(&first.plan());
        let mut running = after_apply(&first, &first.plan());
        remove(&mut running.observed);
        for (minutes, is_permitted) in [(0, true), (4, true), (5, false), (600, false)] {
            not_accepted_for(&mut running, minutes);
            let config = config_of(&running.plan_with(bucket).unwrap());
            let cameras = config.cameras.iter().zip(&recording.cameras);
            for (camera, before) in cameras {
                let expected = if is_permitted { before.permitted.as_slice() } else { &[] };
                assert_eq!(camera.permitted, expected, "after {minutes} minutes");
            }
            assert_eq!(
                config.storage.credentials.as_access_key().unwrap().access_key_id.reveal(),
                "s3-recorder"
            );
        }
    }
}

/// `Accepted` is `False` for hours already, because of the recorders' Secret, which stops nothing.
#[test]
fn five_minutes_begin_with_the_first_missing_reference_that_recording_needs() {
    let first = fixture();
    let recording = config_of(&first.plan());
    let mut running = after_apply(&first, &first.plan());
    running.observed.store_secrets.remove("s3-recorder");
    not_accepted_for(&mut running, 600);
    running.site.status.as_mut().unwrap().missing_reference_grace_end_time = None;
    running.observed.policies.policy = None;
    let config = config_of(&running.plan());
    let permitted = |config: &RecorderConfig| -> Vec<_> {
        config.cameras.iter().map(|camera| camera.permitted.clone()).collect()
    };
    assert_eq!(permitted(&config), permitted(&recording));
    let until = running.valid().grace_end.unwrap();
    assert_eq!(until, Timestamp::from_second(running.now.as_second() + 300).unwrap());
    // A second one does not extend them: a Site has one end.
    running.site.status.as_mut().unwrap().missing_reference_grace_end_time = Some(Time(until));
    running.now += SignedDuration::from_secs(200);
    running.observed.store_secrets.remove("s3-operator");
    assert_eq!(running.valid().grace_end, Some(until));
}

#[test]
fn vanished_secret_permits_nothing_that_was_not_permitted() {
    let mut first = fixture();
    first.observed.policies.policy.as_mut().unwrap().spec.works_council_consent = None;
    let mut running = after_apply(&first, &first.plan());
    running.observed.policies = fixture().observed.policies;
    running.observed.store_secrets.clear();
    let config = config_of(&running.plan_with(&unobserved(None)).unwrap());
    assert!(config.cameras.iter().all(|camera| camera.permitted.is_empty()));
}

#[test]
fn recorder_credentials_never_stop_recording() {
    let unusable = ReferencedSecret::of(&[("accessKeyId", "id"), ("secretAccessKey", "a b")]);
    for change in [None, Some(unusable)] {
        let first = fixture();
        let recording = config_of(&first.plan());
        let mut running = after_apply(&first, &first.plan());
        running.observed.store_secrets.remove("s3-recorder");
        running.observed.store_secrets.extend(change.map(|secret| ("s3-recorder".to_owned(), secret)));
        not_accepted_for(&mut running, 600);
        let config = config_of(&running.plan());
        assert_eq!(config.cameras, recording.cameras);
        assert_eq!(config.storage, recording.storage, "the old credentials go on");
        let accepted = running.valid().accepted;
        assert!(
            accepted.message.starts_with("spec.storage.recorder.credentialsRef: "),
            "{}",
            accepted.message
        );
    }
}

/// Otherwise no recorder could ever acknowledge it.
#[test]
fn closing_config_has_the_same_revision_each_time() {
    let first = fixture();
    let mut current = config_of(&first.plan());
    let mut revisions = Vec::new();
    for _ in 0..3 {
        let mut next = first.clone();
        next.observed.recorder_config = Some(current.clone());
        next.observed.replicas = Some(1);
        let planned = config_of(&next.plan());
        current = closing_config(&planned, Some(&current), GapCause::RecorderRestarted);
        revisions.push(current.revision.clone());
    }
    assert_eq!(revisions[1], revisions[0]);
    assert_eq!(revisions[2], revisions[0]);
}

#[test]
fn camera_without_its_secret_records_on_for_five_minutes_and_keeps_its_place() {
    let first = fixture();
    let mut running = after_apply(&first, &first.plan());
    running.observed.camera_secrets.logins.clear();
    let recording = config_of(&first.plan());
    for (minutes, is_permitted) in [(0, true), (4, true), (5, false)] {
        let rejected =
            [ConditionFinding::new(ConditionType::Accepted, false, Reason::ReferenceNotFound, "m")];
        let conditions = merge(&[], &rejected, None, running.now - SignedDuration::from_mins(minutes));
        for camera in &mut running.observed.cameras {
            camera.status = Some(CameraStatus { conditions: conditions.clone(), ..CameraStatus::default() });
        }
        let config = config_of(&running.plan());
        let names: Vec<&str> = config.cameras.iter().map(|camera| camera.name.as_str()).collect();
        assert_eq!(names, ["hal", "kassa"], "without their place, their recorder would forget their gaps");
        for (camera, before) in config.cameras.iter().zip(&recording.cameras) {
            assert_eq!(camera.source, before.source);
            let expected = if is_permitted { before.permitted.as_slice() } else { &[] };
            assert_eq!(camera.permitted, expected, "after {minutes} minutes");
            assert_eq!(camera.denial, (!is_permitted).then_some(GapCause::SiteNotReady));
        }
    }
    // A camera that is not visible any more stops at once (article 1).
    let mut hidden = after_apply(&first, &first.plan());
    hidden.observed.cameras[0].spec.visible = false;
    let config = config_of(&hidden.plan());
    assert!(config.cameras[0].permitted.is_empty());
}

#[test]
fn gap_of_a_site_that_is_not_ready_is_no_matter_of_the_protocol() {
    let first = fixture();
    let running = after_apply(&first, &first.plan());
    let claimed = evaluate_bucket(Err(EnforceError::ClaimedByOther(Claimant::SameCluster)), None, first.now);
    let denial = |config: RecorderConfig| config.cameras[0].denial;
    assert_eq!(denial(config_of(&running.plan_with(&claimed).unwrap())), Some(GapCause::SiteNotReady));
    assert_eq!(denial(config_of(&running.plan())), None);
    let mut withdrawn = after_apply(&first, &first.plan());
    withdrawn.observed.policies.policy.as_mut().unwrap().spec.works_council_consent = None;
    assert_eq!(denial(config_of(&withdrawn.plan_with(&claimed).unwrap())), None);
    assert_eq!(
        denial(closing_config(&config_of(&first.plan()), None, GapCause::RecorderRestarted)),
        Some(GapCause::RecorderRestarted)
    );
}

/// The cause of gaps while nothing may be recorded.
#[test]
fn gap_has_the_cause_that_a_person_can_remove() {
    use GapCause::SiteNotReady;
    type Change = fn(&mut Fixture);
    let suspend: Change = |fixture| {
        let suspension = json!([{"reason": "Verkiezing", "from": "2026-11-24T06:00:00Z", "until": "2026-11-24T22:00:00Z"}]);
        fixture.site.spec.suspensions = serde_json::from_value(suspension).unwrap();
    };
    let withdraw: Change =
        |fixture| fixture.observed.policies.policy.as_mut().unwrap().spec.works_council_consent = None;
    let no_policy: Change = |fixture| {
        fixture.observed.policies.policy = None;
        not_accepted_for(fixture, 6);
    };
    let rejected: Change = |fixture| fixture.config.ceilings.video = Days(14);
    let no_zone: Change =
        |fixture| fixture.observed.policies.policy.as_mut().unwrap().spec.time_zone = "Europe/Heusden".into();
    let nothing: Change = |_| ();
    let hidden: Change = |fixture| fixture.observed.cameras[0].spec.visible = false;
    let ready = compliant_bucket(fixture().now);
    let claimed =
        evaluate_bucket(Err(EnforceError::ClaimedByOther(Claimant::SameCluster)), None, fixture().now);
    for (name, change, bucket, expected) in [
        ("ready", nothing, &ready, None),
        ("suspended", suspend, &ready, None),
        ("no consent", withdraw, &ready, None),
        ("bucket of another", nothing, &claimed, Some(SiteNotReady)),
        ("suspended, bucket of another", suspend, &claimed, Some(SiteNotReady)),
        ("no consent, bucket of another", withdraw, &claimed, None),
        ("no policy", no_policy, &ready, Some(SiteNotReady)),
        ("policy rejected", rejected, &ready, Some(SiteNotReady)),
        ("policy with an unknown zone", no_zone, &ready, Some(SiteNotReady)),
        ("camera rejected", hidden, &ready, Some(SiteNotReady)),
    ] {
        let first = fixture();
        let mut running = after_apply(&first, &first.plan());
        change(&mut running);
        let config = config_of(&running.plan_with(bucket).unwrap());
        assert_eq!(config.cameras[0].denial, expected, "{name}");
    }
}

#[test]
fn site_without_cameras_has_no_pods() {
    let mut fixture = fixture();
    fixture.observed.cameras.clear();
    let recorders = fixture.plan();
    assert_eq!((recorders.expected.pods, recorders.workload.spec.unwrap().replicas), (0, Some(0)));
}

#[test]
fn tenant_edits_do_not_add_pods() {
    let first = fixture();
    let mut next = after_apply(&first, &first.plan());
    next.observed.recorder_config.as_mut().unwrap().cameras[0].shard = 4_000_000_000;
    assert_eq!(next.plan().expected.pods, 1);
    next.observed.replicas = Some(i32::MAX.unsigned_abs());
    assert_eq!(next.plan().expected.pods, 1);
}

#[test]
fn workload_identity_mounts_store_token_only() {
    let mut fixture = fixture();
    let role = "arn:aws:iam::123456789012:role/toezicht-recorder";
    let recorder = &mut fixture.site.spec.storage.recorder;
    (recorder.credentials_ref, recorder.workload_identity) = (None, true);
    recorder.principal = role.into();
    let grant = "grants: [{namespaces: [gemeente], endpoints: ['https://s3.example.nl'], buckets: ['gemeente-*'], roles: ['arn:aws:iam::123456789012:role/*']}]";
    let yaml = format!("recorderImage: toezicht:1\n{grant}\nworkloadIdentity: {{audience: rgw}}");
    fixture.config = OperatorConfig::parse(&yaml).unwrap();
    fixture.config.egress.token_file = "/of/the/operator".into();
    let web_identity = |credentials| match credentials {
        crate::wire::Credentials::WebIdentity { web_identity } => web_identity,
        _ => panic!("no workload identity"),
    };
    // The operator probes as a recorder with its own token: the pods' token is not in its own pod.
    let probe = fixture.valid().access.unwrap().recorder.unwrap();
    let probe = web_identity(probe.credentials);
    assert_eq!((probe.role_arn.as_str(), probe.token_file), (role, "/of/the/operator".into()));
    let plan = fixture.plan();
    let web_identity = web_identity(config_of(&plan).storage.credentials);
    assert_eq!(web_identity.role_arn, role);
    let spec = plan.workload.spec.unwrap();
    let pod = spec.template.spec.unwrap();
    // The pod still has no token for the Kubernetes API.
    assert_eq!(pod.automount_service_account_token, Some(false));
    let projected = pod.volumes.unwrap()[2].projected.clone().unwrap().sources.unwrap();
    let token = projected[0].service_account_token.clone().unwrap();
    assert_eq!(token.audience.as_deref(), Some("rgw"));
    let mount = pod.containers[0].volume_mounts.clone().unwrap()[2].clone();
    assert_eq!(web_identity.token_file, std::path::Path::new(&mount.mount_path).join(token.path));
    assert_eq!((mount.name.as_str(), mount.read_only), ("store-token", Some(true)));
}

#[test]
fn recorders_use_proxy_for_endpoint_scheme() {
    let mut fixture = fixture();
    let with = |proxy: &str| OperatorConfig::parse(&format!("{OPERATOR_CONFIG}\nproxy: {proxy}")).unwrap();
    fixture.config = with("{http: 'http://plain:1', https: 'http://tunnel:3128', noProxy: 'a.nl'}");
    let proxy = config_of(&fixture.plan()).storage.proxy.unwrap();
    assert_eq!((proxy.url.as_str(), proxy.no_proxy.as_str()), ("http://tunnel:3128", "a.nl"));
    fixture.config = with("{http: 'http://plain:1'}");
    assert_eq!(config_of(&fixture.plan()).storage.proxy, None);
}

#[test]
fn invalid_revision_is_replaced() {
    let first = fixture();
    let mut next = after_apply(&first, &first.plan());
    for wrong in ["", "mine", "0123456789ABCDEF"] {
        next.observed.recorder_config.as_mut().unwrap().revision = wrong.into();
        assert!(is_valid_revision(&next.plan().expected.revision));
    }
}

/// Returns holds, each over a number of cameras with names of a number of letters.
fn many_holds(holds: usize, cameras: usize, letters: usize) -> HoldScopes {
    let names =
        |hold: usize| (0..cameras).map(move |camera| format!("c{:0>letters$}", hold * cameras + camera));
    let scope = |hold: usize| {
        let from = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(i64::try_from(3 * hold).unwrap());
        let window = Window::new(from, Some(from + SignedDuration::from_hours(1)));
        HoldScope { cameras: CameraSelector::Named(names(hold).collect()), calls: false, window }
    };
    (0..holds).map(|hold| (format!("{hold:0>36}"), scope(hold))).collect()
}

/// Largest Secret that the API server accepts.
const MAX_SECRET_BYTES: usize = 1 << 20;

#[test]
fn recorder_secret_fits_any_number_of_holds() {
    // Names of Cameras have at most 253 letters.
    for (number, cameras, letters, widening) in [
        (16, 256, 62, None),
        (16, 256, 252, Some(Widening::EveryCamera)),
        (5000, 10, 20, Some(Widening::EveryCamera)),
        (40_000, 1, 20, Some(Widening::Everything)),
    ] {
        let held = many_holds(number, cameras, letters);
        let plan = fixture().plan_with_holds(held.clone());
        let bytes = plan.config_secret.data.as_ref().unwrap()[CONFIG_KEY].0.len();
        assert!(bytes < MAX_SECRET_BYTES, "{number} holds over {cameras} cameras: {bytes} bytes");
        assert_eq!(plan.expected.widening, widening, "{number} holds over {cameras} cameras");
        assert_eq!(plan.expected.holds, held, "an acknowledgement covers all holds");
    }
}

/// Returns a Site with this many cameras, whose CA certificates have this size, and this many suspensions to come.
fn large_site(cameras: usize, suspensions: usize, ca_bytes: usize) -> Fixture {
    let mut fixture = fixture();
    let hour = |number: usize| Time(fixture.now + SignedDuration::from_hours(i64::try_from(number).unwrap()));
    let suspension = |number: usize| Suspension {
        reason: "Verkiezing".into(),
        from: hour(2 * number + 1),
        until: hour(2 * number + 2),
        cameras: Vec::new(),
    };
    fixture.site.spec.suspensions = (0..suspensions).map(suspension).collect();
    let authority = ReferencedSecret::of(&[("ca.crt", &"x".repeat(ca_bytes))]);
    fixture.observed.camera_secrets.ca_certificates = [("ca".to_owned(), authority)].into();
    let created = |number: usize| {
        // In reverse: the last by name is the oldest.
        let mut camera = camera(&format!("camera-{number:0>5}"));
        camera.metadata.creation_timestamp = Some(hour(cameras - number));
        if ca_bytes > 0 {
            camera.spec.stream.ca_ref = Some(serde_json::from_value(json!({"name": "ca"})).unwrap());
        }
        camera
    };
    fixture.observed.cameras = (0..cameras).map(created).collect();
    fixture
}

#[test]
fn newest_cameras_are_omitted_if_not_all_fit() {
    let first = large_site(600, 0, 2000);
    let plan = first.plan();
    let config = config_of(&plan);
    let omitted = plan.expected.omitted_cameras.clone();
    assert_eq!(config.cameras.len() + omitted.len(), 600);
    assert_eq!(usize::try_from(config.omitted_cameras).unwrap(), omitted.len());
    assert!((150..250).contains(&omitted.len()), "{}", omitted.len());
    assert_eq!(omitted[0], "camera-00000", "the newest");
    assert!(omitted.is_sorted() && omitted.last() < config.cameras.first().map(|camera| &camera.name));
    // The same while the Site may not record, and afterwards.
    let claimed = evaluate_bucket(Err(EnforceError::ClaimedByOther(Claimant::SameCluster)), None, first.now);
    let closed = after_apply(&first, &plan).plan_with(&claimed).unwrap();
    assert_eq!(closed.expected.omitted_cameras, omitted);
    assert_eq!(after_apply(&first, &closed).plan().expected.omitted_cameras, omitted);
    assert!(large_site(300, 0, 2000).plan().expected.omitted_cameras.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn recorder_secret_fits_and_has_every_hold(
        cameras in 0_usize..1000,
        suspensions in 0_usize..=64,
        ca_bytes in prop_oneof![Just(0), Just(2000), 0_usize..=65_536],
        holds in prop_oneof![0_usize..10, 0_usize..3000],
        cameras_per_hold in 1_usize..20,
    ) {
        let held = many_holds(holds, cameras_per_hold, 60);
        let plan = large_site(cameras, suspensions, ca_bytes).plan_with_holds(held.clone());
        let bytes = plan.config_secret.data.as_ref().unwrap()[CONFIG_KEY].0.len();
        prop_assert!(bytes <= hold_widening::MAX_CONFIG_BYTES, "{bytes} bytes");
        let config = config_of(&plan);
        for scope in held.values() {
            let CameraSelector::Named(names) = &scope.cameras else { panic!("named") };
            let Some(end) = scope.window.until else { panic!("an end") };
            for source in names {
                let recording = Recording { class: Class::Video, source, start: scope.window.from, end };
                prop_assert!(config.holds.values().any(|one| one.covers(&recording)), "{source}");
            }
        }
        prop_assert_eq!(config.cameras.len() + plan.expected.omitted_cameras.len(), cameras);
        let fits = |camera: &CameraConfig| camera.suspended.len() == suspensions && !camera.permitted.is_empty();
        prop_assert!(config.cameras.iter().all(fits), "gates and suspensions of the others are complete");
    }
}

#[test]
fn reverted_config_gets_a_new_revision() {
    let first = fixture();
    let (none, one) = (many_holds(0, 0, 0), many_holds(1, 1, 3));
    let revision = |plan: &RecorderPlan| plan.expected.revision.clone();
    let before = first.plan_with_holds(none.clone());
    let between = after_apply(&first, &before).plan_with_holds(one);
    let fixture = after_apply(&first, &between);
    let after = fixture.plan_with_holds(none.clone());
    // A recorder that acknowledged the first configuration may follow the second one now.
    assert_ne!(revision(&after), revision(&before));
    // An unchanged configuration keeps its revision.
    assert_eq!(after_apply(&fixture, &after).plan_with_holds(none), after);
}

#[test]
fn pods_stay_on_unreachable_nodes_unless_the_site_says_otherwise() {
    let mut fixture = fixture();
    let tolerations = |fixture: &Fixture| {
        let pod = fixture.plan().workload.spec.unwrap().template.spec.unwrap();
        let row = |toleration: k8s_openapi::api::core::v1::Toleration| {
            (toleration.key.unwrap_or_default(), toleration.toleration_seconds)
        };
        pod.tolerations.unwrap().into_iter().map(row).collect::<Vec<_>>()
    };
    let [not_ready, unreachable] =
        ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"].map(str::to_owned);
    assert_eq!(tolerations(&fixture), [(not_ready.clone(), None), (unreachable.clone(), None)]);
    let own = serde_json::json!([{"key": unreachable, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}]);
    fixture.site.spec.recorder.tolerations = serde_json::from_value(own).unwrap();
    assert_eq!(tolerations(&fixture), [(unreachable.clone(), Some(30)), (not_ready.clone(), None)]);
    let every_effect = serde_json::json!([{"key": unreachable, "operator": "Exists"}]);
    fixture.site.spec.recorder.tolerations = serde_json::from_value(every_effect).unwrap();
    assert_eq!(tolerations(&fixture), [(unreachable.clone(), None), (not_ready.clone(), None)]);
    let scheduling = serde_json::json!([{"key": unreachable, "operator": "Exists", "effect": "NoSchedule"}]);
    fixture.site.spec.recorder.tolerations = serde_json::from_value(scheduling).unwrap();
    assert_eq!(tolerations(&fixture), [(unreachable.clone(), None), (not_ready, None), (unreachable, None)]);
}

#[test]
fn cameras_of_a_lost_recorder_move_to_another_and_stay_there() {
    let first = fixture();
    let mut running = after_apply(&first, &first.plan());
    running.observed.losses.shards.lost.insert(0);
    let plan = running.plan();
    let shards =
        |plan: &RecorderPlan| config_of(plan).cameras.iter().map(|camera| camera.shard).collect::<Vec<_>>();
    assert_eq!((shards(&plan), plan.expected.pods), (vec![1, 1], 2));
    assert_eq!(plan.expected.lost, [0].into());
    let mut returned = after_apply(&running, &plan);
    returned.observed.losses.shards.lost.clear();
    returned.observed.replicas = Some(2);
    assert_eq!(shards(&returned.plan()), [1, 1]);
}

#[test]
fn unusable_operator_key_or_ca_stops_no_recording_of_a_known_bucket() {
    let first = fixture().plan();
    let fixture = after_apply(&fixture(), &first);
    let known = compliant_bucket(fixture.now).status;
    for error in [TargetError::Credentials, TargetError::Ca, TargetError::Proxy] {
        for (reported, records) in [(known.as_ref(), true), (None, false)] {
            let bucket = evaluate_bucket(Err(EnforceError::Target(error)), reported, fixture.now);
            assert_eq!((bucket.may_record(), bucket.is_stalled), (records, true), "{error}");
            assert_eq!(bucket.finding.status, ConditionStatus::Unknown, "{error}");
            let config = config_of(&fixture.plan_with(&bucket).unwrap());
            assert_eq!(config.cameras.iter().all(|camera| !camera.permitted.is_empty()), records, "{error}");
        }
    }
    let bucket = evaluate_bucket(Err(EnforceError::Target(TargetError::Bucket)), known.as_ref(), fixture.now);
    assert!(!bucket.may_record(), "another bucket");
}

#[test]
fn long_certificate_authority_of_the_store_omits_no_camera() {
    let mut fixture = after_apply(&fixture(), &fixture().plan());
    fixture.site.spec.storage.ca_ref = Some(crate::api::LocalRef { name: "ca".into() });
    let secret = ReferencedSecret::of(&[("ca.crt", "x".repeat(920_000).as_str())]);
    fixture.observed.camera_secrets.ca_certificates.insert("ca".into(), secret);
    let plan = fixture.plan();
    assert_eq!(plan.expected.omitted_cameras, [] as [String; 0]);
    let (before, now) = (fixture.observed.recorder_config.clone().unwrap(), config_of(&plan));
    assert_eq!((now.storage, now.cameras), (before.storage, before.cameras), "the recorders keep theirs");
}

#[test]
fn long_certificate_authority_of_a_camera_omits_no_other() {
    let mut fixture = fixture();
    let long = |fixture: &mut Fixture| {
        let stream = &mut fixture.observed.cameras[0].spec.stream;
        stream.ca_ref = Some(crate::api::LocalRef { name: "ca".into() });
        let secret = ReferencedSecret::of(&[("ca.crt", "x".repeat(890_000).as_str())]);
        fixture.observed.camera_secrets.ca_certificates.insert("ca".into(), secret);
    };
    let before = config_of(&fixture.plan());
    let mut known = after_apply(&fixture, &fixture.plan());
    long(&mut known);
    assert_eq!(config_of(&known.plan()).cameras, before.cameras, "a camera keeps its source");
    long(&mut fixture);
    let names = |config: RecorderConfig| config.cameras.into_iter().map(|camera| camera.name);
    assert!(names(config_of(&fixture.plan())).eq(["kassa"]));
    assert_eq!(fixture.valid().unusable_cameras, ["hal"]);
}

/// Each camera has the windows of all policies. If the API server rejected the Secret, no hold or suspension would arrive.
#[test]
fn windows_of_many_policies_fit_into_the_secret() {
    let mut fixture = fixture();
    fixture.observed.cameras = (0..1200).map(|number| camera(&format!("camera-{number:04}"))).collect();
    let of_one = fixture.plan();
    assert_eq!(of_one.expected.omitted_cameras, [] as [String; 0]);
    for year in 30..41 {
        let mut policy = crate::controllers::testing::policy();
        let name = format!("p{year}");
        policy.metadata.name = Some(name.clone());
        policy.spec.in_force.from = serde_json::from_value(json!(format!("20{year}-01-01"))).unwrap();
        policy.spec.in_force.until = serde_json::from_value(json!(format!("20{year}-06-01"))).unwrap();
        let from = format!("20{year}-01-01T00:00:00Z").parse().unwrap();
        fixture.observed.policies.following.push(FollowingPolicy { name, from, policy: Some(policy) });
    }
    let size = |plan: &RecorderPlan| plan.config_secret.data.as_ref().unwrap()[CONFIG_KEY].0.len();
    let plan = fixture.plan();
    assert!(config_of(&plan).cameras[0].permitted.len() > 5);
    assert!(size(&plan) <= hold_widening::MAX_CONFIG_BYTES, "{}", size(&plan));
    assert!(!plan.expected.omitted_cameras.is_empty());
    // The policy is missing for a moment: the cameras keep their windows.
    let mut missing = after_apply(&fixture, &plan);
    missing.observed.policies.policy = None;
    let kept = missing.plan();
    assert_eq!(kept.expected.omitted_cameras, plan.expected.omitted_cameras);
    assert!(size(&kept) <= hold_widening::MAX_CONFIG_BYTES);
}
