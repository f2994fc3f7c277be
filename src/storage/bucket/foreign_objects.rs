//! Objects in a bucket that are not this Site's. The operator looks for them before it adopts an unclaimed bucket.

use crate::rules::{Class, Key};
use crate::storage::s3::listing::VersionPage;
use crate::storage::s3::send::store_error;
use crate::storage::s3::{BucketClient, ListQuery, StoreError, list_page};

const OWN_PREFIXES: [&str; 2] = ["ledger/", "probe/"];
/// Maximum number of keys of one answer. The top level of a Site's bucket has four names, so one page shows all. Below them, this
/// look may miss a foreign key, which the audit finds because it reads everything.
const MAX_KEYS: i32 = 1000;

/// Maximum number of pages of a [`scan`].
const MAX_SCAN_PAGES: usize = 100;

/// Reads pages under a prefix where others may put anything, in any order. Returns whether it read the last page: an object that
/// it did not see may still exist.
pub(crate) async fn scan(
    store: &BucketClient,
    prefix: &str,
    by_folder: bool,
    mut on_page: impl FnMut(&VersionPage),
) -> Result<bool, StoreError> {
    let mut after = None;
    for _ in 0..MAX_SCAN_PAGES {
        let query = ListQuery {
            has_delimiter: by_folder,
            after: after.as_ref(),
            is_own_key: |_| false,
            ..ListQuery::under_prefix(prefix)
        };
        let page = list_page(store, query).await?;
        on_page(&page);
        let next = page.next_folder_cursor(after.as_ref());
        if next.is_none() {
            return Ok(!page.is_truncated);
        }
        after = next;
    }
    Ok(false)
}

/// Returns whether the bucket has foreign objects, hidden or not.
pub(crate) async fn has_foreign_objects(store: &BucketClient) -> Result<bool, StoreError> {
    let top = list_keys(store, None).await?;
    if top.iter().any(|name| !is_own_key(name)) {
        return Ok(true);
    }
    // The prefixes of recordings may hold objects of other programs, too.
    for class in Class::ALL {
        let is_present = top.iter().any(|name| name.starts_with(class.prefix()));
        if is_present && list_keys(store, Some(class)).await?.iter().any(|key| !is_recording(key)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the names at the top of the bucket, or keys of a class, of all versions and delete markers.
async fn list_keys(store: &BucketClient, class: Option<Class>) -> Result<Vec<String>, StoreError> {
    let request = store.client.list_object_versions().bucket(&store.bucket).max_keys(MAX_KEYS);
    let request = match class {
        None => request.delimiter("/"),
        Some(class) => request.prefix(class.prefix()),
    };
    let page = request.send().await.map_err(store_error("ListObjectVersions"))?;
    let versions = page.versions().iter().map(|version| version.key());
    let markers = page.delete_markers().iter().map(|marker| marker.key());
    let names = page.common_prefixes().iter().map(|name| name.prefix());
    Ok(versions.chain(markers).chain(names).flatten().map(str::to_owned).collect())
}

/// Returns whether a name at the top is this Site's. A store that ignores the delimiter gives whole keys.
fn is_own_key(name: &str) -> bool {
    OWN_PREFIXES.iter().any(|own| name.starts_with(own))
        || Class::ALL.iter().any(|class| name == class.prefix())
        || is_recording(name)
}

fn is_recording(key: &str) -> bool {
    key.parse::<Key>().is_ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::storage::s3::stub::Stub;

    #[test]
    fn own_keys_match_the_layout() {
        let recording = "video/receptie/2026/03/07/080910.011Z-60033-abababababababab.mp4";
        for name in ["video/", "calls/", "ledger/", "probe/", "ledger/owner.json", recording] {
            assert!(is_own_key(name), "{name}");
        }
        for name in ["", "their/", "root", "videos/", "video", "video/x.mp4", "/video/", "Ledger/"] {
            assert!(!is_own_key(name), "{name}");
        }
    }

    /// Scans pages of one key each, as long as there are `keys`. Returns whether the scan is complete, and the keys.
    async fn scan_keys(
        keys: impl Fn(usize) -> Option<String> + Clone + Send + Sync + 'static,
    ) -> (bool, Vec<String>) {
        let requests = Arc::new(AtomicUsize::new(0));
        let stub = Stub::start(move |_| {
            let number = requests.fetch_add(1, Ordering::Relaxed);
            let key = keys(number).unwrap();
            let is_cut = keys(number + 1).is_some();
            let version = format!(
                "<Version><Key>{key}</Key><VersionId>v</VersionId><Size>1</Size>\
                 <LastModified>2026-03-07T08:09:10.000Z</LastModified></Version>"
            );
            let marker = format!("<NextKeyMarker>{key}</NextKeyMarker>");
            (
                200,
                format!(
                    "<ListVersionsResult><IsTruncated>{is_cut}</IsTruncated>{marker}{version}</ListVersionsResult>"
                ),
            )
        })
        .await;
        let mut seen = Vec::new();
        let store = stub.store();
        let is_complete = scan(&store, "probe/", false, |page| {
            seen.extend(page.versions.iter().map(|listed| listed.key.clone()));
        });
        (is_complete.await.unwrap(), seen)
    }

    #[tokio::test]
    async fn scan_is_bounded_and_reports_completeness() {
        let listed =
            |keys: &'static [&str]| move |number: usize| keys.get(number).map(|key| (*key).to_owned());
        let folders = ["probe/recorder/a-1", "probe/recorder/a/1"];
        let (is_complete, seen) = scan_keys(listed(&["probe/recorder/a-1", "probe/recorder/a/1"])).await;
        assert!(is_complete && seen == folders, "{seen:?}");
        let back = ["probe/recorder/b", "probe/recorder/a"];
        let (is_complete, seen) =
            scan_keys(listed(&["probe/recorder/b", "probe/recorder/a", "probe/recorder/c"])).await;
        assert!(!is_complete && seen == back, "{seen:?}");
        let (is_complete, seen) = scan_keys(|number| Some(format!("probe/recorder/{number:05}"))).await;
        assert_eq!((is_complete, seen.len()), (false, MAX_SCAN_PAGES));
        let (is_complete, _) = scan_keys(|_| Some("probe/\u{fffd}".to_owned())).await;
        assert!(!is_complete);
    }
}
