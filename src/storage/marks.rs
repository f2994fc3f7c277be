//! The two marks of a version that no listing shows: its legal hold and its tag. A request each.

use aws_sdk_s3::types::{Tag, Tagging};

use super::client::Store;
use super::error::StoreError;
use super::objects::Version;
use super::probe::canary::is_held;
use super::tag::{RetentionTag, TAG_KEY};

/// What a version is marked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Its legal hold is on.
    pub legal_hold: bool,
    /// Value of the one tag that it must have; `None`: it has none, or others beside it.
    pub tag: Option<RetentionTag>,
}

/// Reads both. `None`: the version is gone.
pub(crate) async fn read(store: &Store, version: &Version) -> Result<Option<Marks>, StoreError> {
    let (tag, legal_hold) = futures::join!(read_tag(store, version), is_held(store, version));
    Ok(match tag? {
        Some(tag) => Some(Marks {
            legal_hold: legal_hold?,
            tag,
        }),
        None => None,
    })
}

async fn read_tag(store: &Store, version: &Version) -> Result<Option<Option<RetentionTag>>, StoreError> {
    let request = store
        .client
        .get_object_tagging()
        .bucket(&store.bucket)
        .key(&version.key);
    match request.version_id(&version.id).send().await {
        Ok(answer) => Ok(Some(match answer.tag_set() {
            [tag] if tag.key() == TAG_KEY => tag.value().parse().ok(),
            _ => None,
        })),
        Err(error) => match StoreError::of("GetObjectTagging", &error) {
            // Some stores say so of a version without tags.
            error if error.code == "NoSuchTagSet" => Ok(Some(None)),
            error if error.is_absent() => Ok(None),
            error => Err(error),
        },
    }
}

/// Gives a version this one tag.
pub(crate) async fn write_tag(store: &Store, version: &Version, tag: RetentionTag) -> Result<(), StoreError> {
    let one = Tag::builder().key(TAG_KEY).value(tag.as_str()).build().ok();
    let tags = Tagging::builder()
        .set_tag_set(one.map(|tag| vec![tag]))
        .build()
        .ok();
    let request = store
        .client
        .put_object_tagging()
        .bucket(&store.bucket)
        .key(&version.key);
    let answer = request.version_id(&version.id).set_tagging(tags).send().await;
    answer.map_err(|error| StoreError::of("PutObjectTagging", &error))?;
    Ok(())
}
