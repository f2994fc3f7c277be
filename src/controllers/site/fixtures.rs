//! Sites as users write them, through the real validation: what the tests of the pure steps begin with.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::bucket::evaluation;
use super::bucket::evaluation::BucketEvaluation;
use super::dereference::ObservedSite;
use super::recorders::identity::{StatusApiIdentity, ensure_identity};
use super::recorders::plan::{SitePlan, plan};
use super::validate::{ValidSite, validate};
use crate::api::{Camera, RecordingPolicy, Site};
use crate::controllers::camera_source::CameraSecrets;
use crate::controllers::config::OperatorConfig;
use crate::controllers::handoff::HoldScopes;
use crate::controllers::kubernetes::secret_ref::ReferencedSecret;
use crate::storage::{BucketState, EnforceReport};
use crate::wire::Secret;

const POLICY: &str = r#"
metadata: {name: protocol-2020, namespace: gemeente}
spec:
  title: Protocol
  timeZone: Europe/Amsterdam
  adoption: {by: College, date: "2020-05-04"}
  inForce: {from: "2020-05-06"}
  worksCouncilConsent: {date: "2020-04-21"}
  purposes: [Theft]
  retention: {video: 28d, calls: 7d}
  liveView: {sites: [zwembad], embargo: 1h}
  holds: {reviewInterval: 28d}
  incidentOfficers:
    - {office: secretaris, subject: {kind: User, name: s}, principal: officer}
"#;

const SITE: &str = r#"
metadata: {name: zwembad, namespace: gemeente, uid: uid-of-site, generation: 3}
spec:
  displayName: Zwembad
  address: {street: Zwaansweg 4, city: Vlijmen}
  policyRef: {name: protocol-2020}
  managers: [{subject: {kind: Group, name: m}, principal: manager}]
  notices: {staffInformedDate: "2020-05-05", signsPostedDate: "2020-05-05"}
  suspensions:
    - {reason: Verkiezing, from: "2026-03-18T07:00:00+01:00", until: "2026-03-18T22:00:00+01:00", cameras: [hal]}
  storage:
    bucket: gemeente-zwembad
    endpoint: https://s3.example.nl
    region: nl-1
    pathStyle: true
    operator: {principal: operator, credentialsRef: {name: s3-operator}}
    recorder: {principal: recorder, credentialsRef: {name: s3-recorder}}
"#;

pub const OPERATOR_CONFIG: &str = r#"
recorderImage: registry.example.nl/toezicht:1
grants: [{namespaces: [gemeente], endpoints: ["https://s3.example.nl"], buckets: ["gemeente-*"]}]
"#;

/// A Site with all that it names, to be spoilt by a test.
#[derive(Clone)]
pub struct Fixture {
    pub site: Site,
    pub observed: ObservedSite,
    pub config: OperatorConfig,
    pub now: Timestamp,
}

/// A site with the cameras `hal` and `kassa`, that may record.
pub fn fixture() -> Fixture {
    Fixture {
        site: serde_saphyr::from_str(SITE).unwrap(),
        observed: ObservedSite {
            policy: Some(serde_saphyr::from_str::<RecordingPolicy>(POLICY).unwrap()),
            cameras: vec![camera("hal"), camera("kassa")],
            camera_secrets: CameraSecrets {
                logins: [("login".to_owned(), secret(&[("username", "u"), ("password", "camera-password")]))]
                    .into(),
                ca_certificates: BTreeMap::new(),
            },
            store_secrets: ["s3-operator", "s3-recorder"]
                .map(|name| {
                    (name.to_owned(), secret(&[("accessKeyId", name), ("secretAccessKey", "store-secret")]))
                })
                .into(),
            recorder_config: None,
            replicas: None,
        },
        config: OperatorConfig::parse(OPERATOR_CONFIG).unwrap(),
        now: "2026-11-24T12:00:00Z".parse().unwrap(),
    }
}

/// A camera of the site that can be recorded.
pub fn camera(name: &str) -> Camera {
    let yaml = format!(
        "metadata: {{name: {name}, namespace: gemeente}}\nspec: {{siteRef: {{name: zwembad}}, area: a, visible: true, \
         stream: {{url: 'rtsp://10.0.0.1/{name}', credentialsRef: {{name: login}}}}}}"
    );
    serde_saphyr::from_str(&yaml).unwrap()
}

fn secret(texts: &[(&str, &str)]) -> ReferencedSecret {
    ReferencedSecret::new(
        "1",
        texts.iter().map(|(key, value)| ((*key).to_owned(), Secret::new(*value))).collect(),
    )
}

/// A bucket that was read back as it must be.
pub fn compliant_bucket(now: Timestamp) -> BucketEvaluation {
    let read_back = BucketState { object_lock: true, versioning: true, ..BucketState::default() };
    evaluation::evaluate_bucket(
        Ok(EnforceReport {
            observed: read_back,
            changes: vec![],
            conformance: None,
            limitations: vec![],
            unknown_principals: vec![],
        }),
        None,
        now,
    )
}

impl Fixture {
    /// The second step.
    pub fn valid(&self) -> ValidSite {
        validate(&self.site, &self.observed, &self.config, "cluster", self.now)
    }

    pub fn identity(&self) -> StatusApiIdentity {
        ensure_identity(self.observed.recorder_config.as_ref().map(|config| &config.status_api), self.now)
            .unwrap()
    }

    /// The second and fourth step, with this bucket.
    pub fn plan_with(&self, bucket: &BucketEvaluation) -> SitePlan {
        self.plan_of(bucket, None)
    }

    /// The second and fourth step, while this is held.
    pub fn plan_with_holds(&self, held: HoldScopes) -> SitePlan {
        self.plan_of(&compliant_bucket(self.now), Some(held))
    }

    fn plan_of(&self, bucket: &BucketEvaluation, held: Option<HoldScopes>) -> SitePlan {
        plan(&self.site, &self.observed, &self.valid(), bucket, &self.identity(), held, &self.config)
    }

    /// The second and fourth step, with a bucket that was read back.
    pub fn plan(&self) -> SitePlan {
        self.plan_with(&compliant_bucket(self.now))
    }
}
