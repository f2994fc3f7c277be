//! The least that a program with the same SDK must do to see what an audit sees: a bare loop.

use aws_sdk_s3::Client;
use futures::{StreamExt, stream};
use toezicht::wire::StorageTarget;

use crate::Measurement;
use crate::bed::{HELD_CAMERA, measure, sdk_client};

/// As many as the audit has under way.
const MAX_CONCURRENT_READS: usize = 32;

/// Lists all versions and looks at none; with `reads`, reads tag and legal hold of those of the held camera, which it is
/// told.
pub async fn list_all(target: &StorageTarget, reads: bool) -> Measurement {
    let client = sdk_client(target, None);
    measure(async {
        let (mut count, mut key, mut id) = (0, None, None);
        loop {
            let list = client.list_object_versions().bucket(&target.bucket);
            let list = list.set_key_marker(key).set_version_id_marker(id);
            let page = list.send().await.unwrap();
            let of_video =
                page.versions().iter().filter(|version| version.key().unwrap().starts_with("video/"));
            count += of_video.count();
            if reads {
                let held =
                    page.versions().iter().filter(|version| version.key().unwrap().contains(HELD_CAMERA));
                let held = held.map(|version| {
                    read_protection(&client, &target.bucket, version.key(), version.version_id())
                });
                let held: Vec<_> = held.collect();
                stream::iter(held).buffer_unordered(MAX_CONCURRENT_READS).collect::<Vec<()>>().await;
            }
            if page.is_truncated() != Some(true) {
                return count;
            }
            key = page.next_key_marker().map(str::to_owned);
            id = page.next_version_id_marker().map(str::to_owned);
        }
    })
    .await
}

async fn read_protection(client: &Client, bucket: &str, key: Option<&str>, id: Option<&str>) {
    let (key, id) = (key.unwrap(), id.unwrap());
    let tag = client.get_object_tagging().bucket(bucket).key(key).version_id(id).send();
    let hold = client.get_object_legal_hold().bucket(bucket).key(key).version_id(id).send();
    let (tag, hold) = futures::join!(tag, hold);
    drop((tag.unwrap(), hold.unwrap()));
}
