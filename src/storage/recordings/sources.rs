//! Sources of a bucket: those registered by the operator, and others that the store lists.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::day_filter::{
    ForeignKeys, SourceDays, choose_randomly, folder_query, has_versions, list_source_days,
};
use crate::rules::recording::key::is_source_name;
use crate::rules::{Class, DayFilter};
use crate::storage::s3::listing::{PAGE_SIZE, list_all};
use crate::storage::s3::{BucketClient, ListQuery, StoreError, list_page, objects};

/// Registry of sources, an empty object each: `ledger/sources/{class}/{name}`.
const REGISTRY: &str = "ledger/sources/";
/// 16,000 sources.
const MAX_REGISTRY_PAGES: usize = 16;
/// Pages of folders under a class in the search for unknown sources: 64,000 folders.
const MAX_FOLDER_PAGES: usize = 64;
/// Names that are checked one by one because a store may omit them. If there are more, the list is incomplete.
const MAX_SKIPPED_NAMES: usize = 256;
/// Unknown sources that one pass visits. Others have their turn in later passes.
const MAX_UNKNOWN_SOURCES: usize = 64;
/// Sources whose days are listed concurrently.
const MAX_CONCURRENT_SOURCES: usize = 8;

#[derive(Clone, Debug, Default)]
pub(crate) struct BucketSources {
    /// Sources to visit, known ones first.
    pub(crate) visited: Vec<String>,
    /// Unknown sources that are left to another pass.
    pub(crate) deferred: Vec<String>,
    /// There are more folders than one pass searches.
    pub(crate) is_truncated: bool,
    /// Keys and folders that are no source.
    pub(crate) foreign: ForeignKeys,
}

impl BucketSources {
    /// Returns whether all sources are visited.
    pub(crate) fn is_complete(&self) -> bool {
        !self.is_truncated && self.deferred.is_empty()
    }
}

/// Returns the sources of `class`: registered, `named`, and listed ones. Chooses some of too many unknown ones at
/// random.
pub(crate) async fn list_sources(
    store: &BucketClient,
    class: Class,
    named: &BTreeSet<String>,
    now: Timestamp,
) -> Result<BucketSources, StoreError> {
    let mut known = registered(store, class).await?;
    known.extend(named.iter().cloned());
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

/// Returns the sources of `class`, and the days of those to visit. `wanted` and `expected` are as in [`list_source_days`].
pub(crate) async fn list_days(
    store: &BucketClient,
    class: Class,
    wanted: &[DayFilter],
    expected: &[DayFilter],
    now: Timestamp,
) -> Result<(BucketSources, Vec<(String, SourceDays)>), StoreError> {
    let sources = list_sources(store, class, &BTreeSet::new(), now).await?;
    let days = |source: String| async move {
        let found = list_source_days(store, class, &source, wanted, expected, now).await?;
        Ok::<_, StoreError>((source, found))
    };
    let jobs: Vec<_> = sources.visited.iter().cloned().map(days).collect();
    let days = stream::iter(jobs).buffered(MAX_CONCURRENT_SOURCES).try_collect().await?;
    Ok((sources, days))
}

/// Names directly under a prefix.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListedNames {
    /// Folders with a valid source name, without `/`.
    pub(crate) folders: BTreeSet<String>,
    /// Other folders, and keys.
    pub(crate) foreign: ForeignKeys,
    /// There are more folders than were searched, or a page makes no progress.
    pub(crate) is_truncated: bool,
}

/// Returns the names directly under a prefix, in pages of `most`.
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
            // `is_truncated` is set here, so nothing is claimed about the names that were not checked.
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

/// Returns source names that a store may omit after a page whose greatest name is `last`.
///
/// SeaweedFS lists `a-1/` before `a/`, in byte order of keys. But it compares markers by folder name, and there `a` is
/// before `a-1`. If a page ends between the two, no later page has `a/`.
fn skipped_names(last: &str) -> impl Iterator<Item = &str> {
    let ends = last.char_indices().filter(|(_, next)| *next < '/');
    ends.filter_map(|(end, _)| last.get(..end)).filter(|name| is_source_name(name))
}

fn registry_prefix(class: Class) -> String {
    format!("{REGISTRY}{class}/")
}

async fn registered(store: &BucketClient, class: Class) -> Result<BTreeSet<String>, StoreError> {
    let registry = registry_prefix(class);
    let listed = list_all(store, &registry, MAX_REGISTRY_PAGES).await?;
    // Delete markers count too: a camera whose entry is hidden stays visible.
    Ok(listed.iter().filter_map(|listed| listed.key.strip_prefix(&registry)).map(str::to_owned).collect())
}

/// Registers sources, so that they are visited even if the store does not list them.
pub(crate) async fn register(
    store: &BucketClient,
    class: Class,
    names: &BTreeSet<String>,
) -> Result<(), StoreError> {
    let known = registered(store, class).await?;
    for name in names.difference(&known).filter(|name| is_source_name(name)) {
        objects::put(store, &format!("{}{name}", registry_prefix(class)), Vec::new()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::s3::stub::Stub;

    /// Lists `folders` on a store that replaces control characters, in pages of `most`.
    async fn sources_listed_as(folders: &'static [&'static str], most: usize) -> BucketSources {
        sources_listed_in_order(folders, most, false).await
    }

    /// Does the same; the store may compare markers by folder name.
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

    /// SeaweedFS orders pages by bytes and compares markers by name.
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

    /// Names with many possible continuations cost a bounded number of requests, and the list is then incomplete.
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
        // Both compare markers by bytes. The order of pages differs.
        const BY_BYTES: [&str; 5] = ["calls/a-1/", "calls/a-2/", "calls/a.b/", "calls/a/", "calls/ab/"];
        const BY_NAME: [&str; 5] = ["calls/a/", "calls/a-1/", "calls/a-2/", "calls/a.b/", "calls/ab/"];
        for all in [&BY_BYTES, &BY_NAME] {
            for most in 2..=5 {
                let found = sources_listed_as(all, most).await;
                // A page may repeat names of the previous one. If it makes no progress, the list is incomplete.
                assert!(found.visited.len() == 5 || !found.is_complete(), "{most} of {all:?}");
                assert!(found.is_complete() || most < 4, "{most} of {all:?}");
            }
        }
    }
}
