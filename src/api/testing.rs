//! Example resources for tests.

use super::{Camera, IncidentHold, RecordingPolicy, Site};

/// Returns a policy in force since 2020-05-06, with ceilings of four weeks and one week.
pub(crate) fn policy() -> RecordingPolicy {
    let yaml = r#"
metadata: {name: protocol-2020, namespace: gemeente, generation: 4}
spec:
  title: Protocol
  timeZone: Europe/Amsterdam
  adoption: {by: College, date: "2020-05-04"}
  inForce: {from: "2020-05-06"}
  worksCouncilConsent: {date: "2020-04-21"}
  purposes: [Theft, Aggression]
  retention: {video: 28d, calls: 7d}
  liveView: {sites: [zwembad], embargo: 1h}
  holds: {reviewInterval: 28d}
  incidentOfficers:
    - {office: secretaris, subject: {kind: User, name: s}, principal: officer}
"#;
    serde_saphyr::from_str(yaml).unwrap()
}

/// Returns a site of [`policy`] that may record, with a suspension of `hal` in 2026.
pub(crate) fn site() -> Site {
    let yaml = r#"
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
    serde_saphyr::from_str(yaml).unwrap()
}

/// Returns a camera of [`site`] with a stream and a login.
pub(crate) fn camera(name: &str) -> Camera {
    let yaml = format!(
        "metadata: {{name: {name}, namespace: gemeente, generation: 3}}\nspec: {{siteRef: {{name: zwembad}}, area: a, \
         visible: true, stream: {{url: 'rtsp://10.0.0.1/{name}', credentialsRef: {{name: login}}}}}}"
    );
    serde_saphyr::from_str(&yaml).unwrap()
}

/// Returns a hold at [`site`] over all cameras, whose window begins on 2026-01-01 and goes on.
pub(crate) fn hold(name: &str) -> IncidentHold {
    let yaml = format!(
        "metadata: {{name: {name}, namespace: gemeente, generation: 2, creationTimestamp: \"2026-01-01T12:00:00Z\"}}\n\
         spec: {{siteRef: {{name: zwembad}}, window: {{from: \"2026-01-01T10:00:00Z\"}}, purpose: Theft, reference: \"2026-1\"}}"
    );
    serde_saphyr::from_str(&yaml).unwrap()
}
