//! Lists recordings by source and day.
//!
//! Anyone with a recorder's credentials can put any key under `video/` and `calls/`. So one listing covers at most one
//! day of one source. There, folder order and byte order agree on every own key. A listing never continues from a
//! foreign key: a store that walks folders would omit own keys after it. Known sources are visited even if the store
//! does not list them.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use jiff::civil::Date;

use crate::rules::recording::key_format::{allowed_next_bytes, is_number_of_length, successor, valid_prefix};
use crate::rules::{Class, DayFilter, Key, ListedVersion, utc_date};
use crate::storage::s3::listing::{
    ListCursor, MAX_PAGES, PAGE_SIZE, endless_listing_error, unlisted_key_error,
};
use crate::storage::s3::{BucketClient, ListQuery, StoreError, list_page, simulation};

/// Unexpected days of one source that one pass visits.
const MAX_UNEXPECTED_DAYS: usize = 64;
/// Unexpected years or months that one pass visits.
const MAX_UNEXPECTED_FOLDERS: usize = 16;
/// First year to look for if a source has more folders than a page.
const FIRST_YEAR: i16 = 2000;
const MAX_CONCURRENT_LISTINGS: usize = 8;

/// Foreign keys and folders among the recordings, as far as they were seen. Bounded, whatever their number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ForeignKeys {
    /// Number seen; a lower bound if they fill whole pages.
    pub(crate) count: u64,
    pub(crate) examples: Vec<String>,
}

impl ForeignKeys {
    const MAX_EXAMPLES: usize = 5;

    pub(crate) fn record(&mut self, key: &str) {
        self.count += 1;
        if self.examples.len() < Self::MAX_EXAMPLES {
            self.examples.push(key.to_owned());
        }
    }
}

/// Returns the query for one page of folders directly under a prefix.
pub(crate) fn folder_query<'a>(prefix: &'a str, after: Option<&'a ListCursor>) -> ListQuery<'a> {
    ListQuery { prefix, has_delimiter: true, after, max_keys: PAGE_SIZE, is_own_key: |_| false }
}

/// Returns whether any object exists under a prefix.
pub(crate) async fn has_versions(store: &BucketClient, prefix: &str) -> Result<bool, StoreError> {
    let query = ListQuery { max_keys: 1, ..folder_query(prefix, None) };
    let page = list_page(store, query).await?;
    Ok(!page.versions.is_empty() || !page.folders.is_empty())
}

/// Days of a source that have objects.
#[derive(Clone, Debug, Default)]
pub(crate) struct SourceDays {
    pub(crate) days: BTreeSet<Date>,
    /// Unexpected days, or folders of days, that are left to another pass.
    pub(crate) deferred: u64,
    pub(crate) foreign: ForeignKeys,
}

/// Returns the days of `source` among `wanted` that have objects.
///
/// Of days outside `expected`, one pass visits only some: anyone with a recorder's credentials can put an object into
/// each day since the year 0.
pub(crate) async fn list_source_days(
    store: &BucketClient,
    class: Class,
    source: &str,
    wanted: &[DayFilter],
    expected: &[DayFilter],
    now: Timestamp,
) -> Result<SourceDays, StoreError> {
    let mut found = SourceDays::default();
    let this_year = utc_date(now).year();
    let levels = [
        (4, FIRST_YEAR..=this_year + 1, MAX_UNEXPECTED_FOLDERS),
        (2, 1..=12, MAX_UNEXPECTED_FOLDERS),
        (2, 1..=31, MAX_UNEXPECTED_DAYS),
    ];
    let mut paths = vec![Vec::new()];
    for (digits, range, most) in levels {
        let (mut next, mut unexpected) = (Vec::new(), Vec::new());
        for path in paths {
            let base = date_prefix(class, source, &path);
            for number in list_numbers(store, &base, digits, range.clone(), &mut found.foreign).await? {
                let path: Vec<i16> = path.iter().copied().chain([number]).collect();
                match DayFilter::from_path(&path).filter(|days| days.overlaps_any(wanted)) {
                    Some(days) if days.overlaps_any(expected) => next.push(path),
                    Some(_) => unexpected.push(path),
                    None => (),
                }
            }
        }
        let (chosen, put_off) = choose_randomly(unexpected, most, now);
        found.deferred += put_off.len() as u64;
        next.extend(chosen);
        paths = next;
    }
    let days = paths.iter().filter_map(|path| DayFilter::from_path(path)?.from);
    found.days = days.collect();
    Ok(found)
}

/// Returns the prefix of a year, month or day.
fn date_prefix(class: Class, source: &str, path: &[i16]) -> String {
    let numbers = path.iter().zip([4, 2, 2]);
    let numbers = numbers.map(|(number, digits)| format!("{number:0digits$}/"));
    format!("{}{source}/{}", class.prefix(), numbers.collect::<Vec<_>>().concat())
}

/// Splits a list into a random choice for this pass and the rest. Nobody can predict the choice, and each item has its
/// turn, however regularly passes run.
pub(crate) fn choose_randomly<T: Hash>(mut all: Vec<T>, most: usize, now: Timestamp) -> (Vec<T>, Vec<T>) {
    if all.len() > most {
        let salt = simulation::random_salt();
        all.sort_by_cached_key(|one| {
            let mut hasher = DefaultHasher::new();
            // In a simulation, the salt never changes. There, `now` gives every item its turn.
            (salt, now, one).hash(&mut hasher);
            hasher.finish()
        });
    }
    let put_off = all.split_off(all.len().min(most));
    (all, put_off)
}

/// Returns the numbers whose folder has objects.
///
/// If there are more folders than a page, only those of `range` are checked, one by one: foreign folders must not cause
/// unbounded cost.
async fn list_numbers(
    store: &BucketClient,
    base: &str,
    digits: usize,
    range: std::ops::RangeInclusive<i16>,
    foreign: &mut ForeignKeys,
) -> Result<Vec<i16>, StoreError> {
    let page = list_page(store, folder_query(base, None)).await?;
    page.versions.iter().for_each(|listed| foreign.record(&listed.key));
    let mut numbers = Vec::new();
    for folder in &page.folders {
        let name = folder.strip_prefix(base).and_then(|name| name.strip_suffix('/'));
        match name.filter(|name| is_number_of_length(name, digits)).map(str::parse) {
            Some(Ok(number)) => numbers.push(number),
            _ => foreign.record(folder),
        }
    }
    if !page.is_truncated {
        return Ok(numbers);
    }
    let look = |number: i16| async move {
        let prefix = format!("{base}{number:0digits$}/");
        Ok::<_, StoreError>((number, has_versions(store, &prefix).await?))
    };
    let jobs: Vec<_> = range.map(look).collect();
    let asked: Vec<(i16, bool)> = stream::iter(jobs).buffered(MAX_CONCURRENT_LISTINGS).try_collect().await?;
    Ok(asked.into_iter().filter_map(|(number, has_any)| has_any.then_some(number)).collect())
}

/// Lists the versions and delete markers of days by page, in order of their keys within a day. Only one page is in
/// memory.
pub(crate) struct VersionLister<'a> {
    store: &'a BucketClient,
    /// Ranges left to list, in reverse order.
    ranges: Vec<KeyRange>,
    /// Keys with more versions than a page, which come last.
    crowded_ranges: Vec<KeyRange>,
    /// Day in progress and the number of its pages.
    day_prefix: String,
    pages: usize,
    pub(crate) foreign: ForeignKeys,
    /// Keys with more versions than a page.
    pub(crate) crowded_keys: ForeignKeys,
    /// Last listed own key.
    last_key: Option<String>,
    /// Own keys that exist and that the store does not list.
    pub(crate) unlisted: ForeignKeys,
}

#[derive(Debug)]
struct KeyRange {
    prefix: String,
    after: Option<ListCursor>,
    /// Length of the day's prefix in `prefix`.
    day_prefix_len: usize,
}

impl<'a> VersionLister<'a> {
    /// Lists days, given by their prefixes, in this order.
    pub(crate) fn new(store: &'a BucketClient, days: impl IntoIterator<Item = String>) -> Self {
        let stretches =
            days.into_iter().map(|prefix| KeyRange { day_prefix_len: prefix.len(), prefix, after: None });
        let mut stretches: Vec<KeyRange> = stretches.collect();
        stretches.reverse();
        Self {
            store,
            ranges: stretches,
            crowded_ranges: Vec::new(),
            day_prefix: String::new(),
            pages: 0,
            foreign: ForeignKeys::default(),
            crowded_keys: ForeignKeys::default(),
            last_key: None,
            unlisted: ForeignKeys::default(),
        }
    }

    /// Lists one day, given by its prefix, from keys that continue with `from`.
    pub(crate) fn for_day(store: &'a BucketClient, prefix: String, from: Option<String>) -> Self {
        let mut walk = Self::new(store, [prefix]);
        for stretch in &mut walk.ranges {
            stretch.after =
                from.as_ref().map(|from| ListCursor::after_text(format!("{}{from}", stretch.prefix)));
        }
        walk
    }

    /// Returns the next page, newest version first within a key. A key's versions may continue on the next page.
    /// `None`: there are no more. Unlisted keys are an error at the end.
    pub(crate) async fn next_page(&mut self) -> Result<Option<Vec<ListedVersion>>, StoreError> {
        let (stretch, is_crowded) = match self.ranges.pop() {
            Some(stretch) => (stretch, false),
            None => match self.crowded_ranges.pop() {
                Some(stretch) => (stretch, true),
                // Everything that the store lists was listed.
                None if self.unlisted.count > 0 => return Err(unlisted_key_error()),
                None => return Ok(None),
            },
        };
        let day = stretch.prefix.get(..stretch.day_prefix_len).unwrap_or_default();
        if self.day_prefix != day {
            (self.day_prefix, self.pages) = (day.to_owned(), 0);
        }
        self.pages += 1;
        if self.pages > MAX_PAGES {
            return Err(endless_listing_error());
        }
        let page = list_page(
            self.store,
            ListQuery {
                prefix: &stretch.prefix,
                has_delimiter: false,
                after: stretch.after.as_ref(),
                max_keys: PAGE_SIZE,
                is_own_key: |key| key.parse::<Key>().is_ok(),
            },
        )
        .await?;
        let (ours, others): (Vec<_>, Vec<_>) =
            page.versions.iter().cloned().partition(|listed| listed.key.parse::<Key>().is_ok());
        for listed in &others {
            self.foreign.record(&listed.key);
        }
        if let Some(last) = ours.last() {
            self.last_key = Some(last.key.clone());
        }
        if page.is_truncated {
            match (ours.last(), page.greatest_key.clone()) {
                (Some(last), _) => {
                    let next = page.cursor_after(&last.key);
                    self.continue_after(stretch, next, &last.key, is_crowded)?;
                }
                (None, Some(end)) => {
                    let before = self.skip_foreign_keys(&stretch, &end);
                    // The versions of a crowded key were listed before.
                    let is_listed = |key: &String| is_crowded || self.last_key.as_ref() == Some(key);
                    if let Some(key) = before.filter(|key| !is_listed(key)) {
                        self.check_unlisted(key).await?;
                    }
                }
                (None, None) => return Err(endless_listing_error()),
            }
        }
        Ok(Some(ours))
    }

    /// Continues after `last`, an own key. A key with more versions than a page is deferred until the end.
    fn continue_after(
        &mut self,
        stretch: KeyRange,
        next: ListCursor,
        last: &str,
        is_crowded: bool,
    ) -> Result<(), StoreError> {
        if stretch.after.as_ref() == Some(&next) {
            return Err(endless_listing_error());
        }
        // Markers within one key before and after a page: this key's versions fill the page. The day's other keys go
        // first, since no flood of versions of one key may delay them.
        let is_within =
            next.is_within_key(last) && stretch.after.as_ref().is_some_and(|after| after.is_within_key(last));
        let next =
            KeyRange { after: Some(next), prefix: stretch.prefix, day_prefix_len: stretch.day_prefix_len };
        match (is_within, is_crowded) {
            (true, false) => {
                self.crowded_keys.record(last);
                let rest = KeyRange {
                    after: Some(ListCursor::after_key(last)),
                    prefix: next.prefix.clone(),
                    day_prefix_len: next.day_prefix_len,
                };
                let of_key = KeyRange { prefix: last.to_owned(), ..next };
                self.crowded_ranges.push(of_key);
                self.ranges.push(rest);
            }
            (_, true) => self.crowded_ranges.push(next),
            (false, false) => self.ranges.push(next),
        }
        Ok(())
    }

    /// Records `key` if it exists although it was not listed.
    ///
    /// A store that keeps the versions of each key in a folder lists `x-y` before `x`. A page full of the versions of
    /// `x-y` then omits `x`, and so do the following pages.
    async fn check_unlisted(&mut self, key: String) -> Result<(), StoreError> {
        // The tags, because a HEAD needs `s3:GetObject`, which the operator does not have on recordings.
        let request = self.store.client.get_object_tagging();
        let answer = request.bucket(&self.store.bucket).key(&key).send().await;
        let error = answer.err().map(|error| StoreError::from_sdk("GetObjectTagging", &error));
        match error {
            Some(error) if error.is_not_found() && error.code != "NoSuchTagSet" => Ok(()),
            Some(error) if !error.is_rejection() => Err(error),
            // A rejection does not show that the key is missing, so nothing is claimed about this day.
            _ => {
                self.unlisted.record(&key);
                Ok(())
            }
        }
    }

    /// Continues after a page of foreign keys that ends with `last`. Lists each possible continuation of an own key
    /// separately, then the rest. Such a page costs a few requests, however many objects are behind it.
    ///
    /// Returns the own key that is a prefix of all of these, if there is one.
    fn skip_foreign_keys(&mut self, stretch: &KeyRange, last: &str) -> Option<String> {
        let text = last.get(stretch.day_prefix_len..).unwrap_or_default();
        let within = stretch.prefix.get(stretch.day_prefix_len..).unwrap_or_default();
        let valid_prefix = match valid_prefix(text) {
            valid_prefix if valid_prefix.starts_with(within) => valid_prefix,
            _ => within,
        };
        let day = stretch.prefix.get(..stretch.day_prefix_len).unwrap_or_default();
        let base = format!("{day}{valid_prefix}");
        let is_all = valid_prefix.len() == within.len();
        if let Some(next) = successor(&base).filter(|_| !is_all) {
            self.ranges.push(KeyRange {
                prefix: stretch.prefix.clone(),
                after: Some(ListCursor::after_text(next)),
                day_prefix_len: stretch.day_prefix_len,
            });
        }
        let next_bytes = allowed_next_bytes(valid_prefix.as_bytes()).unwrap_or_default();
        for way in next_bytes.iter().rev() {
            let prefix = format!("{base}{}", char::from(*way));
            // Listed keys do not come again.
            let after = stretch.after.clone().filter(|after| after.is_past_prefix(&prefix));
            self.ranges.push(KeyRange { prefix, after, day_prefix_len: stretch.day_prefix_len });
        }
        if next_bytes.is_empty() && is_all {
            // Objects under a complete own key, such as `….mp4/x`. No own key is behind them.
            self.foreign.record(last);
        }
        base.parse::<Key>().is_ok().then_some(base)
    }
}

#[cfg(test)]
mod tests;
