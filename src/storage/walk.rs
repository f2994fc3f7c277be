//! Walks over recordings, source by source and day by day.
//!
//! Whoever has a recorder's credentials may put any key under `video/` and `calls/`. So a walk never asks the store for
//! more than one day of one source, where the order of folders and the order of bytes agree on every key of ours, and
//! never goes on from a key that is not ours: a store that walks folders would leave out keys of ours after it. Sources that
//! the operator knows are visited whether the store lists them or not.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use jiff::civil::Date;

use super::client::Store;
use super::error::StoreError;
use super::key::{Class, Key};
use super::layout::{continuations, is_number, successor, trunk};
use super::listing::{After, Listed, MOST_PAGES, PAGE, Query, endless, hidden_key, page};
use super::simulated;

/// Days of one source in which nothing is expected, visited in one pass.
const MOST_ODD_DAYS: usize = 64;
/// Years of them, and months.
const MOST_ODD_FOLDERS: usize = 16;
/// The years in which days are looked for where a source has more folders than a page.
const FIRST_YEAR: i16 = 2000;
/// Listings of folders at once.
const AT_ONCE: usize = 8;

/// Days, both included; `None`: without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Days {
    pub(crate) from: Option<Date>,
    pub(crate) to: Option<Date>,
}

impl Days {
    /// Every day.
    pub(crate) const ALL: Self = Self { from: None, to: None };

    /// Whether a day is one of them.
    pub(crate) fn has(self, day: Date) -> bool {
        self.from.is_none_or(|from| from <= day) && self.to.is_none_or(|to| day <= to)
    }

    /// The days that are in both; `None`: there are none.
    pub(crate) fn and(self, other: Self) -> Option<Self> {
        let later = |one: Option<Date>, other: Option<Date>| one.max(other);
        let earlier = |one: Option<Date>, other| one.into_iter().chain(other).min();
        let (from, to) = (later(self.from, other.from), earlier(self.to, other.to));
        let is_empty = from.zip(to).is_some_and(|(from, to)| from > to);
        (!is_empty).then_some(Self { from, to })
    }

    /// Whether they have a day in common with one of `all`.
    fn meet(self, all: &[Self]) -> bool {
        let is_before = |one: Self, other: Self| one.to.zip(other.from).is_some_and(|(to, from)| to < from);
        all.iter().any(|other| !is_before(self, *other) && !is_before(*other, self))
    }

    /// Those of a year, a month or a day, by its numbers; `None`: there is none such.
    fn of(path: &[i16]) -> Option<Self> {
        let part = |place: usize| path.get(place).copied().map(i8::try_from).transpose().ok();
        let (year, month, day) = (*path.first()?, part(1)?, part(2)?);
        let from = Date::new(year, month.unwrap_or(1), day.unwrap_or(1)).ok()?;
        let to = match (month, day) {
            (_, Some(_)) => from,
            (Some(_), None) => from.last_of_month(),
            (None, None) => from.last_of_year(),
        };
        Some(Self { from: Some(from), to: Some(to) })
    }
}

/// Keys and folders where recordings are that are none, as far as they were seen: whoever put them cannot hide behind
/// their number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Foreign {
    /// How many were seen; where they fill whole pages, there are more.
    pub(crate) seen: u64,
    /// The first few.
    pub(crate) examples: Vec<String>,
}

impl Foreign {
    const EXAMPLES: usize = 5;

    pub(super) fn note(&mut self, key: &str) {
        self.seen += 1;
        if self.examples.len() < Self::EXAMPLES {
            self.examples.push(key.to_owned());
        }
    }
}

/// The folders directly under a prefix, a page of them.
pub(super) fn folders<'a>(prefix: &'a str, after: Option<&'a After>) -> Query<'a> {
    Query { prefix, by_folder: true, after, most: PAGE, is_ours: |_| false }
}

/// Whether there is anything under a prefix.
pub(super) async fn has_any(store: &Store, prefix: &str) -> Result<bool, StoreError> {
    let query = Query { most: 1, ..folders(prefix, None) };
    let page = page(store, query).await?;
    Ok(!page.versions.is_empty() || !page.folders.is_empty())
}

/// The days of a source that have anything.
#[derive(Clone, Debug, Default)]
pub(crate) struct DaysOf {
    pub(crate) days: BTreeSet<Date>,
    /// Days, or folders of days, in which nothing is expected, and whose turn is another pass's.
    pub(crate) put_off: u64,
    pub(crate) foreign: Foreign,
}

/// The days of `source` among `wanted` that have anything. Of those that are not among `expected` only some are visited in one
/// pass: whoever has a recorder's credentials may put something into each day since the year 0.
pub(crate) async fn days_of(
    store: &Store,
    class: Class,
    source: &str,
    wanted: &[Days],
    expected: &[Days],
    now: Timestamp,
) -> Result<DaysOf, StoreError> {
    let mut found = DaysOf::default();
    let this_year = day_of(now).year();
    let levels = [
        (4, FIRST_YEAR..=this_year + 1, MOST_ODD_FOLDERS),
        (2, 1..=12, MOST_ODD_FOLDERS),
        (2, 1..=31, MOST_ODD_DAYS),
    ];
    let mut paths = vec![Vec::new()];
    for (digits, range, most) in levels {
        let (mut next, mut odd) = (Vec::new(), Vec::new());
        for path in paths {
            let base = folder_of(class, source, &path);
            let folder = Folder { base: &base, digits };
            for number in folder.list(store, range.clone(), &mut found.foreign).await? {
                let path: Vec<i16> = path.iter().copied().chain([number]).collect();
                match Days::of(&path).filter(|days| days.meet(wanted)) {
                    Some(days) if days.meet(expected) => next.push(path),
                    Some(_) => odd.push(path),
                    None => (),
                }
            }
        }
        let (chosen, put_off) = in_turn(odd, most, now);
        found.put_off += put_off.len() as u64;
        next.extend(chosen);
        paths = next;
    }
    let days = paths.iter().filter_map(|path| Days::of(path)?.from);
    found.days = days.collect();
    Ok(found)
}

/// The folder of a year, a month or a day.
fn folder_of(class: Class, source: &str, path: &[i16]) -> String {
    let numbers = path.iter().zip([4, 2, 2]);
    let numbers = numbers.map(|(number, digits)| format!("{number:0digits$}/"));
    format!("{}{source}/{}", class.prefix(), numbers.collect::<Vec<_>>().concat())
}

/// As many of them as have their turn at `now`, and the others. Nobody can foresee which; and however regularly passes come, each
/// has its turn.
pub(super) fn in_turn<T: Hash>(mut all: Vec<T>, most: usize, now: Timestamp) -> (Vec<T>, Vec<T>) {
    if all.len() > most {
        let salt = simulated::salt();
        all.sort_by_cached_key(|one| {
            let mut hasher = DefaultHasher::new();
            (salt, now, one).hash(&mut hasher);
            hasher.finish()
        });
    }
    let put_off = all.split_off(all.len().min(most));
    (all, put_off)
}

pub(crate) fn day_of(at: Timestamp) -> Date {
    jiff::tz::TimeZone::UTC.to_datetime(at).date()
}

/// A folder of folders that are named by numbers.
struct Folder<'a> {
    base: &'a str,
    digits: usize,
}

impl Folder<'_> {
    /// The numbers that have anything. Where there are more names than a page, only those of `range` are asked for, each by
    /// itself: what else is there comes from somebody else, and must not cost more than it says.
    async fn list(
        &self,
        store: &Store,
        range: std::ops::RangeInclusive<i16>,
        foreign: &mut Foreign,
    ) -> Result<Vec<i16>, StoreError> {
        let page = page(store, folders(self.base, None)).await?;
        page.versions.iter().for_each(|listed| foreign.note(&listed.key));
        let mut numbers = Vec::new();
        for folder in &page.folders {
            let name = folder.strip_prefix(self.base).and_then(|name| name.strip_suffix('/'));
            match name.filter(|name| is_number(name, self.digits)).map(str::parse) {
                Some(Ok(number)) => numbers.push(number),
                _ => foreign.note(folder),
            }
        }
        if !page.is_cut {
            return Ok(numbers);
        }
        let look = |number: i16| async move {
            let prefix = format!("{}{number:0width$}/", self.base, width = self.digits);
            Ok::<_, StoreError>((number, has_any(store, &prefix).await?))
        };
        let jobs: Vec<_> = range.map(look).collect();
        let asked: Vec<(i16, bool)> = stream::iter(jobs).buffered(AT_ONCE).try_collect().await?;
        Ok(asked.into_iter().filter_map(|(number, has_any)| has_any.then_some(number)).collect())
    }
}

/// A walk over days of sources, a page at a time: every version and delete marker under a key of a recording, by key within a
/// day. However many there are, no more than a page is held.
pub(crate) struct Walk<'a> {
    store: &'a Store,
    /// What is left to list; the last comes next.
    stretches: Vec<Stretch>,
    /// Keys with more versions than a page, which come after all others.
    crowded: Vec<Stretch>,
    /// The day that is listed, and how many pages of it were.
    day: String,
    pages: usize,
    pub(crate) foreign: Foreign,
    /// Keys that have more versions than a page.
    pub(crate) crowded_keys: Foreign,
    /// The last key of ours that was listed.
    last: Option<String>,
    /// Keys of ours that are there, and that no page has.
    pub(crate) hidden: Foreign,
}

#[derive(Debug)]
struct Stretch {
    prefix: String,
    after: Option<After>,
    /// The length of the day's prefix within `prefix`.
    day: usize,
}

impl<'a> Walk<'a> {
    /// Over days, each given by its prefix, in this order.
    pub(crate) fn new(store: &'a Store, days: impl IntoIterator<Item = String>) -> Self {
        let stretches = days.into_iter().map(|prefix| Stretch { day: prefix.len(), prefix, after: None });
        let mut stretches: Vec<Stretch> = stretches.collect();
        stretches.reverse();
        Self {
            store,
            stretches,
            crowded: Vec::new(),
            day: String::new(),
            pages: 0,
            foreign: Foreign::default(),
            crowded_keys: Foreign::default(),
            last: None,
            hidden: Foreign::default(),
        }
    }

    /// Over one day, given by its prefix, from the keys on that go on with `from`.
    pub(crate) fn of_day(store: &'a Store, prefix: String, from: Option<String>) -> Self {
        let mut walk = Self::new(store, [prefix]);
        for stretch in &mut walk.stretches {
            stretch.after = from.as_ref().map(|from| After::text(format!("{}{from}", stretch.prefix)));
        }
        walk
    }

    /// What comes next, by key and newest first within a key; the versions of one key may go on in the next part. `None`: that
    /// was all. Where the store hides a key, that is the error at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Listed>>, StoreError> {
        let (stretch, is_crowded) = match self.stretches.pop() {
            Some(stretch) => (stretch, false),
            None => match self.crowded.pop() {
                Some(stretch) => (stretch, true),
                // All else was listed.
                None if self.hidden.seen > 0 => return Err(hidden_key()),
                None => return Ok(None),
            },
        };
        let day = stretch.prefix.get(..stretch.day).unwrap_or_default();
        if self.day != day {
            (self.day, self.pages) = (day.to_owned(), 0);
        }
        self.pages += 1;
        if self.pages > MOST_PAGES {
            return Err(endless());
        }
        let page = page(
            self.store,
            Query {
                prefix: &stretch.prefix,
                by_folder: false,
                after: stretch.after.as_ref(),
                most: PAGE,
                is_ours: |key| key.parse::<Key>().is_ok(),
            },
        )
        .await?;
        let (ours, others): (Vec<_>, Vec<_>) =
            page.versions.iter().cloned().partition(|listed| listed.key.parse::<Key>().is_ok());
        for listed in &others {
            self.foreign.note(&listed.key);
        }
        if let Some(last) = ours.last() {
            self.last = Some(last.key.clone());
        }
        if page.is_cut {
            match (ours.last(), page.end.clone()) {
                (Some(last), _) => {
                    let next = page.after(&last.key);
                    self.go_on(stretch, next, &last.key, is_crowded)?;
                }
                (None, Some(end)) => {
                    let before = self.go_round(&stretch, &end);
                    // The versions of one key that is crowded were listed before.
                    let is_listed = |key: &String| is_crowded || self.last.as_ref() == Some(key);
                    if let Some(key) = before.filter(|key| !is_listed(key)) {
                        self.note_hidden(key).await?;
                    }
                }
                (None, None) => return Err(endless()),
            }
        }
        Ok(Some(ours))
    }

    /// After `last`, a key of ours. A key that has more versions than a page waits until all others are done.
    fn go_on(
        &mut self,
        stretch: Stretch,
        next: After,
        last: &str,
        is_crowded: bool,
    ) -> Result<(), StoreError> {
        if stretch.after.as_ref() == Some(&next) {
            return Err(endless());
        }
        let is_within =
            next.is_within(last) && stretch.after.as_ref().is_some_and(|after| after.is_within(last));
        let next = Stretch { after: Some(next), prefix: stretch.prefix, day: stretch.day };
        match (is_within, is_crowded) {
            (true, false) => {
                self.crowded_keys.note(last);
                let rest =
                    Stretch { after: Some(After::key(last)), prefix: next.prefix.clone(), day: next.day };
                let of_key = Stretch { prefix: last.to_owned(), ..next };
                self.crowded.push(of_key);
                self.stretches.push(rest);
            }
            (_, true) => self.crowded.push(next),
            (false, false) => self.stretches.push(next),
        }
        Ok(())
    }

    /// Notes that `key` is there though it was not listed. A store that keeps the versions of each key in a folder lists `x-y`
    /// before `x`; a page that is full of the versions of `x-y` leaves out `x`, and so do those after it.
    async fn note_hidden(&mut self, key: String) -> Result<(), StoreError> {
        let request = self.store.client.get_object_tagging();
        let answer = request.bucket(&self.store.bucket).key(&key).send().await;
        let error = answer.err().map(|error| StoreError::of("GetObjectTagging", &error));
        match error {
            Some(error) if error.is_absent() && error.code != "NoSuchTagSet" => Ok(()),
            Some(error) if !error.is_refusal() => Err(error),
            _ => {
                self.hidden.note(&key);
                Ok(())
            }
        }
    }

    /// A whole page from somebody else, which ends with `last`: each way in which a key of ours can go on is listed by itself,
    /// then what comes after all of that. Each such page costs a few requests, however many objects are behind it.
    /// Gives the key of ours with which all of that begins, if there is one.
    fn go_round(&mut self, stretch: &Stretch, last: &str) -> Option<String> {
        let text = last.get(stretch.day..).unwrap_or_default();
        let within = stretch.prefix.get(stretch.day..).unwrap_or_default();
        let trunk = match trunk(text) {
            trunk if trunk.starts_with(within) => trunk,
            _ => within,
        };
        let day = stretch.prefix.get(..stretch.day).unwrap_or_default();
        let base = format!("{day}{trunk}");
        let is_all = trunk.len() == within.len();
        if let Some(next) = successor(&base).filter(|_| !is_all) {
            self.stretches.push(Stretch {
                prefix: stretch.prefix.clone(),
                after: Some(After::text(next)),
                day: stretch.day,
            });
        }
        let ways = continuations(trunk.as_bytes()).unwrap_or_default();
        for way in ways.iter().rev() {
            let prefix = format!("{base}{}", char::from(*way));
            // What was listed already does not come again.
            let after = stretch.after.clone().filter(|after| after.is_past(&prefix));
            self.stretches.push(Stretch { prefix, after, day: stretch.day });
        }
        if ways.is_empty() && is_all {
            // Objects under a whole key of ours: `….mp4/x`. There is none of ours behind it.
            self.foreign.note(last);
        }
        base.parse::<Key>().is_ok().then_some(base)
    }
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
