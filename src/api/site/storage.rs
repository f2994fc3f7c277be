//! Bucket of a site and the identities that use it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{Decision, LocalRef, cel};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::to_json(cel::STORAGE)))]
pub struct Storage {
    /// Name of the bucket. 3 to 63 characters. Immutable. No other Site may use it. The operator manages its entire
    /// configuration.
    #[schemars(length(min = 3, max = 63), extend("x-kubernetes-validations" = cel::to_json(cel::BUCKET)))]
    pub bucket: String,
    /// Origin of the S3 endpoint, such as `https://s3.example.nl`. Defaults to AWS. Immutable: it cannot be changed,
    /// added or removed. Plain `http://` requires a grant from the cluster's administrators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 269), extend("x-kubernetes-validations" = cel::to_json(cel::ENDPOINT)))]
    pub endpoint: Option<String>,
    /// Region for request signatures, such as `eu-central-1`. 1 to 64 characters.
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-validations" = cel::to_json(cel::REGION)))]
    pub region: String,
    /// Puts the bucket name in the URL path instead of the host name. Most stores other than AWS require this.
    #[serde(default)]
    pub path_style: bool,
    /// Secret of type `toezicht.dev/ca` with `ca.crt`, the private certificate authority that verifies the endpoint.
    /// Defaults to the public certificate authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<LocalRef>,
    /// Identity of the operator at the store. It configures the bucket and cannot read recordings (article 3.2).
    pub operator: StoreIdentity,
    /// Identity of the recorders at the store. It can add recordings and nothing else (article 3.2).
    pub recorder: StoreIdentity,
    /// Identity that audits the bucket with its own credentials (`toezicht audit`), such as the privacy officer's or
    /// the works council's. It can list versions and read their tags, legal holds, the ledger and the bucket's
    /// settings. It cannot read recordings or change anything. Without it, only the operator can list the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auditor: Option<Auditor>,
    /// Action if an unclaimed bucket already has a configuration or objects. `Refuse`: leave the bucket unchanged and
    /// report why. `TakeOver`: replace its configuration (requires `decision`).
    #[serde(default)]
    pub adoption_policy: AdoptionPolicy,
    /// Parties that delete recordings past their ceiling (article 6). `StoreAndOperator`: the store's lifecycle rules
    /// and the operator, so the ceiling holds even if the operator is down. `OperatorOnly`: the operator alone, for a
    /// store without lifecycle rules (requires `decision`).
    #[serde(default)]
    pub retention_enforcement: RetentionEnforcement,
    /// Records even if the store does not enforce legal holds, so nothing protects held recordings from deletion
    /// (requires `decision`).
    #[serde(default)]
    pub allow_unprotected: bool,
    /// Decision on an exception (article 9). Required with `TakeOver`, `OperatorOnly` or `allowUnprotected`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::to_json(cel::IDENTITY)))]
pub struct StoreIdentity {
    /// Name of the identity in the store's policies: an ARN, with or without an account, or a bare name. 1 to 256
    /// characters. Must be one identity: not a wildcard, an account or its root.
    #[schemars(length(min = 1, max = 256), extend("x-kubernetes-validations" = cel::to_json(cel::PRINCIPAL)))]
    pub principal: String,
    /// Secret of type `toezicht.dev/s3` with `accessKeyId` and `secretAccessKey`, and `sessionToken` for a temporary
    /// key. Required unless `workloadIdentity` is `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_ref: Option<LocalRef>,
    /// Uses workload identity instead of a Secret. The pods exchange their service account token at the store's STS
    /// (`AssumeRoleWithWebIdentity`) for temporary keys of the role in `principal`. Requires a grant from the cluster's
    /// administrators with that role in `roles`. Defaults to `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub workload_identity: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auditor {
    /// Name of the identity in the store's policies. 1 to 256 characters. Must not be the operator, the recorder, a
    /// manager or an incident officer, and must be one identity: not a wildcard, an account or its root.
    #[schemars(length(min = 1, max = 256), extend("x-kubernetes-validations" = cel::to_json(cel::PRINCIPAL)))]
    pub principal: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AdoptionPolicy {
    #[default]
    Refuse,
    TakeOver,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RetentionEnforcement {
    #[default]
    StoreAndOperator,
    OperatorOnly,
}
