//! A Site with its references, and the real steps over it, for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::bucket::evaluation::{BucketEvaluation, evaluate_bucket};
use super::dereference::ObservedSite;
use super::recorders::identity::ensure_identity;
use super::recorders::lost::Losses;
use super::recorders::plan::{RecorderPlan, plan};
use super::recorders::site_holds::SiteHolds;
use super::validate::{ValidSite, validate};
use crate::api::Site;
use crate::controllers::camera_source::CameraSecrets;
use crate::controllers::config::OperatorConfig;
use crate::controllers::context::Context;
use crate::controllers::handoff::HoldScopes;
use crate::controllers::kubernetes::secret_ref::ReferencedSecret;
use crate::controllers::site_policies::SitePolicies;
use crate::controllers::testing::{camera, policy, site};
use crate::leader::clock::mock::MockClock;
use crate::leader::fence::Fence;
use crate::leader::takeover::TakeoverDelay;
use crate::storage::{BucketState, EnforceReport};

/// Returns the context of a leader that has read no object yet.
pub fn context(client: kube::Client) -> Context {
    let clock = Arc::new(MockClock::at(1));
    Context::new(
        client,
        OperatorConfig::parse(OPERATOR_CONFIG).unwrap(),
        "cluster".to_owned(),
        Fence::new(clock.clone()),
        Arc::default(),
        None,
        TakeoverDelay::begin(clock, false),
    )
}

pub const OPERATOR_CONFIG: &str = r#"
recorderImage: registry.example.nl/toezicht:1
grants: [{namespaces: [gemeente], endpoints: ["https://s3.example.nl"], buckets: ["gemeente-*"]}]
"#;

/// A Site with all its references.
#[derive(Clone)]
pub struct Fixture {
    pub site: Site,
    pub observed: ObservedSite,
    pub config: OperatorConfig,
    pub now: Timestamp,
}

/// Returns a site with the cameras `hal` and `kassa`, which may record.
pub fn fixture() -> Fixture {
    let login = ReferencedSecret::of(&[("username", "u"), ("password", "camera-password")]);
    let store = |name: &str| {
        let texts = [("accessKeyId", name), ("secretAccessKey", "store-secret")];
        (name.to_owned(), ReferencedSecret::of(&texts))
    };
    Fixture {
        site: site(),
        observed: ObservedSite {
            policies: SitePolicies {
                policy_ref: "protocol-2020".to_owned(),
                name: "protocol-2020".to_owned(),
                policy: Some(policy()),
                ..SitePolicies::default()
            },
            cameras: vec![camera("hal"), camera("kassa")],
            unreadable_cameras: Vec::new(),
            camera_secrets: CameraSecrets {
                logins: [("login".to_owned(), login)].into(),
                ca_certificates: BTreeMap::new(),
            },
            store_secrets: ["s3-operator", "s3-recorder"].map(store).into(),
            recorder_config: None,
            replicas: None,
            losses: Losses::default(),
        },
        config: OperatorConfig::parse(OPERATOR_CONFIG).unwrap(),
        now: "2026-11-24T12:00:00Z".parse().unwrap(),
    }
}

/// Returns a bucket that was read back as required.
pub fn compliant_bucket(now: Timestamp) -> BucketEvaluation {
    let observed = BucketState { object_lock: true, versioning: true, ..BucketState::default() };
    let report = EnforceReport { observed, ..EnforceReport::default() };
    evaluate_bucket(Ok(report), None, now)
}

impl Fixture {
    pub fn valid(&self) -> ValidSite {
        validate(&self.site, &self.observed, &self.config, "cluster", self.now)
    }

    /// Returns the plan for a compliant bucket.
    pub fn plan(&self) -> RecorderPlan {
        self.plan_with(&compliant_bucket(self.now)).unwrap()
    }

    pub fn plan_with(&self, bucket: &BucketEvaluation) -> Option<RecorderPlan> {
        self.plan_of(bucket, &SiteHolds::default())
    }

    /// Returns the plan for a compliant bucket with these holds.
    pub fn plan_with_holds(&self, held: HoldScopes) -> RecorderPlan {
        let holds = SiteHolds { ledger: Some(held), declared: Vec::new() };
        self.plan_of(&compliant_bucket(self.now), &holds).unwrap()
    }

    pub fn plan_of(&self, bucket: &BucketEvaluation, holds: &SiteHolds) -> Option<RecorderPlan> {
        let existing = self.observed.recorder_config.as_ref().map(|config| &config.status_api);
        let identity = ensure_identity(existing, self.now).unwrap();
        plan(&self.site, &self.observed, &self.valid(), bucket, &identity, holds, &self.config)
    }
}
