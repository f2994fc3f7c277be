//! Whether a bucket has objects that are no recordings of ours: asked before one that nobody claimed is adopted.

use super::client::Store;
use super::error::StoreError;
use super::key::{Class, Key};

/// What we write beside recordings.
const OWN: [&str; 2] = ["ledger/", "probe/"];
/// As many keys as one request tells. At the top level of a bucket of ours stand four names, so that all are seen;
/// below them a key of another form may be missed here, and the audit, which reads everything, finds it.
const MOST: i32 = 1000;

/// Whether there is such an object, hidden or not.
pub(crate) async fn objects(store: &Store) -> Result<bool, StoreError> {
    let top = keys(store, None).await?;
    if top.iter().any(|name| !is_ours(name)) {
        return Ok(true);
    }
    for class in Class::ALL {
        let is_there = top.iter().any(|name| name.starts_with(class.prefix()));
        if is_there
            && keys(store, Some(class))
                .await?
                .iter()
                .any(|key| !is_recording(key))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The names at the top of the bucket, or keys of a class, of all versions and delete markers.
async fn keys(store: &Store, class: Option<Class>) -> Result<Vec<String>, StoreError> {
    let request = store
        .client
        .list_object_versions()
        .bucket(&store.bucket)
        .max_keys(MOST);
    let request = match class {
        None => request.delimiter("/"),
        Some(class) => request.prefix(class.prefix()),
    };
    let page = request
        .send()
        .await
        .map_err(|error| StoreError::of("ListObjectVersions", &error))?;
    let versions = page.versions().iter().map(|version| version.key());
    let markers = page.delete_markers().iter().map(|marker| marker.key());
    let names = page.common_prefixes().iter().map(|name| name.prefix());
    Ok(versions
        .chain(markers)
        .chain(names)
        .flatten()
        .map(str::to_owned)
        .collect())
}

/// Of a name at the top, or a whole key where the store does not know of levels.
fn is_ours(name: &str) -> bool {
    OWN.iter().any(|own| name.starts_with(own))
        || Class::ALL.iter().any(|class| name == class.prefix())
        || is_recording(name)
}

fn is_recording(key: &str) -> bool {
    key.parse::<Key>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_what_has_our_form() {
        let recording = "video/receptie/2026/03/07/080910.011Z-60033-abababababababab.mp4";
        for name in [
            "video/",
            "calls/",
            "ledger/",
            "probe/",
            "ledger/owner.json",
            recording,
        ] {
            assert!(is_ours(name), "{name}");
        }
        for name in [
            "",
            "their/",
            "root",
            "videos/",
            "video",
            "video/x.mp4",
            "/video/",
            "Ledger/",
        ] {
            assert!(!is_ours(name), "{name}");
        }
    }
}
