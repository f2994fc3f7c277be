//! The policy documents that each identity needs, for the store's administrators: pure, from a Site and its recording policy.
//!
//! They use the same statements as the bucket policy, so the two cannot contradict each other. In an identity policy, a statement
//! has no `Principal`: it applies to the identity that has the policy.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::actions::{BucketRef, ResourceArns};
use super::dialect::{Dialect, username};
use super::document::document;
use super::principals::AmbiguousPrincipal;
use super::{principals, statements};
use crate::api::{RecordingPolicy, Site};
use crate::rules::retention::MIN_CEILING;
use crate::storage::bucket::spec::BucketSpec;
use crate::storage::s3::TargetError;
use crate::storage::s3::target::{is_tls, is_valid_bucket};

/// Key of the bucket policy that the bucket's creator puts.
pub const BUCKET: &str = "bucket";
pub const OPERATOR: &str = "operator";
pub const RECORDER: &str = "recorder";
pub const AUDITOR: &str = "auditor";
/// Prefix of the key of a reader's document, before its principal.
pub const READER_PREFIX: &str = "reader:";

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum IamFormat {
    /// Initial bucket policy, and an identity policy for each identity.
    Aws,
    /// The same, with the actions that the Ceph Object Gateway supports.
    Ceph,
    /// Initial bucket policy, and each identity in the format of SeaweedFS' S3 configuration.
    #[value(name = "seaweedfs")]
    SeaweedFs,
    /// All rights and denies in identity policies, for a store that supports no bucket policies.
    IdentityPolicies,
}

/// Reason that there are no documents; each names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IamError {
    /// A principal does not name one identity.
    #[error(transparent)]
    Principal(#[from] AmbiguousPrincipal),
    /// Two roles share an identity.
    #[error("{0}")]
    SharedIdentity(String),
    /// The bucket or the endpoint cannot be used.
    #[error(transparent)]
    Target(#[from] TargetError),
}

/// Returns the documents by identity: [`OPERATOR`], [`RECORDER`], [`AUDITOR`] if the Site has one, [`READER_PREFIX`] with the principal
/// of each, and [`BUCKET`] if bucket policies have an effect. Each is a policy document, except those of identities for `SeaweedFS`:
/// they are entries of its S3 configuration, without credentials.
///
/// Without `policy`, its incident officers are not among the readers.
pub fn documents(
    site: &Site,
    policy: Option<&RecordingPolicy>,
    form: IamFormat,
) -> Result<BTreeMap<String, Value>, IamError> {
    // Administrators apply the documents unchecked, so a wildcard must not get into one.
    if let Some(first) = principals::ambiguous_principals(site, policy).into_iter().next() {
        return Err(first.into());
    }
    principals::check_machine_principals(site, policy)
        .and_then(|()| principals::check_auditor_principal(site, policy))
        .map_err(|(_, message)| IamError::SharedIdentity(message))?;
    let storage = &site.spec.storage;
    if !is_valid_bucket(&storage.bucket) {
        return Err(TargetError::Bucket.into());
    }
    let tls = storage.endpoint.as_deref().map_or(Ok(true), is_tls)?;
    // The statements do not depend on the ceilings.
    let ceilings = (MIN_CEILING, MIN_CEILING);
    let spec = BucketSpec {
        auditor: storage.auditor.as_ref().map(|auditor| auditor.principal.clone()),
        readers: principals::reader_principals(site, policy),
        ..BucketSpec::for_machines(ceilings, &storage.operator.principal, &storage.recorder.principal)
    };
    let identities =
        [(OPERATOR.to_owned(), &spec.operator_principal), (RECORDER.to_owned(), &spec.recorder_principal)];
    let auditor = spec.auditor.iter().map(|auditor| (AUDITOR.to_owned(), auditor));
    let people = spec.readers.iter().map(|reader| (format!("{READER_PREFIX}{reader}"), reader));
    let place = BucketRef { name: &storage.bucket, region: &storage.region };
    let statements = statements::policy_statements(place, &spec, &form.dialect(&spec), tls);
    let mut all: BTreeMap<String, Value> = identities
        .into_iter()
        .chain(auditor)
        .chain(people)
        .map(|(key, principal)| {
            let is_operator = key == OPERATOR;
            // Its identities have no policies: the bucket policy has all rights.
            let value = match form {
                IamFormat::SeaweedFs => seaweedfs_identity(&storage.bucket, principal, is_operator),
                _ => document(&form.identity_statements(place, &statements, principal, is_operator)),
            };
            (key, value)
        })
        .collect();
    if form != IamFormat::IdentityPolicies {
        let bootstrap = statements::bootstrap(place, &spec.operator_principal, form.supports_more_settings());
        all.insert(BUCKET.to_owned(), document(&bootstrap));
    }
    Ok(all)
}

/// Returns an identity of `SeaweedFS`. The bucket policy gives and denies the rest, even to an identity with `Admin`.
fn seaweedfs_identity(bucket: &str, principal: &str, is_operator: bool) -> Value {
    let actions: Vec<String> = is_operator.then(|| format!("Admin:{bucket}")).into_iter().collect();
    json!({ "name": username(principal), "actions": actions })
}

impl IamFormat {
    /// Returns the dialect that the store documents, or that was observed.
    fn dialect(self, spec: &BucketSpec) -> Dialect {
        Dialect {
            request_tag: self != Self::SeaweedFs,
            // A store of unknown behaviour may need the right to tag in a put, so it is given.
            deny_tagging: matches!(self, Self::Ceph | Self::SeaweedFs),
            deny_plain_http: true,
            more_settings: self.supports_more_settings(),
            ..Dialect::unproved(&spec.operator_principal, &spec.recorder_principal)
        }
    }

    /// Ceph 16 rejects a policy with an action that it does not know.
    fn supports_more_settings(self) -> bool {
        self != Self::Ceph
    }

    /// Returns the bucket's statements about one identity, without `Principal`.
    fn identity_statements(
        self,
        place: BucketRef<'_>,
        statements: &[Value],
        principal: &str,
        is_operator: bool,
    ) -> Vec<Value> {
        let names = |statement: &&Value| {
            let named = statement.pointer("/Principal/AWS").and_then(Value::as_array);
            let named = named.into_iter().flatten().filter_map(Value::as_str);
            // `*`: the Denies for everybody apply to this identity, too.
            named.into_iter().any(|name| name == principal || name == "*")
        };
        let counts = |statement: &&Value| {
            self == Self::IdentityPolicies || statement.get("Effect").and_then(Value::as_str) == Some("Allow")
        };
        // A bucket that does not exist has no policy, so only an identity policy can allow its creation.
        let create_bucket = is_operator.then(|| {
            json!({ "Sid": "OperatorMakesBucket", "Effect": "Allow", "Action": ["s3:CreateBucket"],
                    "Resource": [ResourceArns::new(place, principal).bucket()] })
        });
        let own_statements = statements.iter().filter(names).filter(counts).map(|statement| {
            let mut statement = statement.clone();
            if let Value::Object(elements) = &mut statement {
                elements.remove("Principal");
            }
            statement
        });
        create_bucket.into_iter().chain(own_statements).collect()
    }
}

#[cfg(test)]
mod tests;
