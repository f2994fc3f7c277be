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

use super::bucket::{Extra, Kept, Setting, Unseen};
use super::client::Store;
use super::error::StoreError;

/// All of it, as it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) foreign: BTreeSet<Extra>,
    pub(crate) unseen: BTreeMap<Extra, Unseen>,
    pub(crate) settings: BTreeMap<Setting, Kept>,
}

/// Reads it all.
pub(crate) async fn read(store: &Store) -> Result<Parts, StoreError> {
    let mut parts = Parts::default();
    let (cors, replication, website, acl) =
        tokio::try_join!(cors(store), replication(store), website(store), acl(store))?;
    let (notifications, inventory, logging) =
        tokio::try_join!(notifications(store), inventory(store), logging(store))?;
    for (extra, seen) in [
        (Extra::Cors, cors),
        (Extra::Replication, replication),
        (Extra::Website, website),
        (Extra::Acl, acl),
        (Extra::Notifications, notifications),
        (Extra::Inventory, inventory),
        (Extra::Logging, logging),
    ] {
        match seen {
            Seen::Answer(true) => {
                parts.foreign.insert(extra);
            }
            Seen::Answer(false) | Seen::Absent | Seen::Unknown => (),
            Seen::Denied => {
                parts.unseen.insert(extra, Unseen::Denied);
            }
            Seen::Other => {
                parts.unseen.insert(extra, Unseen::OtherAnswer);
            }
        }
    }
    let (block, encryption, ownership) =
        tokio::try_join!(public_access_block(store), encryption(store), ownership(store))?;
    for (setting, seen) in [
        (Setting::PublicAccessBlock, block),
        (Setting::Encryption, encryption),
        (Setting::Ownership, ownership),
    ] {
        let kept = match seen {
            Seen::Answer(words) if words == setting.required() => Kept::AsRequired,
            Seen::Answer(words) => match setting.stronger().iter().find(|stronger| **stronger == words) {
                Some(stronger) => Kept::Stronger(stronger),
                None => Kept::Otherwise(words),
            },
            Seen::Absent => Kept::Otherwise(NOTHING.to_owned()),
            Seen::Unknown | Seen::Other => Kept::Lacking,
            Seen::Denied => Kept::Denied,
        };
        parts.settings.insert(setting, kept);
    }
    Ok(parts)
}

/// A setting that nobody made.
pub(crate) const NOTHING: &str = "none";

impl Setting {
    /// What it must be, in the words in which it is read.
    pub(crate) fn required(self) -> &'static str {
        match self {
            Self::PublicAccessBlock => "all",
            Self::Encryption => "AES256",
            Self::Ownership => "BucketOwnerEnforced",
        }
    }

    /// What is stronger than required: organisations demand it, and put it back by rule.
    fn stronger(self) -> &'static [&'static str] {
        match self {
            Self::Encryption => &["aws:kms", "aws:kms:dsse"],
            Self::PublicAccessBlock | Self::Ownership => &[],
        }
    }
}

/// What came of a question.
enum Seen<T> {
    Answer(T),
    /// There is none.
    Absent,
    /// The store does not have such a thing.
    Unknown,
    /// It may not be read.
    Denied,
    /// The answer is to another question.
    Other,
}

impl<T> Seen<T> {
    fn map<U>(self, how: impl FnOnce(T) -> U) -> Seen<U> {
        match self {
            Self::Answer(answer) => Seen::Answer(how(answer)),
            Self::Absent => Seen::Absent,
            Self::Unknown => Seen::Unknown,
            Self::Denied => Seen::Denied,
            Self::Other => Seen::Other,
        }
    }
}

/// What an answer, or the lack of one, says. An error: it says nothing, and may be asked for again.
fn seen<T, E>(operation: &'static str, answer: Result<T, SdkError<E>>) -> Result<Seen<T>, StoreError>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match answer.map_err(|error| StoreError::of(operation, &error)) {
        Ok(answer) => Ok(Seen::Answer(answer)),
        Err(error) if !error.is_refusal() => Err(error),
        Err(error) if error.is_absent() => Ok(Seen::Absent),
        Err(error) if error.is_unsupported() => Ok(Seen::Unknown),
        Err(error) if error.is_denied() => Ok(Seen::Denied),
        // Some take what they do not know for a listing, others refuse it in words of their own.
        Err(error) if error.is_other_answer() || error.has_status(400) => Ok(Seen::Other),
        Err(error) => Err(error),
    }
}

async fn cors(store: &Store) -> Result<Seen<bool>, StoreError> {
    let answer = store.client.get_bucket_cors().bucket(&store.bucket).send().await;
    Ok(seen("GetBucketCors", answer)?.map(|answer| !answer.cors_rules().is_empty()))
}

async fn replication(store: &Store) -> Result<Seen<bool>, StoreError> {
    let answer = store.client.get_bucket_replication().bucket(&store.bucket).send().await;
    Ok(seen("GetBucketReplication", answer)?.map(|answer| {
        let configuration = answer.replication_configuration();
        configuration.is_some_and(|configuration| !configuration.rules().is_empty())
    }))
}

async fn website(store: &Store) -> Result<Seen<bool>, StoreError> {
    let answer = store.client.get_bucket_website().bucket(&store.bucket).send().await;
    Ok(seen("GetBucketWebsite", answer)?
        .map(|answer| answer.index_document().is_some() || answer.redirect_all_requests_to().is_some()))
}

async fn acl(store: &Store) -> Result<Seen<bool>, StoreError> {
    let answer = store.client.get_bucket_acl().bucket(&store.bucket).send().await;
    Ok(seen("GetBucketAcl", answer)?.map(|acl| {
        let owner = acl.owner().and_then(|owner| owner.id());
        let grantees: Vec<_> = acl.grants().iter().map(|grant| grant.grantee()).collect();
        // Some stores answer with one grant to nobody: they keep no ACLs.
        let is_dummy = matches!(grantees.as_slice(), [one] if one.is_none_or(is_nobody));
        !is_dummy && !grantees.iter().all(|grantee| grantee.and_then(|grantee| grantee.id()) == owner)
    }))
}

/// Whether a grantee is named in no way: neither by id nor as a group nor by address.
fn is_nobody(grantee: &Grantee) -> bool {
    let is_absent = |name: Option<&str>| name.is_none_or(str::is_empty);
    is_absent(grantee.id()) && is_absent(grantee.uri()) && is_absent(grantee.email_address())
}

async fn notifications(store: &Store) -> Result<Seen<bool>, StoreError> {
    let request = store.client.get_bucket_notification_configuration();
    let answer = request.bucket(&store.bucket).send().await;
    Ok(seen("GetBucketNotificationConfiguration", answer)?.map(|answer| {
        !answer.topic_configurations().is_empty()
            || !answer.queue_configurations().is_empty()
            || !answer.lambda_function_configurations().is_empty()
            || answer.event_bridge_configuration().is_some()
    }))
}

async fn inventory(store: &Store) -> Result<Seen<bool>, StoreError> {
    let request = store.client.list_bucket_inventory_configurations();
    let answer = request.bucket(&store.bucket).send().await;
    Ok(seen("ListBucketInventoryConfigurations", answer)?
        .map(|answer| !answer.inventory_configuration_list().is_empty()))
}

async fn logging(store: &Store) -> Result<Seen<bool>, StoreError> {
    let answer = store.client.get_bucket_logging().bucket(&store.bucket).send().await;
    Ok(seen("GetBucketLogging", answer)?.map(|answer| answer.logging_enabled().is_some()))
}

async fn public_access_block(store: &Store) -> Result<Seen<String>, StoreError> {
    let answer = store.client.get_public_access_block().bucket(&store.bucket).send().await;
    Ok(seen("GetPublicAccessBlock", answer)?.map(|answer| {
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
            0 => NOTHING.to_owned(),
            some => format!("{some} of 4"),
        }
    }))
}

async fn encryption(store: &Store) -> Result<Seen<String>, StoreError> {
    let answer = store.client.get_bucket_encryption().bucket(&store.bucket).send().await;
    Ok(seen("GetBucketEncryption", answer)?.map(|answer| {
        let rules =
            answer.server_side_encryption_configuration().map(ServerSideEncryptionConfiguration::rules);
        let defaults =
            rules.unwrap_or_default().iter().find_map(|rule| rule.apply_server_side_encryption_by_default());
        match defaults.map(ServerSideEncryptionByDefault::sse_algorithm) {
            None => NOTHING,
            Some(ServerSideEncryption::Aes256) => "AES256",
            Some(ServerSideEncryption::AwsKms) => "aws:kms",
            Some(ServerSideEncryption::AwsKmsDsse) => "aws:kms:dsse",
            // No word of the store's is repeated.
            Some(_) => "in another way",
        }
        .to_owned()
    }))
}

async fn ownership(store: &Store) -> Result<Seen<String>, StoreError> {
    let request = store.client.get_bucket_ownership_controls();
    let answer = request.bucket(&store.bucket).send().await;
    Ok(seen("GetBucketOwnershipControls", answer)?.map(|answer| {
        let rules = answer.ownership_controls().map(OwnershipControls::rules);
        match rules.unwrap_or_default().first().map(OwnershipControlsRule::object_ownership) {
            None => NOTHING,
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
    use crate::storage::stub::Stub;

    #[tokio::test]
    async fn one_grant_to_nobody_is_no_foreign_acl() {
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
            let Seen::Answer(found) = acl(&stub.store()).await.unwrap() else { panic!() };
            assert_eq!(found, is_foreign, "{grantees:?}");
        }
    }
}
