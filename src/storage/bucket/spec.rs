//! What is asked of a site's bucket, and what was read back from it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::lifecycle::BucketLifecycleRule;
use super::policy::document::Policy;
use super::probe::Conformance;
use crate::api::Days;

/// What a site's bucket must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BucketSpec {
    /// The longest that video lives, in days; at least five (article 6).
    pub video_ceiling: Days,
    /// The longest that calls live, in days; at least five (article 6).
    pub calls_ceiling: Days,
    /// The operator, as the store's policies name it.
    pub operator_principal: String,
    /// The recorders, as the store's policies name them.
    pub recorder_principal: String,
    /// Who may audit the bucket, as the store's policies name it; `None`: the operator alone.
    pub auditor: Option<String>,
    /// Who may read what is held (articles 3.1 and 4.1), as the store's policies name them.
    pub readers: Vec<String>,
    /// Replace a configuration that the bucket already had (needs a decision, article 9). Objects stay.
    pub take_over: bool,
    /// Accept a store without lifecycle: the operator alone deletes (needs a decision).
    pub operator_only: bool,
    /// Accept a store that does not keep legal holds (needs a decision).
    pub allow_unprotected: bool,
}

#[cfg(test)]
impl BucketSpec {
    /// A Site's bucket without people and without exceptions, for tests to begin with.
    pub(crate) fn example() -> Self {
        Self {
            video_ceiling: Days(28),
            calls_ceiling: Days(7),
            operator_principal: "o".into(),
            recorder_principal: "r".into(),
            auditor: None,
            readers: vec![],
            take_over: false,
            operator_only: false,
            allow_unprotected: false,
        }
    }
}

/// A bucket's configuration, read back and normalised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketState {
    pub object_lock: bool,
    /// The default retention that new objects get: a minimum that would break the ceiling.
    pub default_retention: Option<BucketDefaultRetention>,
    pub versioning: bool,
    /// The lifecycle rules, without their names; `None`: the store has no lifecycle.
    pub lifecycle: Option<BTreeSet<BucketLifecycleRule>>,
    /// The bucket policy, without the names of its statements; `None`: there is none.
    pub policy: Option<Policy>,
    /// What else is configured that copies, shows or tells of recordings.
    pub forbidden: BTreeSet<ForbiddenSubresource>,
    /// Of which of these it cannot be told whether they are configured, and why.
    pub unreadable: BTreeMap<ForbiddenSubresource, UnreadableReason>,
    /// What it should have beside; a second line only, as the policy allows nobody by wildcard.
    pub required: BTreeMap<RequiredSubresource, SubresourceState>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketDefaultRetention {
    /// Mode and period, such as `GOVERNANCE 30 days`.
    pub description: String,
    /// The period in days; a year counts as 365.
    pub days: i64,
}

impl fmt::Display for BucketDefaultRetention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description)
    }
}

/// Configuration that a site's bucket must not have.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, strum::IntoStaticStr, strum::VariantArray,
)]
pub enum ForbiddenSubresource {
    /// Rules for pages of other origins: nobody reads recordings in a browser from here.
    #[strum(serialize = "CORS rules")]
    Cors,
    /// Copies every recording into another bucket, out of reach of ceilings.
    #[strum(serialize = "replication")]
    Replication,
    /// Shows the bucket as a web site.
    #[strum(serialize = "a web site")]
    Website,
    /// Grants to other accounts or to everybody, beside the policy.
    #[strum(serialize = "grants by ACL")]
    Acl,
    /// Tells others of every recording, and may start what copies it.
    #[strum(serialize = "notifications")]
    Notifications,
    /// Lists every recording into another bucket.
    #[strum(serialize = "inventories")]
    Inventory,
    /// Writes who asked for which recording into another bucket.
    #[strum(serialize = "access logging")]
    Logging,
}

/// Why it cannot be told whether something is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnreadableReason {
    /// The operator may not read it.
    Denied,
    /// The store's answer is to another question.
    UnexpectedAnswer,
}

/// Configuration that a site's bucket has where the store has it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, strum::IntoStaticStr,
)]
#[serde(rename_all = "camelCase")]
pub enum RequiredSubresource {
    #[strum(serialize = "public access block")]
    PublicAccessBlock,
    /// What comes without a word about encryption is encrypted: with the store's own key (`AES256`), or with a key of the
    /// organisation's own where somebody set that.
    #[strum(serialize = "default encryption")]
    Encryption,
    /// Every object is the bucket owner's, and ACLs count for nothing.
    #[strum(serialize = "object ownership")]
    Ownership,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubresourceState {
    Compliant,
    /// Otherwise, and stronger than required: how. It is left so.
    Stronger(&'static str),
    /// Otherwise: how, in words.
    Differs(String),
    /// The store does not have it.
    Unsupported,
    /// The operator may not read it.
    Denied,
}

impl fmt::Display for ForbiddenSubresource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str((*self).into())
    }
}

impl fmt::Display for RequiredSubresource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str((*self).into())
    }
}

impl BucketState {
    /// Days after which lifecycle hides a video; `None`: no such rule.
    pub fn video_expiration_days(&self) -> Option<i32> {
        self.expiration_days(crate::rules::recording::key::Class::Video)
    }

    /// Days after which lifecycle hides a call; `None`: no such rule.
    pub fn calls_expiration_days(&self) -> Option<i32> {
        self.expiration_days(crate::rules::recording::key::Class::Calls)
    }

    /// Whether what comes is encrypted with a key of the organisation's own.
    pub(crate) fn has_customer_key(&self) -> bool {
        matches!(self.required.get(&RequiredSubresource::Encryption), Some(SubresourceState::Stronger(_)))
    }

    fn expiration_days(&self, class: crate::rules::recording::key::Class) -> Option<i32> {
        let rules = self.lifecycle.iter().flatten();
        rules.filter(|rule| rule.enabled && rule.prefix == class.prefix()).find_map(|rule| rule.expire_after)
    }
}

/// What of a bucket, or of a version in it, can be otherwise than it must be. As text: snake case, as a label of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Subresource {
    /// The bucket itself, with its Object Lock.
    Bucket,
    /// `ledger/owner.json`.
    Claim,
    Versioning,
    /// A default retention, which Object Lock puts on all that comes.
    DefaultRetention,
    Lifecycle,
    /// What copies, shows or tells of recordings: see [`ForbiddenSubresource`].
    ForeignConfiguration,
    /// See [`RequiredSubresource::PublicAccessBlock`].
    PublicAccessBlock,
    /// See [`RequiredSubresource::Encryption`].
    DefaultEncryption,
    /// See [`RequiredSubresource::Ownership`].
    ObjectOwnership,
    Policy,
    /// The legal hold of a version.
    LegalHold,
    Tag,
    /// A delete marker over a version.
    DeleteMarker,
    /// A held version itself: it is gone.
    HeldVersion,
}

impl fmt::Display for Subresource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name: &'static str = self.into();
        f.write_str(&name.replace('_', " "))
    }
}

impl From<RequiredSubresource> for Subresource {
    fn from(setting: RequiredSubresource) -> Self {
        match setting {
            RequiredSubresource::PublicAccessBlock => Self::PublicAccessBlock,
            RequiredSubresource::Encryption => Self::DefaultEncryption,
            RequiredSubresource::Ownership => Self::ObjectOwnership,
        }
    }
}

/// Something that was changed at the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreChange {
    pub subresource: Subresource,
    /// How it was, in words.
    pub from: String,
    /// How it is, in words.
    pub to: String,
}

impl fmt::Display for StoreChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} → {}", self.subresource, self.from, self.to)
    }
}

/// What came of [`enforce`](super::enforce).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnforceReport {
    /// The bucket, read back after the last change.
    pub observed: BucketState,
    /// What was changed, in order; empty: it was in sync, and nothing was written but what was tried.
    pub changes: Vec<StoreChange>,
    /// What was tried and what came of it; `None`: not asked for.
    pub conformance: Option<Conformance>,
    /// What this store cannot say in a policy, with what follows from it; empty on a store that can say all.
    pub limitations: Vec<&'static str>,
    /// Principals of people whom the store does not know, and whom the policy therefore does not name.
    pub unknown_principals: Vec<String>,
}
