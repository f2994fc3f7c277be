//! Where a site's recordings go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{Decision, LocalRef, cel};

/// Where recordings go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::to_json(cel::STORAGE)))]
pub struct Storage {
    /// The bucket, this site's alone: 3 to 63 characters. Cannot be changed. The operator owns its whole
    /// configuration.
    #[schemars(length(min = 3, max = 63), extend("x-kubernetes-validations" = cel::to_json(cel::BUCKET)))]
    pub bucket: String,
    /// The S3 endpoint, an origin such as `https://s3.example.nl`; absent: AWS. Cannot be changed, added or removed.
    /// Plain `http://` needs a grant of the cluster's administrators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 269), extend("x-kubernetes-validations" = cel::to_json(cel::ENDPOINT)))]
    pub endpoint: Option<String>,
    /// The region that signatures name, such as `eu-central-1`: 1 to 64 characters.
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-validations" = cel::to_json(cel::REGION)))]
    pub region: String,
    /// Put the bucket into the path instead of the host name, as most stores other than AWS want it.
    #[serde(default)]
    pub path_style: bool,
    /// Secret of type `toezicht.dev/ca` with `ca.crt`, a private certificate authority to verify the endpoint with;
    /// absent: the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<LocalRef>,
    /// The operator's identity at the store. It configures the bucket and may not read recordings (article 3.2).
    pub operator: StoreIdentity,
    /// The recorders' identity at the store. It may add recordings and nothing else.
    pub recorder: StoreIdentity,
    /// Who may audit the bucket with credentials of their own (`toezicht audit`), such as the privacy officer or the works
    /// council's. It may list versions, read their tags and legal holds, the ledger and the bucket's settings; no
    /// recording, and nothing can be changed by it. Absent: the operator's identity alone can list the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auditor: Option<Auditor>,
    /// What to do with a bucket that already has a configuration of its own. `Refuse`: leave it as it is and say so.
    /// `TakeOver`: replace it (needs `decision`).
    #[serde(default)]
    pub adoption_policy: AdoptionPolicy,
    /// Who deletes what is too old (article 6). `StoreAndOperator`: both, so that the ceiling holds with the operator
    /// dead. `OperatorOnly`: for a store without lifecycle (needs `decision`).
    #[serde(default)]
    pub retention_enforcement: RetentionEnforcement,
    /// Record although the store keeps no legal holds, so that nothing protects what an incident holds (needs
    /// `decision`).
    #[serde(default)]
    pub allow_unprotected: bool,
    /// Who decided on an exception (article 9); required with `TakeOver`, `OperatorOnly` or `allowUnprotected`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
}

/// Somebody at the object store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::to_json(cel::IDENTITY)))]
pub struct StoreIdentity {
    /// As the store's policies name it: an ARN with an account, one without, or a bare name, at most 256 characters;
    /// never a wildcard or an account's root.
    #[schemars(length(min = 1, max = 256), extend("x-kubernetes-validations" = cel::to_json(cel::PRINCIPAL)))]
    pub principal: String,
    /// Secret of type `toezicht.dev/s3` with `accessKeyId` and `secretAccessKey`, and `sessionToken` for a temporary key.
    /// Absent with `ambient`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_ref: Option<LocalRef>,
    /// Use workload identity instead of a Secret: the pods' service account token is exchanged at the store's STS
    /// (`AssumeRoleWithWebIdentity`) for temporary keys of the role that `principal` names. Needs a grant of the cluster's
    /// administrators that has the role in `roles`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub workload_identity: bool,
}

/// Who may audit a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auditor {
    /// As the store's policies name it, at most 256 characters: an identity of its own, neither the operator's or the
    /// recorder's nor of somebody who may look at recordings; never a wildcard or an account's root.
    #[schemars(length(min = 1, max = 256), extend("x-kubernetes-validations" = cel::to_json(cel::PRINCIPAL)))]
    pub principal: String,
}

/// What to do with a bucket that already has a configuration of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AdoptionPolicy {
    /// Leave it as it is and say so.
    #[default]
    Refuse,
    /// Replace its configuration (needs a decision).
    TakeOver,
}

/// Who deletes what is too old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RetentionEnforcement {
    /// The store's lifecycle and the operator.
    #[default]
    StoreAndOperator,
    /// The operator alone, for a store without lifecycle (needs a decision).
    OperatorOnly,
}
