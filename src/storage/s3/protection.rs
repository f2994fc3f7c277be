//! Legal hold and tag of a version. No listing shows them, so each costs a request.

use aws_sdk_s3::types::{ObjectLockLegalHold, ObjectLockLegalHoldStatus, Tag, Tagging};

use super::client::BucketClient;
use super::error::StoreError;
use super::listing;
use super::send::send;
use crate::rules::{Protection, RetentionTag, TAG_KEY, VersionRef};

/// Pages of the listing that finds one version of a key.
const MAX_VERSION_PAGES: usize = 100;
/// Codes for a version that has no legal hold, or is gone. Other codes prove nothing: a proxy that answers 400 to
/// everything must not prove that a hold is off.
const NO_LEGAL_HOLD_CODES: [&str; 6] = [
    "NoSuchObjectLockConfiguration",
    "ObjectLockConfigurationNotFoundError",
    "NoSuchObjectLegalHold",
    "NoSuchKey",
    "NoSuchVersion",
    // Ceph and SeaweedFS, on a bucket without Object Lock.
    "InvalidRequest",
];

/// Reads legal hold and tag. `None`: the version is gone.
pub(crate) async fn read(
    store: &BucketClient,
    version: &VersionRef,
) -> Result<Option<Protection>, StoreError> {
    let (tag, legal_hold) = futures::join!(read_tag(store, version), has_legal_hold(store, version));
    // `has_legal_hold` also answers `false` for a version that is gone, so the tag's read decides which it is.
    Ok(match tag? {
        Some(tag) => Some(Protection { legal_hold: legal_hold?, tag }),
        None => None,
    })
}

/// Reads the tag. The inner `None`: no tag, or several. `None`: the version is gone.
pub(crate) async fn read_tag(
    store: &BucketClient,
    version: &VersionRef,
) -> Result<Option<Option<RetentionTag>>, StoreError> {
    let request =
        send!(store, "GetObjectTagging", get_object_tagging().key(&version.key).version_id(&version.id));
    match request {
        Ok(answer) => Ok(Some(match answer.tag_set() {
            [tag] if tag.key() == TAG_KEY => tag.value().parse().ok(),
            _ => None,
        })),
        // Answer of some stores for a version without tags. Others use codes with another meaning elsewhere.
        Err(error) if error.code == "NoSuchTagSet" => Ok(Some(None)),
        Err(error) if error.is_not_found() => Ok(is_listed(store, version).await?.then_some(None)),
        Err(error) => Err(error),
    }
}

/// Returns whether a listing has the version.
pub(crate) async fn is_listed(store: &BucketClient, version: &VersionRef) -> Result<bool, StoreError> {
    let listed = listing::list_all(store, &version.key, MAX_VERSION_PAGES).await?;
    Ok(listed.iter().any(|listed| listed.key == version.key && listed.id == version.id))
}

/// Replaces the tags of a version with this one.
pub(crate) async fn write_tag(
    store: &BucketClient,
    version: &VersionRef,
    tag: RetentionTag,
) -> Result<(), StoreError> {
    let one = Tag::builder().key(TAG_KEY).value(tag.as_str()).build().ok();
    let tags = Tagging::builder().set_tag_set(one.map(|tag| vec![tag])).build().ok();
    send!(
        store,
        "PutObjectTagging",
        put_object_tagging().key(&version.key).version_id(&version.id).set_tagging(tags)
    )
    .map(|_| ())
}

/// Sets or removes the legal hold of a version.
pub(crate) async fn write_legal_hold(
    store: &BucketClient,
    version: &VersionRef,
    on: bool,
) -> Result<(), StoreError> {
    let status = if on { ObjectLockLegalHoldStatus::On } else { ObjectLockLegalHoldStatus::Off };
    let hold = ObjectLockLegalHold::builder().status(status).build();
    send!(
        store,
        "PutObjectLegalHold",
        put_object_legal_hold().key(&version.key).version_id(&version.id).legal_hold(hold)
    )
    .map(|_| ())
}

/// Returns whether a version has a legal hold.
pub(crate) async fn has_legal_hold(store: &BucketClient, version: &VersionRef) -> Result<bool, StoreError> {
    let operation = "GetObjectLegalHold";
    match send!(store, operation, get_object_legal_hold().key(&version.key).version_id(&version.id)) {
        Ok(answer) => match answer.legal_hold().and_then(ObjectLockLegalHold::status) {
            Some(ObjectLockLegalHoldStatus::On) => Ok(true),
            Some(ObjectLockLegalHoldStatus::Off) => Ok(false),
            // A truncated answer does not prove that there is none.
            _ => Err(StoreError { operation, code: "UnreadableAnswer".into(), status: Some(200) }),
        },
        Err(error) => {
            if !error.is_rejection() || !NO_LEGAL_HOLD_CODES.contains(&error.code.as_str()) {
                return Err(error);
            }
            // Only a listing proves that the version is gone. For a listed version, these codes prove nothing.
            let is_gone = matches!(error.code.as_str(), "NoSuchKey" | "NoSuchVersion");
            if is_gone && is_listed(store, version).await? {
                return Err(error);
            }
            Ok(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::ListedVersion;
    use crate::storage::s3::stub::{Stub, error_answer, legal_hold, listed, versions_answer};

    fn version() -> VersionRef {
        VersionRef { key: "video/a".into(), id: "1".into(), is_marker: false }
    }

    fn listed_version(id: &str) -> ListedVersion {
        listed("video/a", id, jiff::Timestamp::UNIX_EPOCH)
    }

    #[tokio::test]
    async fn only_known_codes_mean_no_legal_hold() {
        let status = |on: &str| (200, legal_hold(on));
        let cases = [
            (status("ON"), Some(true)),
            (status("OFF"), Some(false)),
            (error_answer(404, "NoSuchObjectLockConfiguration"), Some(false)),
            (error_answer(404, "ObjectLockConfigurationNotFoundError"), Some(false)),
            (error_answer(400, "InvalidRequest"), Some(false)),
            (error_answer(400, "BadRequest"), None),
            (error_answer(400, "InvalidArgument"), None),
            (error_answer(404, "NoSuchBucket"), None),
            (error_answer(403, "AccessDenied"), None),
            // From a proxy.
            ((400, "<html>Bad Request</html>".to_owned()), None),
            ((404, String::new()), None),
        ];
        for (answer, expected) in cases {
            let name = format!("{answer:?}");
            let stub = Stub::start(move |_| answer.clone()).await;
            assert_eq!(has_legal_hold(&stub.store(), &version()).await.ok(), expected, "{name}");
        }
    }

    /// For a listed version, these codes prove nothing.
    #[tokio::test]
    async fn missing_version_has_no_legal_hold_only_if_unlisted() {
        for code in ["NoSuchKey", "NoSuchVersion"] {
            for (listed, expected) in [(Some("1"), None), (Some("2"), Some(false)), (None, Some(false))] {
                let listed: Vec<ListedVersion> = listed.into_iter().map(listed_version).collect();
                let stub = Stub::start(move |asked| match asked.query_parameter("legal-hold") {
                    Some(_) => error_answer(404, code),
                    None => versions_answer(asked, &listed),
                })
                .await;
                let answer = has_legal_hold(&stub.store(), &version()).await;
                assert_eq!(answer.ok(), expected, "{code}");
            }
        }
    }

    /// Error codes of stores differ. Only a listing proves that a version is gone.
    #[tokio::test]
    async fn version_without_tags_is_gone_only_if_unlisted() {
        let cases = [
            ((404, "NoSuchTagSet"), None, Some(Some(None))),
            ((404, "NoSuchTagSetError"), Some("1"), Some(Some(None))),
            ((404, "NoSuchKey"), Some("1"), Some(Some(None))),
            ((404, "NoSuchKey"), Some("2"), Some(None)),
            ((404, "NoSuchVersion"), None, Some(None)),
            ((403, "AccessDenied"), Some("1"), None),
            ((400, "InvalidRequest"), Some("1"), None),
        ];
        for ((status, code), listed, expected) in cases {
            let all: Vec<ListedVersion> = listed.into_iter().map(listed_version).collect();
            let stub = Stub::start(move |asked| match asked.query_parameter("versions") {
                Some(_) => versions_answer(asked, &all),
                None => error_answer(status, code),
            })
            .await;
            let found = read_tag(&stub.store(), &version()).await;
            assert_eq!(found.ok(), expected, "{status} {code} {listed:?}");
        }
    }
}
