//! The documents that each identity needs at the store, for whoever gives out rights there: pure, from a Site and
//! the policy that it is under.
//!
//! They are cut out of the same statements that the operator writes into the bucket's policy, so the two cannot say
//! different things. In an identity policy a statement has no `Principal`: it is about whoever has it.

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
use crate::storage::s3::target::{TargetError, is_tls, is_valid_bucket};

/// Key of the policy that whoever makes the bucket puts there.
pub const BUCKET: &str = "bucket";
pub const OPERATOR: &str = "operator";
pub const RECORDER: &str = "recorder";
pub const AUDITOR: &str = "auditor";
/// What the key of a reader's document begins with; its principal follows.
pub const READER_PREFIX: &str = "reader:";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IamFormat {
    /// AWS: a bucket policy to begin with, and identity policies with what each may. The Denies are in the bucket's
    /// policy, which the operator writes.
    Aws,
    /// Ceph's gateway: the same in the words that it knows.
    Ceph,
    /// `SeaweedFS`: a bucket policy to begin with, and each identity as its S3 configuration has it. Its bucket
    /// policies say the rest.
    SeaweedFs,
    /// A store that heeds identity policies only: all rights and all explicit Denies in these.
    IdentityPolicies,
}

/// Why there are no documents; each names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IamError {
    /// A principal is none, or more than one identity.
    #[error(transparent)]
    Principal(#[from] AmbiguousPrincipal),
    /// One identity is machine and person, or both machines.
    #[error("{0}")]
    SharedIdentity(String),
    /// The bucket or the endpoint cannot be used.
    #[error(transparent)]
    Target(#[from] TargetError),
}

/// The documents by identity: [`OPERATOR`], [`RECORDER`], [`AUDITOR`] if the Site has one, [`READER_PREFIX`] with the principal of each, and
/// [`BUCKET`] where a bucket's policy counts. Each is a policy document, but for `SeaweedFS`, where those of
/// identities are entries of its S3 configuration (without credentials).
///
/// Without `policy` its incident officers are not among the readers.
pub fn documents(
    site: &Site,
    policy: Option<&RecordingPolicy>,
    form: IamFormat,
) -> Result<BTreeMap<String, Value>, IamError> {
    // What is printed is given out as it is.
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
    let spec = BucketSpec {
        // The statements say nothing about time.
        video_ceiling: MIN_CEILING,
        calls_ceiling: MIN_CEILING,
        operator_principal: storage.operator.principal.clone(),
        recorder_principal: storage.recorder.principal.clone(),
        auditor: storage.auditor.as_ref().map(|auditor| auditor.principal.clone()),
        readers: principals::reader_principals(site, policy),
        take_over: false,
        operator_only: false,
        allow_unprotected: false,
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

/// An identity of `SeaweedFS`. The bucket's policy gives and denies the rest, also to an identity with `Admin`.
fn seaweedfs_identity(bucket: &str, principal: &str, is_operator: bool) -> Value {
    let actions: Vec<String> = is_operator.then(|| format!("Admin:{bucket}")).into_iter().collect();
    json!({ "name": username(principal), "actions": actions })
}

impl IamFormat {
    /// The words that the store is documented, or was found, to understand.
    fn dialect(self, spec: &BucketSpec) -> Dialect {
        Dialect {
            request_tag: self != Self::SeaweedFs,
            // Where it is not known that a put with a tag does without the right to tag, it is given.
            deny_tagging: matches!(self, Self::Ceph | Self::SeaweedFs),
            deny_plain_http: true,
            more_settings: self.supports_more_settings(),
            ..Dialect::unproved(&spec.operator_principal, &spec.recorder_principal)
        }
    }

    /// Ceph 16 refuses a policy with a word that it does not know.
    fn supports_more_settings(self) -> bool {
        self != Self::Ceph
    }

    /// What of the bucket's statements is about one identity, without its name.
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
            // `*`: over plain HTTP nobody may anything.
            named.into_iter().any(|name| name == principal || name == "*")
        };
        let counts = |statement: &&Value| {
            self == Self::IdentityPolicies || statement.get("Effect").and_then(Value::as_str) == Some("Allow")
        };
        // Only an identity's own policy can let it make a bucket: that has no policy yet.
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
