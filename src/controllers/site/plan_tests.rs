use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::api::condition::Reason;
use crate::contract::{CONFIG_KEY, Covering, Window};
use crate::controllers::site::fixtures::{Fixture, camera, fixture, good_bucket};
use crate::controllers::site::found::judge;
use crate::storage::EnforceError;

fn document(plan: &Plan) -> RecorderConfig {
    let data = plan.recorders.as_ref().unwrap().config.data.clone().unwrap();
    serde_json::from_slice(&data[CONFIG_KEY].0).unwrap()
}

/// The same site a moment later, with what the plan made.
fn later(fixture: &Fixture, plan: &Plan) -> Fixture {
    let mut fixture = fixture.clone();
    fixture.found.config = Some(document(plan));
    fixture.found.pods = Some(1);
    fixture
}

#[test]
fn the_configuration_says_all_that_recorders_need() {
    let plan = fixture().plan();
    let document = document(&plan);
    assert_eq!((document.namespace.as_str(), document.site.as_str()), ("gemeente", "zwembad"));
    assert_eq!(document.storage.credentials.as_keys().unwrap().access_key_id.reveal(), "s3-recorder");
    assert_eq!(document.video_ceiling_ms, 28 * DAY_MS);
    assert!(document.spool_bytes < 20 << 30);
    let hal = &document.cameras[0];
    assert_eq!((hal.name.as_str(), hal.shard, hal.url.reveal()), ("hal", 0, "rtsp://10.0.0.1/hal"));
    assert_eq!(hal.login.as_ref().unwrap().password.reveal(), "camera-password");
    assert_eq!(hal.permitted[0].from.to_string(), "2020-05-05T22:00:00Z");
    assert_eq!(hal.suspended.len(), 1);
    assert!(document.cameras[1].suspended.is_empty());
    let expected = plan.recorders.unwrap().expected;
    assert_eq!((expected.revision, expected.pods), (document.revision, 1));
}

#[test]
fn pods_are_restricted_and_have_no_token() {
    let recorders = fixture().plan().recorders.unwrap();
    assert_eq!(recorders.account.automount_service_account_token, Some(false));
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
    assert!(mounts.iter().all(|mount| mount.sub_path.is_none()), "a subPath is never renewed");
    assert_eq!(pod.volumes.unwrap()[1].empty_dir.clone().unwrap().size_limit.unwrap().0, "20Gi");
    // A camera that comes or goes must not restart the others.
    assert!(spec.template.metadata.unwrap().annotations.is_none());
}

#[test]
fn a_spool_with_a_storage_class_is_a_claim() {
    let mut fixture = fixture();
    fixture.site.spec.recorder.spool.storage_class = Some("fast".into());
    let workload = fixture.plan().recorders.unwrap().workload;
    let spec = workload.spec.clone().unwrap();
    assert_eq!(spec.volume_claim_templates.unwrap()[0].metadata.name.as_deref(), Some("spool"));
    assert_eq!(spec.template.spec.unwrap().volumes.unwrap().len(), 1);
    assert!(objects::can_be_updated(&workload, &workload));
    fixture.site.spec.recorder.spool.size = "20480Mi".into();
    assert!(objects::can_be_updated(&fixture.plan().recorders.unwrap().workload, &workload));
    fixture.site.spec.recorder.spool.size = "30Gi".into();
    assert!(!objects::can_be_updated(&fixture.plan().recorders.unwrap().workload, &workload));
}

#[test]
fn the_same_site_a_moment_later_is_the_same_plan() {
    let first = fixture();
    let plan = first.plan();
    let mut again = later(&first, &plan);
    again.now += jiff::SignedDuration::from_hours(24 * 30);
    assert_eq!(again.plan(), plan);
}

#[test]
fn a_camera_that_comes_moves_no_other_and_a_full_pod_gets_company() {
    let mut first = fixture();
    first.site.spec.recorder.cameras_per_pod = 2;
    let plan = first.plan();
    let mut next = later(&first, &plan);
    next.found.cameras.insert(0, camera("aula"));
    let next_plan = next.plan();
    let shards: Vec<(String, u32)> =
        document(&next_plan).cameras.into_iter().map(|camera| (camera.name, camera.shard)).collect();
    assert_eq!(shards, [("aula".to_owned(), 1), ("hal".to_owned(), 0), ("kassa".to_owned(), 0)]);
    assert_eq!(next_plan.recorders.as_ref().unwrap().expected.pods, 2);
    assert_ne!(document(&next_plan).revision, document(&plan).revision);
    assert_eq!(document(&next_plan).status_api, document(&plan).status_api);
}

#[test]
fn nothing_is_recorded_before_the_bucket_is_read_back_nor_when_it_is_taken_away() {
    let first = fixture();
    let claimed = judge(Err(EnforceError::Claimed), None, first.now);
    assert_eq!(claimed.finding.reason, Reason::BucketClaimed);
    assert_eq!(first.plan_with(&claimed).recorders, None);

    let running = later(&first, &first.plan());
    let stopped = document(&running.plan_with(&claimed));
    assert!(stopped.cameras.iter().all(|camera| camera.permitted.is_empty()));
    assert_eq!(stopped.cameras.len(), 2, "what waits in the spool is uploaded");
}

#[test]
fn a_site_that_is_no_longer_accepted_stops_and_keeps_its_way_to_the_store() {
    let first = fixture();
    let mut running = later(&first, &first.plan());
    running.found.store_secrets.clear();
    let stopped = document(&running.plan_with(&good_bucket(running.now)));
    assert!(stopped.cameras.iter().all(|camera| camera.permitted.is_empty()));
    assert_eq!(stopped.storage.credentials.as_keys().unwrap().access_key_id.reveal(), "s3-recorder");
}

#[test]
fn without_cameras_there_are_no_pods() {
    let mut fixture = fixture();
    fixture.found.cameras.clear();
    let recorders = fixture.plan().recorders.unwrap();
    assert_eq!((recorders.expected.pods, recorders.workload.spec.unwrap().replicas), (0, Some(0)));
}

#[test]
fn what_a_tenant_wrote_or_scaled_makes_no_pods() {
    let first = fixture();
    let mut next = later(&first, &first.plan());
    next.found.config.as_mut().unwrap().cameras[0].shard = 4_000_000_000;
    assert_eq!(next.plan().recorders.unwrap().expected.pods, 1);
    next.found.pods = Some(i32::MAX.unsigned_abs());
    assert_eq!(next.plan().recorders.unwrap().expected.pods, 1);
}

#[test]
fn workload_identity_gives_pods_a_token_for_the_store_alone() {
    let mut fixture = fixture();
    let role = "arn:aws:iam::123456789012:role/toezicht-recorder";
    let recorder = &mut fixture.site.spec.storage.recorder;
    (recorder.credentials_ref, recorder.ambient) = (None, true);
    recorder.principal = role.into();
    let grant = "grants: [{namespaces: [gemeente], endpoints: ['https://s3.example.nl'], buckets: ['gemeente-*'], roles: ['arn:aws:iam::123456789012:role/*']}]";
    let yaml = format!("recorderImage: toezicht:1\n{grant}\nworkloadIdentity: {{audience: rgw}}");
    fixture.config = OperatorConfig::parse(&yaml).unwrap();
    fixture.config.egress.token_file = "/of/the/operator".into();
    let web_identity = |credentials| match credentials {
        crate::contract::Credentials::WebIdentity { web_identity } => web_identity,
        _ => panic!("workload identity was asked for"),
    };
    // What the operator tries as a recorder it tries with its own token: the pods' is not where it runs.
    let tried = fixture.valid().access.unwrap().recorder.unwrap();
    let tried = web_identity(tried.credentials);
    assert_eq!((tried.role_arn.as_str(), tried.token_file), (role, "/of/the/operator".into()));
    let plan = fixture.plan();
    let web_identity = web_identity(document(&plan).storage.credentials);
    assert_eq!(web_identity.role_arn, role);
    let spec = plan.recorders.unwrap().workload.spec.unwrap();
    let pod = spec.template.spec.unwrap();
    // The token of the Kubernetes API stays away.
    assert_eq!(pod.automount_service_account_token, Some(false));
    let projected = pod.volumes.unwrap()[2].projected.clone().unwrap().sources.unwrap();
    let token = projected[0].service_account_token.clone().unwrap();
    assert_eq!(token.audience.as_deref(), Some("rgw"));
    let mount = pod.containers[0].volume_mounts.clone().unwrap()[2].clone();
    assert_eq!(web_identity.token_file, std::path::Path::new(&mount.mount_path).join(token.path));
    assert_eq!((mount.name.as_str(), mount.read_only), ("store-token", Some(true)));
}

#[test]
fn recorders_use_the_proxy_of_the_endpoints_scheme() {
    let mut fixture = fixture();
    let with = |proxy: &str| {
        OperatorConfig::parse(&format!("{}\nproxy: {proxy}", crate::controllers::site::fixtures::CONFIG))
            .unwrap()
    };
    fixture.config = with("{http: 'http://plain:1', https: 'http://tunnel:3128', noProxy: 'a.nl'}");
    let proxy = document(&fixture.plan()).storage.proxy.unwrap();
    assert_eq!((proxy.url.as_str(), proxy.no_proxy.as_str()), ("http://tunnel:3128", "a.nl"));
    fixture.config = with("{http: 'http://plain:1'}");
    assert_eq!(document(&fixture.plan()).storage.proxy, None);
}

#[test]
fn a_revision_that_somebody_wrote_is_replaced() {
    let first = fixture();
    let mut next = later(&first, &first.plan());
    for wrong in ["", "mine", "0123456789ABCDEF"] {
        next.found.config.as_mut().unwrap().revision = wrong.into();
        assert!(is_revision(&next.plan().recorders.unwrap().expected.revision));
    }
}

/// So many holds, each over so many cameras with names of so many letters.
fn holds(holds: usize, cameras: usize, letters: usize) -> Coverings {
    let names =
        |hold: usize| (0..cameras).map(move |camera| format!("c{:0>letters$}", hold * cameras + camera));
    let covering = |hold: usize| {
        let from = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(i64::try_from(3 * hold).unwrap());
        Covering {
            cameras: names(hold).collect(),
            calls: false,
            window: Window::new(from, Some(from + SignedDuration::from_hours(1))),
        }
    };
    (0..holds).map(|hold| (format!("{hold:0>36}"), covering(hold))).collect()
}

/// What the API server takes as a Secret.
const SECRET: usize = 1 << 20;

#[test]
fn the_recorders_secret_has_room_for_any_number_of_holds() {
    // Names of Cameras have at most 253 letters.
    for (number, cameras, letters, widened) in [
        (16, 256, 62, None),
        (16, 256, 252, Some(Widened::EveryCamera)),
        (5000, 10, 20, Some(Widened::EveryCamera)),
        (40_000, 1, 20, Some(Widened::Everything)),
    ] {
        let held = holds(number, cameras, letters);
        let plan = fixture().plan_holding(held.clone());
        let recorders = plan.recorders.as_ref().unwrap();
        let bytes = recorders.config.data.as_ref().unwrap()[CONFIG_KEY].0.len();
        assert!(bytes < SECRET, "{number} holds over {cameras} cameras: {bytes} bytes");
        assert_eq!(recorders.expected.widened, widened, "{number} holds over {cameras} cameras");
        assert_eq!(recorders.expected.holds, held, "recorders that follow it seal all of that");
    }
}

#[test]
fn a_configuration_that_returns_has_a_revision_of_its_own() {
    let first = fixture();
    let (none, one) = (holds(0, 0, 0), holds(1, 1, 3));
    let revision = |plan: &Plan| plan.recorders.as_ref().unwrap().expected.revision.clone();
    let before = first.plan_holding(none.clone());
    let between = later(&first, &before).plan_holding(one);
    let fixture = later(&first, &between);
    let after = fixture.plan_holding(none.clone());
    assert_ne!(
        revision(&after),
        revision(&before),
        "a recorder that acknowledged the first may follow the second by now"
    );
    // As long as nothing changes, it stays.
    assert_eq!(later(&fixture, &after).plan_holding(none), after);
}
