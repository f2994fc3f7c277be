//! The sources of a bucket: those that the operator has handed to recorders, and those that the store lists beside them.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::day_filter::{ForeignKeys, choose_randomly, folder_query, has_versions};
use crate::rules::recording::key::{Class, is_source_name};
use crate::storage::s3::client::BucketClient;
use crate::storage::s3::error::StoreError;
use crate::storage::s3::listing::{ListQuery, PAGE_SIZE, list_all, list_page};
use crate::storage::s3::objects;

/// Names of the sources that the operator has handed to recorders, an empty object each: `ledger/sources/{class}/{name}`.
const REGISTRY: &str = "ledger/sources/";
/// Pages of the registry: 16,000 sources.
const MAX_REGISTRY_PAGES: usize = 16;
/// Pages of folders directly under a class, in which sources are looked for that the operator does not know: 64,000.
const MAX_FOLDER_PAGES: usize = 64;
/// Names that are asked for by themselves since a store may leave them out. Where there are more, not all is known.
const MAX_SKIPPED_NAMES: usize = 256;
/// Sources that the operator does not know, visited in one pass. Others have their turn in later ones.
const MAX_UNKNOWN_SOURCES: usize = 64;

#[derive(Clone, Debug, Default)]
pub(crate) struct BucketSources {
    /// Those to visit: first the ones that the operator knows.
    pub(crate) visited: Vec<String>,
    /// Those that nobody declared, and whose turn is another pass's.
    pub(crate) deferred: Vec<String>,
    /// There are more folders under the class than are looked through.
    pub(crate) is_truncated: bool,
    /// What stands directly under the class and is no source.
    pub(crate) foreign: ForeignKeys,
}

impl BucketSources {
    /// Whether all that there are are visited.
    pub(crate) fn is_complete(&self) -> bool {
        !self.is_truncated && self.deferred.is_empty()
    }
}

/// The sources of `class`: those of the registry, those of `named`, and those that the store lists. `now` decides whose
/// turn it is among too many that nobody declared.
pub(crate) async fn list_sources(
    store: &BucketClient,
    class: Class,
    named: &BTreeSet<String>,
    now: Timestamp,
) -> Result<BucketSources, StoreError> {
    let registry = registry_prefix(class);
    let known = list_all(store, &registry, MAX_REGISTRY_PAGES).await?;
    let known = known.iter().filter_map(|listed| listed.key.strip_prefix(&registry));
    let mut known: BTreeSet<String> = known.map(str::to_owned).chain(named.iter().cloned()).collect();
    known.retain(|name| is_source_name(name));
    let ListedNames { folders, foreign, is_truncated: is_cut } =
        list_names(store, class.prefix(), PAGE_SIZE).await?;
    let unknown: Vec<String> = folders.into_iter().filter(|name| !known.contains(name)).collect();
    let (unknown, put_off) = choose_randomly(unknown, MAX_UNKNOWN_SOURCES, now);
    Ok(BucketSources {
        visited: known.into_iter().chain(unknown).collect(),
        deferred: put_off,
        is_truncated: is_cut,
        foreign,
    })
}

/// What stands directly under a prefix.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListedNames {
    /// The names of folders that a source may have, without their `/`.
    pub(crate) folders: BTreeSet<String>,
    /// Keys, and other folders.
    pub(crate) foreign: ForeignKeys,
    /// There are more folders than were looked through, or a page leads no further: what comes after it is not known.
    pub(crate) is_truncated: bool,
}

/// What stands directly under a prefix, in pages of so many.
pub(crate) async fn list_names(
    store: &BucketClient,
    prefix: &str,
    most: i32,
) -> Result<ListedNames, StoreError> {
    let (mut found, mut after, mut asked) = (ListedNames::default(), None, BTreeSet::new());
    for _ in 0..MAX_FOLDER_PAGES {
        let query = ListQuery { max_keys: most, ..folder_query(prefix, after.as_ref()) };
        let page = list_page(store, query).await?;
        page.versions.iter().for_each(|listed| found.foreign.record(&listed.key));
        for folder in &page.folders {
            let name = folder.strip_prefix(prefix).and_then(|name| name.strip_suffix('/'));
            match name.filter(|name| is_source_name(name)) {
                Some(name) => drop(found.folders.insert(name.to_owned())),
                None => found.foreign.record(folder),
            }
        }
        found.is_truncated = page.is_truncated;
        if !page.is_truncated {
            break;
        }
        let last = page.greatest_name().and_then(|last| last.strip_prefix(prefix));
        for name in skipped_names(last.unwrap_or_default()) {
            if found.folders.contains(name) || !asked.insert(name.to_owned()) {
                continue;
            }
            if asked.len() > MAX_SKIPPED_NAMES {
                return Ok(found);
            }
            if has_versions(store, &format!("{prefix}{name}/")).await? {
                found.folders.insert(name.to_owned());
            }
        }
        after = page.next_folder_cursor(after.as_ref());
        if after.is_none() {
            break;
        }
    }
    Ok(found)
}

/// Names of sources that a store may leave out after a page whose greatest name is `last`. SeaweedFS lists `a-1/` before `a/`,
/// by the bytes of keys; but what is after a marker it decides by the names of folders, and there `a` is before `a-1`. So a
/// page that ends between the two is followed by none with `a/`.
fn skipped_names(last: &str) -> impl Iterator<Item = &str> {
    let ends = last.char_indices().filter(|(_, next)| *next < '/');
    ends.filter_map(|(end, _)| last.get(..end)).filter(|name| is_source_name(name))
}

fn registry_prefix(class: Class) -> String {
    format!("{REGISTRY}{class}/")
}

/// Enters sources that the registry does not have yet, so that they are visited whatever the store lists.
pub(crate) async fn register(
    store: &BucketClient,
    class: Class,
    names: &BTreeSet<String>,
) -> Result<(), StoreError> {
    let registry = registry_prefix(class);
    let known = list_all(store, &registry, MAX_REGISTRY_PAGES).await?;
    let known: BTreeSet<&str> = known.iter().map(|listed| listed.key.as_str()).collect();
    for name in names {
        let key = format!("{registry}{name}");
        if !known.contains(key.as_str()) && is_source_name(name) {
            objects::put(store, &key, Vec::new()).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::s3::stub::Stub;

    /// A store that cannot tell control characters and lists `folders`, a page of `most` after the other.
    async fn sources_listed_as(folders: &'static [&'static str], most: usize) -> BucketSources {
        sources_listed_in_order(folders, most, false).await
    }

    /// The same; what is after a marker may be decided by the names of folders.
    async fn sources_listed_in_order(
        folders: &'static [&'static str],
        most: usize,
        by_name: bool,
    ) -> BucketSources {
        let stub = Stub::start(move |asked| {
            let of = |name: &str| asked.query_parameter(name).unwrap_or_default();
            let from = of("key-marker");
            let is_after = |folder: &str| if by_name { folder.trim_end_matches('/') >= from.as_str() } else { folder > from.as_str() };
            let rest = folders.iter().filter(|folder| is_after(folder) && folder.starts_with(&of("prefix")));
            let page: Vec<String> = rest.clone().take(most).map(|folder| folder.replace(|c: char| c.is_control() || c > '\u{fffd}', "\u{fffd}")).collect();
            let told: Vec<String> = page
                .iter()
                .map(|folder| format!("<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"))
                .collect();
            let told = told.concat();
            let is_cut = rest.count() > most;
            let next = page.last().cloned().unwrap_or_default();
            (
                200,
                format!("<ListVersionsResult><IsTruncated>{is_cut}</IsTruncated><NextKeyMarker>{next}</NextKeyMarker>{told}</ListVersionsResult>"),
            )
        })
        .await;
        list_sources(&stub.store(), Class::Calls, &BTreeSet::new(), Timestamp::UNIX_EPOCH).await.unwrap()
    }

    #[tokio::test]
    async fn unreadable_names_do_not_hide_later_sources() {
        const ALL: [&str; 5] =
            ["calls/\u{1}/", "calls/\u{2}/", "calls/balie-2/", "calls/balie/", "calls/z\u{3}/"];
        for most in 3..=5 {
            let found = sources_listed_as(&ALL, most).await;
            assert_eq!(found.visited, ["balie", "balie-2"], "{most}");
            assert!(found.is_complete(), "{most}");
        }
    }

    #[tokio::test]
    async fn page_without_progress_is_truncated() {
        const ALL: [&str; 3] = ["calls/b\u{fffe}/", "calls/b\u{ffff}/", "calls/balie/"];
        assert!(!sources_listed_as(&ALL, 1).await.is_complete());
    }

    /// As SeaweedFS does it: pages come by bytes, and the marker goes by names.
    #[tokio::test]
    async fn longer_name_does_not_hide_source() {
        const ALL: [&str; 6] = [
            "calls/balie-A0/",
            "calls/balie-A1/",
            "calls/balie-A2/",
            "calls/balie-A3/",
            "calls/balie/",
            "calls/receptie/",
        ];
        for most in 2..=6 {
            let found = sources_listed_in_order(&ALL, most, true).await;
            assert_eq!(found.visited, ["balie", "receptie"], "{most}");
            assert!(found.is_complete() && found.foreign.count == 4, "{most} {found:?}");
        }
    }

    /// Names that go on in many ways cost a bounded number of requests, and then nothing is claimed.
    #[tokio::test]
    async fn skipped_name_checks_are_bounded() {
        let stub = Stub::start(|asked| {
            let from = asked.query_parameter("key-marker").unwrap_or_default();
            let number: u32 = from.get(7..11).and_then(|digits| digits.parse().ok()).unwrap_or(1000);
            let folder = format!("calls/a{:04}{}/", number + 1, "-a".repeat(100));
            let told = if asked.query_parameter("prefix").as_deref() == Some("calls/") {
                format!(
                    "<IsTruncated>true</IsTruncated><NextKeyMarker>{folder}</NextKeyMarker>\
                     <CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"
                )
            } else {
                "<IsTruncated>false</IsTruncated>".to_owned()
            };
            (200, format!("<ListVersionsResult>{told}</ListVersionsResult>"))
        })
        .await;
        let found = list_names(&stub.store(), "calls/", PAGE_SIZE).await.unwrap();
        assert!(found.is_truncated, "{found:?}");
        assert_eq!((found.folders.len(), stub.take_requests().len()), (3, 3 + MAX_SKIPPED_NAMES));
    }

    #[tokio::test]
    async fn no_source_is_skipped_in_either_folder_order() {
        // The marker goes by bytes in either, the pages by what stands here.
        const BY_BYTES: [&str; 5] = ["calls/a-1/", "calls/a-2/", "calls/a.b/", "calls/a/", "calls/ab/"];
        const BY_NAME: [&str; 5] = ["calls/a/", "calls/a-1/", "calls/a-2/", "calls/a.b/", "calls/ab/"];
        for all in [&BY_BYTES, &BY_NAME] {
            for most in 2..=5 {
                let found = sources_listed_as(all, most).await;
                // As many as a page has may come again, and then nothing is claimed.
                assert!(found.visited.len() == 5 || !found.is_complete(), "{most} of {all:?}");
                assert!(found.is_complete() || most < 4, "{most} of {all:?}");
            }
        }
    }
}
