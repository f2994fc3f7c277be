//! The bucket's subresources. The forbidden and the required ones have everything here: their name, how the operator reads
//! them, and how it removes or sets them.
//!
//! An unreadable subresource is never taken for an absent one: each outcome of a read has its own variant.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use aws_sdk_s3::operation::get_bucket_acl::GetBucketAclOutput;
use aws_sdk_s3::types::{
    BucketCannedAcl, BucketLoggingStatus, Grantee, NotificationConfiguration, ObjectOwnership,
    OwnershipControls, OwnershipControlsRule, PublicAccessBlockConfiguration, ServerSideEncryption,
    ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration, ServerSideEncryptionRule,
};
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use strum::VariantArray;

use crate::storage::s3::send::{invalid_request, send};
use crate::storage::s3::{BucketClient, StoreError};

/// A part of a bucket, or of a version in it, that can drift. As text: snake case, the label of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Subresource {
    /// The bucket itself, with its Object Lock.
    Bucket,
    /// `ledger/owner.json`.
    Claim,
    Versioning,
    /// The retention that Object Lock puts on every new object.
    DefaultRetention,
    Lifecycle,
    /// See [`ForbiddenSubresource`].
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
    /// A held version that is gone.
    HeldVersion,
}

impl fmt::Display for Subresource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name: &'static str = self.into();
        f.write_str(&name.replace('_', " "))
    }
}

/// Configuration that a Site's bucket must not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, strum::Display, strum::VariantArray)]
pub enum ForbiddenSubresource {
    /// Lets pages of other origins read recordings in a browser.
    #[strum(serialize = "CORS rules")]
    Cors,
    /// Copies every recording into another bucket, beyond the reach of its ceiling.
    #[strum(serialize = "replication")]
    Replication,
    #[strum(serialize = "a web site")]
    Website,
    /// Grants to other accounts or to everybody, which the bucket policy does not show.
    #[strum(serialize = "grants by ACL")]
    Acl,
    /// Reports every recording to others, and may start a program that copies it.
    #[strum(serialize = "notifications")]
    Notifications,
    /// Lists every recording into another bucket.
    #[strum(serialize = "inventories")]
    Inventory,
    /// Writes each request for a recording, with its author, into another bucket.
    #[strum(serialize = "access logging")]
    Logging,
}

/// Reason that the operator cannot read a forbidden subresource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnreadableReason {
    /// The operator lacks the right.
    Denied,
    /// The store took the request for another one.
    UnexpectedAnswer,
}

/// Configuration that a Site's bucket has if the store supports it.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::Display,
    strum::VariantArray,
)]
#[serde(rename_all = "camelCase")]
pub enum RequiredSubresource {
    #[strum(serialize = "public access block")]
    PublicAccessBlock,
    /// The store encrypts objects that come without encryption headers, with its own key (`AES256`) or with a key of the
    /// organisation.
    #[strum(serialize = "default encryption")]
    Encryption,
    /// The bucket's owner owns every object, and ACLs have no effect.
    #[strum(serialize = "object ownership")]
    Ownership,
}

/// State of a required subresource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubresourceState {
    Compliant,
    /// Stronger than required; its value. The operator does not change it: organisations demand it, and restore it by rule.
    Stronger(&'static str),
    /// Different; its value, or [`UNSET`].
    Differs(String),
    /// The store does not have it.
    Unsupported,
    /// The operator lacks the right to read it.
    Denied,
}

/// Value of a required subresource that the bucket does not have.
pub(crate) const UNSET: &str = "none";

/// Fixed properties of a required subresource.
pub(crate) struct RequiredInfo {
    pub(crate) subresource: Subresource,
    /// The required value, as it is read.
    pub(crate) value: &'static str,
    /// Values that are stronger than required.
    stronger: &'static [&'static str],
    /// Consequence for a bucket that does not have it.
    pub(crate) consequence: &'static str,
}

/// All forbidden and required subresources of a bucket, as read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subresources {
    pub(crate) forbidden: BTreeSet<ForbiddenSubresource>,
    pub(crate) unreadable: BTreeMap<ForbiddenSubresource, UnreadableReason>,
    pub(crate) required: BTreeMap<RequiredSubresource, SubresourceState>,
}

/// A value of the store, or the reason that there is none.
type Answer<T> = Result<T, NoValue>;

enum NoValue {
    Absent,
    /// The store does not know the operation.
    Unsupported,
    /// The operator lacks the right.
    Denied,
    /// The store took the request for another one.
    Unexpected,
}

/// Reads all forbidden and required subresources.
pub(crate) async fn read(store: &BucketClient) -> Result<Subresources, StoreError> {
    let mut found = Subresources::default();
    let forbidden = ForbiddenSubresource::VARIANTS;
    let answers = try_join_all(forbidden.iter().map(|it| it.read(store))).await?;
    for (subresource, answer) in forbidden.iter().zip(answers) {
        let unreadable = match answer {
            Ok(true) => {
                found.forbidden.insert(*subresource);
                continue;
            }
            Ok(false) | Err(NoValue::Absent | NoValue::Unsupported) => continue,
            Err(NoValue::Denied) => UnreadableReason::Denied,
            Err(NoValue::Unexpected) => UnreadableReason::UnexpectedAnswer,
        };
        found.unreadable.insert(*subresource, unreadable);
    }
    let required = RequiredSubresource::VARIANTS;
    let answers = try_join_all(required.iter().map(|it| it.read(store))).await?;
    let states = required.iter().zip(answers).map(|(it, answer)| (*it, it.state(answer)));
    found.required = states.collect();
    Ok(found)
}

/// Separates answers about the subresource from errors, after which the read can be repeated.
fn classify<T>(answer: Result<T, StoreError>) -> Result<Answer<T>, StoreError> {
    match answer {
        Ok(answer) => Ok(Ok(answer)),
        Err(error) if !error.is_rejection() => Err(error),
        Err(error) if error.is_not_found() => Ok(Err(NoValue::Absent)),
        Err(error) if error.is_unsupported() => Ok(Err(NoValue::Unsupported)),
        Err(error) if error.is_denied() => Ok(Err(NoValue::Denied)),
        // Some stores answer an unknown subresource with a listing, others with a code of their own and status 400.
        Err(error) if error.is_unexpected_answer() || error.has_status(400) => Ok(Err(NoValue::Unexpected)),
        Err(error) => Err(error),
    }
}

impl ForbiddenSubresource {
    /// Returns whether the bucket has it.
    async fn read(self, store: &BucketClient) -> Result<Answer<bool>, StoreError> {
        Ok(match self {
            Self::Cors => classify(send!(store, "GetBucketCors", get_bucket_cors()))?
                .map(|answer| !answer.cors_rules().is_empty()),
            Self::Replication => classify(send!(store, "GetBucketReplication", get_bucket_replication()))?
                .map(|answer| answer.replication_configuration().is_some_and(|it| !it.rules().is_empty())),
            Self::Website => {
                classify(send!(store, "GetBucketWebsite", get_bucket_website()))?.map(|answer| {
                    answer.index_document().is_some() || answer.redirect_all_requests_to().is_some()
                })
            }
            Self::Acl => classify(send!(store, "GetBucketAcl", get_bucket_acl()))?
                .map(|answer| has_foreign_grants(&answer)),
            Self::Notifications => {
                let operation = "GetBucketNotificationConfiguration";
                classify(send!(store, operation, get_bucket_notification_configuration()))?.map(|answer| {
                    !answer.topic_configurations().is_empty()
                        || !answer.queue_configurations().is_empty()
                        || !answer.lambda_function_configurations().is_empty()
                        || answer.event_bridge_configuration().is_some()
                })
            }
            Self::Inventory => {
                let operation = "ListBucketInventoryConfigurations";
                classify(send!(store, operation, list_bucket_inventory_configurations()))?
                    .map(|answer| !answer.inventory_configuration_list().is_empty())
            }
            Self::Logging => classify(send!(store, "GetBucketLogging", get_bucket_logging()))?
                .map(|answer| answer.logging_enabled().is_some()),
        })
    }

    /// Removes it from the bucket.
    pub(crate) async fn remove(self, store: &BucketClient) -> Result<(), StoreError> {
        match self {
            Self::Cors => _ = send!(store, "DeleteBucketCors", delete_bucket_cors())?,
            Self::Replication => _ = send!(store, "DeleteBucketReplication", delete_bucket_replication())?,
            Self::Website => _ = send!(store, "DeleteBucketWebsite", delete_bucket_website())?,
            // S3 has no request that deletes ACLs, notifications or logging: an empty configuration replaces them.
            Self::Acl => _ = send!(store, "PutBucketAcl", put_bucket_acl().acl(BucketCannedAcl::Private))?,
            Self::Notifications => {
                let (operation, none) =
                    ("PutBucketNotificationConfiguration", NotificationConfiguration::builder().build());
                send!(
                    store,
                    operation,
                    put_bucket_notification_configuration().notification_configuration(none)
                )?;
            }
            Self::Inventory => remove_inventories(store).await?,
            Self::Logging => {
                let none = BucketLoggingStatus::builder().build();
                send!(store, "PutBucketLogging", put_bucket_logging().bucket_logging_status(none))?;
            }
        }
        Ok(())
    }
}

/// Returns whether an ACL grants anything to anybody but the bucket's owner.
fn has_foreign_grants(acl: &GetBucketAclOutput) -> bool {
    let owner = acl.owner().and_then(|owner| owner.id());
    let grantees: Vec<_> = acl.grants().iter().map(|grant| grant.grantee()).collect();
    // Stores without ACLs answer with one grant to an empty grantee.
    let is_dummy = matches!(grantees.as_slice(), [one] if one.is_none_or(is_unnamed));
    !is_dummy && !grantees.iter().all(|grantee| grantee.and_then(|grantee| grantee.id()) == owner)
}

/// Returns whether a grantee has neither an id nor a group nor an address.
fn is_unnamed(grantee: &Grantee) -> bool {
    let is_absent = |name: Option<&str>| name.is_none_or(str::is_empty);
    is_absent(grantee.id()) && is_absent(grantee.uri()) && is_absent(grantee.email_address())
}

async fn remove_inventories(store: &BucketClient) -> Result<(), StoreError> {
    let (list, delete) = ("ListBucketInventoryConfigurations", "DeleteBucketInventoryConfiguration");
    let answer = send!(store, list, list_bucket_inventory_configurations())?;
    // Only an id from the listing: some stores take the deletion of an unknown inventory for that of the bucket.
    for inventory in answer.inventory_configuration_list() {
        send!(store, delete, delete_bucket_inventory_configuration().id(inventory.id()))?;
    }
    Ok(())
}

impl RequiredSubresource {
    pub(crate) const fn info(self) -> RequiredInfo {
        match self {
            Self::PublicAccessBlock => RequiredInfo {
                subresource: Subresource::PublicAccessBlock,
                value: "all",
                stronger: &[],
                consequence: "only the bucket policy prevents access by wildcard",
            },
            Self::Encryption => RequiredInfo {
                subresource: Subresource::DefaultEncryption,
                value: "AES256",
                stronger: &["aws:kms", "aws:kms:dsse"],
                consequence: "the store decides whether it encrypts recordings at rest",
            },
            Self::Ownership => RequiredInfo {
                subresource: Subresource::ObjectOwnership,
                value: "BucketOwnerEnforced",
                stronger: &[],
                consequence: "an object may belong to its writer, and only the bucket policy prevents changes of its ACL",
            },
        }
    }

    fn state(self, answer: Answer<String>) -> SubresourceState {
        let info = self.info();
        match answer {
            Ok(value) if value == info.value => SubresourceState::Compliant,
            Ok(value) => match info.stronger.iter().find(|stronger| **stronger == value) {
                Some(stronger) => SubresourceState::Stronger(stronger),
                None => SubresourceState::Differs(value),
            },
            Err(NoValue::Absent) => SubresourceState::Differs(UNSET.to_owned()),
            // Setting it would fail at every reconcile, so this is only a limitation.
            Err(NoValue::Unsupported | NoValue::Unexpected) => SubresourceState::Unsupported,
            Err(NoValue::Denied) => SubresourceState::Denied,
        }
    }

    /// Returns its value in words of this crate: the store's own words never reach a status.
    async fn read(self, store: &BucketClient) -> Result<Answer<String>, StoreError> {
        Ok(match self {
            Self::PublicAccessBlock => {
                classify(send!(store, "GetPublicAccessBlock", get_public_access_block()))?.map(|answer| {
                    match answer.public_access_block_configuration().map_or(0, count_blocks) {
                        4 => "all".to_owned(),
                        0 => UNSET.to_owned(),
                        some => format!("{some} of 4"),
                    }
                })
            }
            Self::Encryption => {
                classify(send!(store, "GetBucketEncryption", get_bucket_encryption()))?.map(|answer| {
                    let rules =
                        answer.server_side_encryption_configuration().map_or(&[][..], |it| it.rules());
                    let default =
                        rules.iter().find_map(|rule| rule.apply_server_side_encryption_by_default());
                    match default.map(ServerSideEncryptionByDefault::sse_algorithm) {
                        None => UNSET,
                        Some(ServerSideEncryption::Aes256) => "AES256",
                        Some(ServerSideEncryption::AwsKms) => "aws:kms",
                        Some(ServerSideEncryption::AwsKmsDsse) => "aws:kms:dsse",
                        Some(_) => "in another way",
                    }
                    .to_owned()
                })
            }
            Self::Ownership => {
                let operation = "GetBucketOwnershipControls";
                classify(send!(store, operation, get_bucket_ownership_controls()))?.map(|answer| {
                    let rules = answer.ownership_controls().map_or(&[][..], OwnershipControls::rules);
                    match rules.first().map(OwnershipControlsRule::object_ownership) {
                        None => UNSET,
                        Some(ObjectOwnership::BucketOwnerEnforced) => "BucketOwnerEnforced",
                        Some(ObjectOwnership::BucketOwnerPreferred) => "BucketOwnerPreferred",
                        Some(ObjectOwnership::ObjectWriter) => "ObjectWriter",
                        Some(_) => "another",
                    }
                    .to_owned()
                })
            }
        })
    }

    /// Sets it to the required value.
    pub(crate) async fn set(self, store: &BucketClient) -> Result<(), StoreError> {
        match self {
            Self::PublicAccessBlock => {
                let all = PublicAccessBlockConfiguration::builder()
                    .block_public_acls(true)
                    .ignore_public_acls(true)
                    .block_public_policy(true)
                    .restrict_public_buckets(true)
                    .build();
                let operation = "PutPublicAccessBlock";
                send!(store, operation, put_public_access_block().public_access_block_configuration(all))?;
            }
            Self::Encryption => {
                let operation = "PutBucketEncryption";
                let aes =
                    ServerSideEncryptionByDefault::builder().sse_algorithm(ServerSideEncryption::Aes256);
                let aes = aes.build().map_err(|_| invalid_request(operation))?;
                let rule = ServerSideEncryptionRule::builder().apply_server_side_encryption_by_default(aes);
                let rules = ServerSideEncryptionConfiguration::builder().rules(rule.build()).build().ok();
                send!(
                    store,
                    operation,
                    put_bucket_encryption().set_server_side_encryption_configuration(rules)
                )?;
            }
            Self::Ownership => {
                let operation = "PutBucketOwnershipControls";
                let rule =
                    OwnershipControlsRule::builder().object_ownership(ObjectOwnership::BucketOwnerEnforced);
                let rule = rule.build().map_err(|_| invalid_request(operation))?;
                let controls = OwnershipControls::builder().rules(rule).build().ok();
                send!(store, operation, put_bucket_ownership_controls().set_ownership_controls(controls))?;
            }
        }
        Ok(())
    }
}

/// Returns the number of blocks that are on.
fn count_blocks(block: &PublicAccessBlockConfiguration) -> usize {
    let blocks = [
        block.block_public_acls(),
        block.ignore_public_acls(),
        block.block_public_policy(),
        block.restrict_public_buckets(),
    ];
    blocks.iter().filter(|it| **it == Some(true)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::s3::stub::Stub;

    #[tokio::test]
    async fn single_empty_grant_is_not_a_foreign_acl() {
        let canonical = |id: &str| format!("<Grantee xsi:type=\"CanonicalUser\">{id}</Grantee>");
        let group = "<Grantee xsi:type=\"Group\"><URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee>";
        let mail =
            "<Grantee xsi:type=\"AmazonCustomerByEmail\"><EmailAddress>a@b.nl</EmailAddress></Grantee>";
        for (grantees, is_foreign) in [
            (vec![canonical("<ID>owner</ID>")], false),
            (vec![canonical("")], false),
            (vec![canonical("<ID></ID>")], false),
            (vec![canonical("<ID>other</ID>")], true),
            (vec![canonical(""), canonical("<ID>other</ID>")], true),
            (vec![canonical(""), canonical("")], true),
            (vec![group.to_owned()], true),
            (vec![mail.to_owned()], true),
            (vec![], false),
        ] {
            let grants = grantees.iter().fold(String::new(), |all, grantee| {
                format!("{all}<Grant>{grantee}<Permission>FULL_CONTROL</Permission></Grant>")
            });
            let text = format!(
                "<AccessControlPolicy xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><Owner><ID>owner</ID></Owner>\
                 <AccessControlList>{grants}</AccessControlList></AccessControlPolicy>"
            );
            let stub = Stub::start(move |_| (200, text.clone())).await;
            let answer = ForbiddenSubresource::Acl.read(&stub.store()).await.unwrap();
            assert!(matches!(answer, Ok(found) if found == is_foreign), "{grantees:?}");
        }
    }
}
