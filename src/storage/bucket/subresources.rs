//! What a bucket can have beside lock, versioning, lifecycle and policy: what must not be there, since it copies,
//! shows or tells of recordings, and what should be there where the store has it.
//!
//! That a part may not be read, or is answered with something else, is not that it is not there. Each is told apart.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{
    Grantee, ObjectOwnership, OwnershipControls, OwnershipControlsRule, ServerSideEncryption,
    ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration,
};

use super::spec::{ForbiddenSubresource, RequiredSubresource, SubresourceState, UnreadableReason};
use crate::storage::s3::client::BucketClient;
use crate::storage::s3::error::StoreError;

/// All of it, as it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subresources {
    pub(crate) forbidden: BTreeSet<ForbiddenSubresource>,
    pub(crate) unreadable: BTreeMap<ForbiddenSubresource, UnreadableReason>,
    pub(crate) required: BTreeMap<RequiredSubresource, SubresourceState>,
}

pub(crate) async fn read(store: &BucketClient) -> Result<Subresources, StoreError> {
    let mut parts = Subresources::default();
    let (cors, replication, website, acl) =
        tokio::try_join!(read_cors(store), read_replication(store), read_website(store), read_acl(store))?;
    let (notifications, inventory, logging) =
        tokio::try_join!(read_notifications(store), read_inventory(store), read_logging(store))?;
    for (extra, answer) in [
        (ForbiddenSubresource::Cors, cors),
        (ForbiddenSubresource::Replication, replication),
        (ForbiddenSubresource::Website, website),
        (ForbiddenSubresource::Acl, acl),
        (ForbiddenSubresource::Notifications, notifications),
        (ForbiddenSubresource::Inventory, inventory),
        (ForbiddenSubresource::Logging, logging),
    ] {
        match answer {
            SubresourceAnswer::Value(true) => {
                parts.forbidden.insert(extra);
            }
            SubresourceAnswer::Value(false) | SubresourceAnswer::Absent | SubresourceAnswer::Unsupported => {}
            SubresourceAnswer::Denied => {
                parts.unreadable.insert(extra, UnreadableReason::Denied);
            }
            SubresourceAnswer::Unexpected => {
                parts.unreadable.insert(extra, UnreadableReason::UnexpectedAnswer);
            }
        }
    }
    let (block, encryption, ownership) =
        tokio::try_join!(read_public_access_block(store), read_encryption(store), read_ownership(store))?;
    for (setting, answer) in [
        (RequiredSubresource::PublicAccessBlock, block),
        (RequiredSubresource::Encryption, encryption),
        (RequiredSubresource::Ownership, ownership),
    ] {
        let state = match answer {
            SubresourceAnswer::Value(words) if words == setting.required_value() => {
                SubresourceState::Compliant
            }
            SubresourceAnswer::Value(words) => {
                match setting.stronger_values().iter().find(|stronger| **stronger == words) {
                    Some(stronger) => SubresourceState::Stronger(stronger),
                    None => SubresourceState::Differs(words),
                }
            }
            SubresourceAnswer::Absent => SubresourceState::Differs(UNSET.to_owned()),
            SubresourceAnswer::Unsupported | SubresourceAnswer::Unexpected => SubresourceState::Unsupported,
            SubresourceAnswer::Denied => SubresourceState::Denied,
        };
        parts.required.insert(setting, state);
    }
    Ok(parts)
}

pub(crate) const UNSET: &str = "none";

impl RequiredSubresource {
    /// What it must be, in the words in which it is read.
    pub(crate) fn required_value(self) -> &'static str {
        match self {
            Self::PublicAccessBlock => "all",
            Self::Encryption => "AES256",
            Self::Ownership => "BucketOwnerEnforced",
        }
    }

    /// What is stronger than required: organisations demand it, and put it back by rule.
    fn stronger_values(self) -> &'static [&'static str] {
        match self {
            Self::Encryption => &["aws:kms", "aws:kms:dsse"],
            Self::PublicAccessBlock | Self::Ownership => &[],
        }
    }
}

enum SubresourceAnswer<T> {
    Value(T),
    Absent,
    /// The store does not have such a thing.
    Unsupported,
    /// It may not be read.
    Denied,
    /// The answer is to another question.
    Unexpected,
}

impl<T> SubresourceAnswer<T> {
    fn map<U>(self, how: impl FnOnce(T) -> U) -> SubresourceAnswer<U> {
        match self {
            Self::Value(answer) => SubresourceAnswer::Value(how(answer)),
            Self::Absent => SubresourceAnswer::Absent,
            Self::Unsupported => SubresourceAnswer::Unsupported,
            Self::Denied => SubresourceAnswer::Denied,
            Self::Unexpected => SubresourceAnswer::Unexpected,
        }
    }
}

/// What an answer, or the lack of one, says. An error: it says nothing, and may be asked for again.
fn classify_answer<T, E>(
    operation: &'static str,
    answer: Result<T, SdkError<E>>,
) -> Result<SubresourceAnswer<T>, StoreError>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match answer.map_err(|error| StoreError::from_sdk(operation, &error)) {
        Ok(answer) => Ok(SubresourceAnswer::Value(answer)),
        Err(error) if !error.is_rejection() => Err(error),
        Err(error) if error.is_not_found() => Ok(SubresourceAnswer::Absent),
        Err(error) if error.is_unsupported() => Ok(SubresourceAnswer::Unsupported),
        Err(error) if error.is_denied() => Ok(SubresourceAnswer::Denied),
        // Some take what they do not know for a listing, others refuse it in words of their own.
        Err(error) if error.is_unexpected_answer() || error.has_status(400) => {
            Ok(SubresourceAnswer::Unexpected)
        }
        Err(error) => Err(error),
    }
}

async fn read_cors(store: &BucketClient) -> Result<SubresourceAnswer<bool>, StoreError> {
    let answer = store.client.get_bucket_cors().bucket(&store.bucket).send().await;
    Ok(classify_answer("GetBucketCors", answer)?.map(|answer| !answer.cors_rules().is_empty()))
}

async fn read_replication(store: &BucketClient) -> Result<SubresourceAnswer<bool>, StoreError> {
    let answer = store.client.get_bucket_replication().bucket(&store.bucket).send().await;
    Ok(classify_answer("GetBucketReplication", answer)?.map(|answer| {
        let configuration = answer.replication_configuration();
        configuration.is_some_and(|configuration| !configuration.rules().is_empty())
    }))
}

async fn read_website(store: &BucketClient) -> Result<SubresourceAnswer<bool>, StoreError> {
    let answer = store.client.get_bucket_website().bucket(&store.bucket).send().await;
    Ok(classify_answer("GetBucketWebsite", answer)?
        .map(|answer| answer.index_document().is_some() || answer.redirect_all_requests_to().is_some()))
}

async fn read_acl(store: &BucketClient) -> Result<SubresourceAnswer<bool>, StoreError> {
    let answer = store.client.get_bucket_acl().bucket(&store.bucket).send().await;
    Ok(classify_answer("GetBucketAcl", answer)?.map(|acl| {
        let owner = acl.owner().and_then(|owner| owner.id());
        let grantees: Vec<_> = acl.grants().iter().map(|grant| grant.grantee()).collect();
        // Some stores answer with one grant to nobody: they keep no ACLs.
        let is_dummy = matches!(grantees.as_slice(), [one] if one.is_none_or(is_unnamed));
        !is_dummy && !grantees.iter().all(|grantee| grantee.and_then(|grantee| grantee.id()) == owner)
    }))
}

/// Whether a grantee is named in no way: neither by id nor as a group nor by address.
fn is_unnamed(grantee: &Grantee) -> bool {
    let is_absent = |name: Option<&str>| name.is_none_or(str::is_empty);
    is_absent(grantee.id()) && is_absent(grantee.uri()) && is_absent(grantee.email_address())
}

async fn read_notifications(store: &BucketClient) -> Result<SubresourceAnswer<bool>, StoreError> {
    let request = store.client.get_bucket_notification_configuration();
    let answer = request.bucket(&store.bucket).send().await;
    Ok(classify_answer("GetBucketNotificationConfiguration", answer)?.map(|answer| {
        !answer.topic_configurations().is_empty()
            || !answer.queue_configurations().is_empty()
            || !answer.lambda_function_configurations().is_empty()
            || answer.event_bridge_configuration().is_some()
    }))
}

async fn read_inventory(store: &BucketClient) -> Result<SubresourceAnswer<bool>, StoreError> {
    let request = store.client.list_bucket_inventory_configurations();
    let answer = request.bucket(&store.bucket).send().await;
    Ok(classify_answer("ListBucketInventoryConfigurations", answer)?
        .map(|answer| !answer.inventory_configuration_list().is_empty()))
}

async fn read_logging(store: &BucketClient) -> Result<SubresourceAnswer<bool>, StoreError> {
    let answer = store.client.get_bucket_logging().bucket(&store.bucket).send().await;
    Ok(classify_answer("GetBucketLogging", answer)?.map(|answer| answer.logging_enabled().is_some()))
}

async fn read_public_access_block(store: &BucketClient) -> Result<SubresourceAnswer<String>, StoreError> {
    let answer = store.client.get_public_access_block().bucket(&store.bucket).send().await;
    Ok(classify_answer("GetPublicAccessBlock", answer)?.map(|answer| {
        let block = answer.public_access_block_configuration();
        let parts = block.map(|block| {
            [
                block.block_public_acls(),
                block.ignore_public_acls(),
                block.block_public_policy(),
                block.restrict_public_buckets(),
            ]
        });
        let parts = parts.into_iter().flatten();
        match parts.filter(|part| *part == Some(true)).count() {
            4 => "all".to_owned(),
            0 => UNSET.to_owned(),
            some => format!("{some} of 4"),
        }
    }))
}

async fn read_encryption(store: &BucketClient) -> Result<SubresourceAnswer<String>, StoreError> {
    let answer = store.client.get_bucket_encryption().bucket(&store.bucket).send().await;
    Ok(classify_answer("GetBucketEncryption", answer)?.map(|answer| {
        let rules =
            answer.server_side_encryption_configuration().map(ServerSideEncryptionConfiguration::rules);
        let defaults =
            rules.unwrap_or_default().iter().find_map(|rule| rule.apply_server_side_encryption_by_default());
        match defaults.map(ServerSideEncryptionByDefault::sse_algorithm) {
            None => UNSET,
            Some(ServerSideEncryption::Aes256) => "AES256",
            Some(ServerSideEncryption::AwsKms) => "aws:kms",
            Some(ServerSideEncryption::AwsKmsDsse) => "aws:kms:dsse",
            // No word of the store's is repeated.
            Some(_) => "in another way",
        }
        .to_owned()
    }))
}

async fn read_ownership(store: &BucketClient) -> Result<SubresourceAnswer<String>, StoreError> {
    let request = store.client.get_bucket_ownership_controls();
    let answer = request.bucket(&store.bucket).send().await;
    Ok(classify_answer("GetBucketOwnershipControls", answer)?.map(|answer| {
        let rules = answer.ownership_controls().map(OwnershipControls::rules);
        match rules.unwrap_or_default().first().map(OwnershipControlsRule::object_ownership) {
            None => UNSET,
            Some(ObjectOwnership::BucketOwnerEnforced) => "BucketOwnerEnforced",
            Some(ObjectOwnership::BucketOwnerPreferred) => "BucketOwnerPreferred",
            Some(ObjectOwnership::ObjectWriter) => "ObjectWriter",
            Some(_) => "another",
        }
        .to_owned()
    }))
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
            let grants: Vec<String> = grantees
                .iter()
                .map(|grantee| format!("<Grant>{grantee}<Permission>FULL_CONTROL</Permission></Grant>"))
                .collect();
            let grants = grants.concat();
            let text = format!(
                "<AccessControlPolicy xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><Owner><ID>owner</ID></Owner>\
                 <AccessControlList>{grants}</AccessControlList></AccessControlPolicy>"
            );
            let stub = Stub::start(move |_| (200, text.clone())).await;
            let SubresourceAnswer::Value(found) = read_acl(&stub.store()).await.unwrap() else { panic!() };
            assert_eq!(found, is_foreign, "{grantees:?}");
        }
    }
}
