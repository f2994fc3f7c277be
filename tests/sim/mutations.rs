//! Rules that the code relies on, each broken in turn: at the seam, so that no code has to know of it. The network undoes
//! what the operator does, or hides what it would look at; or what is around the operator is done as a mistake would.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::ask::{Answer, Ask};
use super::kind::NetworkFault;
use super::listing::{Line, Listing};
use super::store::{By, No, Who};
use super::world::World;

/// A rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutation {
    /// The declared holds are read again before something is deleted.
    DeclaredReadOnce,
    /// Where the declared holds cannot be read, nothing is deleted.
    UnknownIsNothing,
    /// A leader that was stopped writes nothing.
    Unfenced,
    /// `Placed` and a release wait for recorders.
    FollowNotAsked,
    /// What recorders followed counts no more once something else is held.
    FollowKept,
    /// What the ledger has open is open.
    LedgerDoesNotCount,
    /// A closed entry of an open hold is opened again.
    NotReopened,
    /// A predecessor is closed, also where the successor has its entry already.
    SuccessionOnce,
    /// What is too young to be seen is sealed.
    EmbargoForgotten,
    /// What only resolved holds cover is overdue once it is over its ceiling.
    AuditBelievesResolved,
    /// A new leader waits with releases.
    ReleasesAtOnce,
    /// A recorder acknowledges nothing while an upload may still arrive that began before.
    UploadsForgotten,
    /// Nor does one that was started anew.
    SpoolForgotten,
    /// A recorder seals what holds cover.
    RecorderIgnoresHolds,
    /// The legal hold first, then the tag.
    TagBeforeHold,
    /// The tag first, then the legal hold goes.
    HoldOffBeforeTag,
    /// Marks are read.
    MarksNotRead,
    /// Delete markers are looked for.
    MarkersUnseen,
    /// A listing is read to its end.
    PageEndsListing,
    /// All versions of a key count.
    FirstVersionOnly,
    /// A delete marker closes no entry.
    LedgerMarkerCloses,
    /// The ledger is written before anything is placed.
    LedgerWrittenLater,
    /// Where the clocks disagree, nothing is deleted.
    DatesAgree,
    /// That a store answers 400 is not that there is no legal hold.
    AnyRefusalIsNoHold,
    /// Sources are found by their folders, not by jumping from one to the next.
    SourcesByJump,
    /// However many sources somebody makes, those of cameras are looked at.
    TooManySources,
    /// A name that cannot be listed ends no listing.
    MangledEndsListing,
    /// A page full of versions of one name that is no recording's ends no listing.
    CrowdEndsListing,
    /// Half of a listing is none.
    HalfBelieved,
    /// What was proved is remembered by version.
    ManifestForgotten,
    /// A request arrives while its signature is valid, or never.
    SignatureForever,
    /// Tags that no hold explains are put back.
    UnexplainedStay,
    /// A hold with calls goes through them too.
    CallsUnseen,
    /// All days of a window are gone through.
    OldDaysUnseen,
    /// A recorder that acknowledged a hold has not acknowledged what it covers since it was widened.
    ScopeForgotten,
    /// A loss is told before the manifest forgets what was lost.
    ManifestFirst,
    /// A version is destroyed; hiding its key destroys nothing.
    DeletedByKey,
    /// The version that was seen is held, whatever came over it.
    NewestHeld,
    /// The legal hold alone does not say that something is held.
    TagForgotten,
}

impl Mutation {
    /// Those that are caught, and a seed that catches each.
    pub const ALL: [(Self, u64); 26] = [
        (Self::FollowNotAsked, 0),
        (Self::LedgerDoesNotCount, 7),
        (Self::TagBeforeHold, 0),
        (Self::HoldOffBeforeTag, 0),
        (Self::MarksNotRead, 20),
        (Self::PageEndsListing, 3),
        (Self::FirstVersionOnly, 20),
        (Self::LedgerMarkerCloses, 42),
        (Self::LedgerWrittenLater, 0),
        (Self::OldDaysUnseen, 1),
        (Self::EmbargoForgotten, 0),
        (Self::RecorderIgnoresHolds, 0),
        (Self::CallsUnseen, 1),
        (Self::DeclaredReadOnce, 0),
        (Self::UnknownIsNothing, 30),
        (Self::MangledEndsListing, 9),
        (Self::TooManySources, 43),
        (Self::SourcesByJump, 17),
        (Self::MarkersUnseen, 20),
        (Self::Unfenced, 303),
        (Self::ManifestForgotten, 50),
        (Self::DatesAgree, 116),
        (Self::DeletedByKey, 62),
        (Self::NewestHeld, 69),
        (Self::TagForgotten, 28),
        (Self::CrowdEndsListing, 8),
    ];

    /// Those that no seed is known to catch.
    pub const UNDETECTED: [Self; 13] = [
        Self::SuccessionOnce,
        Self::HalfBelieved,
        Self::ReleasesAtOnce,
        Self::FollowKept,
        Self::NotReopened,
        Self::AuditBelievesResolved,
        Self::UploadsForgotten,
        Self::SpoolForgotten,
        Self::AnyRefusalIsNoHold,
        Self::SignatureForever,
        Self::UnexplainedStay,
        Self::ScopeForgotten,
        Self::ManifestFirst,
    ];
}

/// What the network remembers that undoes a rule.
#[derive(Debug, Default)]
pub struct Memory {
    /// Requests that were answered and not done yet, by key and version.
    put_off: BTreeMap<(String, String), Vec<Ask>>,
}

/// Sources that a store can have before somebody who does not know better gives up.
const MOST_SOURCES: usize = 12;

impl World {
    /// A look of an operator begins.
    pub fn begin_look(&mut self, n: usize) {
        self.asked[n] = 0;
    }

    /// What was put off until the end of a look is done.
    pub fn end_reconcile(&mut self, n: usize) {
        if self.is_broken(Mutation::LedgerWrittenLater) {
            let (now, sent) = (self.store_now(), self.now());
            let by = By { who: Who::Operator(n), now, sent };
            for ask in std::mem::take(&mut self.memory.put_off).into_values().flatten() {
                let _ = self.store.answer(by, &ask);
            }
            self.see();
        }
    }

    pub fn serve_mutated(&mut self, by: By, ask: &Ask) -> Result<Answer, No> {
        let Some(rule) = self.broken.filter(|_| matches!(by.who, Who::Operator(_))) else {
            return self.store.answer(by, ask);
        };
        match (rule, ask) {
            (Mutation::TagBeforeHold, Ask::PutHold { key, id, on: true }) => {
                self.put_off(key, id, ask);
                Ok(Answer::Done)
            }
            (Mutation::HoldOffBeforeTag, Ask::PutTags { key, id, tags }) if is_class_tag(tags) => {
                self.put_off(key, id, ask);
                Ok(Answer::Done)
            }
            (Mutation::TagBeforeHold, Ask::PutTags { key, id, .. })
            | (Mutation::HoldOffBeforeTag, Ask::PutHold { key, id, on: false }) => {
                let answer = self.store.answer(by, ask);
                self.see();
                self.run_deferred(by, key, id);
                answer
            }
            (Mutation::DeletedByKey, Ask::DeleteMany(all)) => {
                for (key, id) in all {
                    let is_marker = self.store.find(key, id).is_none_or(|version| version.is_marker);
                    self.store.delete(by, key, is_marker.then_some(id.as_str())).ok();
                }
                Ok(Answer::Left(Vec::new()))
            }
            (Mutation::NewestHeld, Ask::PutHold { key, id, on: true }) => {
                let versions = self.store.keys.get(key).into_iter().flatten();
                let newest = versions.clone().find(|version| !version.is_marker);
                let id = newest.map_or(id, |version| &version.id).clone();
                self.store.set_hold(by, key, &id, true)?;
                Ok(Answer::Done)
            }
            (Mutation::TagForgotten, Ask::PutTags { tags, .. }) if !is_class_tag(tags) => Ok(Answer::Done),
            (Mutation::MarksNotRead, Ask::GetHold { .. }) => Ok(Answer::Hold(true)),
            (Mutation::LedgerWrittenLater, Ask::Put { key, .. }) if key.starts_with("ledger/holds/") => {
                self.put_off(key, "", ask);
                Ok(Answer::Put("later".into()))
            }
            (Mutation::ManifestForgotten, Ask::Get { key, .. }) if key.starts_with("ledger/manifests/") => {
                Err(No(404, "NoSuchKey"))
            }
            (Mutation::UnexplainedStay, Ask::PutTags { key, tags, .. }) if is_class_tag(tags) => {
                let parsed: Result<toezicht::rules::recording::key::Key, _> = key.parse();
                let entries = super::checks::ledger(&self.store);
                let is_explained = parsed
                    .is_ok_and(|key| entries.values().any(|entry| entry.scope.covers(&key.recording())));
                if is_explained { self.store.answer(by, ask) } else { Ok(Answer::Done) }
            }
            (rule, Ask::List { asked, .. }) => {
                let answer = self.store.answer(by, ask)?;
                let Answer::Listing(mut listing) = answer else {
                    return Ok(answer);
                };
                let is_of_sources =
                    asked.delimiter.is_some() && matches!(asked.prefix.as_str(), "video/" | "calls/");
                if is_of_sources {
                    sources(rule, &mut listing)?;
                }
                if rule == Mutation::LedgerDoesNotCount && asked.prefix.starts_with("ledger/holds/") {
                    let is_known = |line: &Line| {
                        let uid = line.key().trim_start_matches("ledger/holds/");
                        self.api.holds.contains_key(uid.trim_end_matches(".json"))
                    };
                    listing.lines.retain(is_known);
                }
                if rule == Mutation::CrowdEndsListing && is_single_foreign_key(&listing) {
                    return Err(No(400, "EndlessListing"));
                }
                if rule == Mutation::OldDaysUnseen && is_old(&asked.prefix, by.now) {
                    listing = Listing::default();
                }
                lines(rule, &asked.prefix, &mut listing);
                Ok(Answer::Listing(listing))
            }
            _ => self.store.answer(by, ask),
        }
    }

    /// After whatever happened on the way.
    pub fn mutate_response(
        &self,
        ask: &Ask,
        mishap: NetworkFault,
        mut answer: Result<Answer, No>,
    ) -> Result<Answer, No> {
        if self.is_broken(Mutation::HalfBelieved)
            && mishap == NetworkFault::Truncated
            && let Ok(Answer::Listing(listing)) = &mut answer
        {
            listing.lines.truncate(listing.lines.len() / 2);
            listing.next = None;
        }
        match (self.broken, ask, &answer) {
            (Some(Mutation::AnyRefusalIsNoHold), Ask::GetHold { .. }, Err(No(400, _))) => {
                Err(No(404, "NoSuchObjectLockConfiguration"))
            }
            _ => answer,
        }
    }

    fn put_off(&mut self, key: &str, id: &str, ask: &Ask) {
        let of = (key.to_owned(), id.to_owned());
        self.memory.put_off.entry(of).or_default().push(ask.clone());
    }

    fn run_deferred(&mut self, by: By, key: &str, id: &str) {
        let put_off = self.memory.put_off.remove(&(key.to_owned(), id.to_owned()));
        for ask in put_off.into_iter().flatten() {
            let _ = self.store.answer(by, &ask);
        }
    }
}

/// Whether a listing is of a day before yesterday.
fn is_old(prefix: &str, now: Timestamp) -> bool {
    let mut parts = prefix.trim_end_matches('/').splitn(3, '/');
    let day = parts.nth(2).unwrap_or_default().replace('/', "-");
    let day = day.get(..10).and_then(|day| day.parse::<jiff::civil::Date>().ok());
    let yesterday = (now - SignedDuration::from_hours(24)).to_zoned(jiff::tz::TimeZone::UTC);
    day.is_some_and(|day| day < yesterday.date())
}

/// Whether a page has nothing but versions of one name that is no recording's, and is not the last.
fn is_single_foreign_key(listing: &Listing) -> bool {
    let keys: BTreeSet<&str> = listing.lines.iter().map(Line::key).collect();
    let is_foreign =
        |key: &&str| key.parse::<toezicht::rules::recording::key::Key>().is_err() && !key.ends_with('/');
    listing.next.is_some() && keys.len() == 1 && keys.iter().all(is_foreign)
}

fn is_class_tag(tags: &[(String, String)]) -> bool {
    matches!(tags, [(_, value)] if value == "video" || value == "calls")
}

/// The folders of a class, as somebody would see them who breaks a rule.
fn sources(rule: Mutation, listing: &mut Listing) -> Result<(), No> {
    match rule {
        Mutation::TooManySources if listing.lines.len() > MOST_SOURCES => {
            return Err(No(400, "TooManySources"));
        }
        Mutation::SourcesByJump => {
            let keys: Vec<String> =
                listing.lines.iter().map(|line| line.key().trim_end_matches('/').to_owned()).collect();
            listing.lines.retain(|line| {
                let name = line.key().trim_end_matches('/');
                let extends = |other: &String| {
                    name.strip_prefix(other.as_str()).is_some_and(|rest| rest.starts_with(['-', '.']))
                };
                !keys.iter().any(extends)
            });
        }
        _ => (),
    }
    Ok(())
}

/// What somebody sees of a page who breaks a rule.
fn lines(rule: Mutation, prefix: &str, listing: &mut Listing) {
    let is_ledger = prefix.starts_with("ledger/");
    match rule {
        Mutation::MarkersUnseen if !is_ledger => {
            listing.lines.retain(|line| !matches!(line, Line::Version { version, .. } if version.is_marker));
        }
        Mutation::PageEndsListing if !is_ledger => listing.next = None,
        Mutation::MangledEndsListing if !is_ledger => {
            let is_mangled = |line: &Line| line.key().chars().any(|c| c.is_control() || c == '\u{fffd}');
            if let Some(place) = listing.lines.iter().position(is_mangled) {
                listing.lines.truncate(place);
                listing.next = None;
            }
        }
        Mutation::CallsUnseen if prefix.starts_with("calls/") => *listing = Listing::default(),
        Mutation::FirstVersionOnly if !is_ledger => {
            let mut last = String::new();
            listing.lines.retain(|line| {
                let is_marker = matches!(line, Line::Version { version, .. } if version.is_marker);
                let is_new = last != line.key();
                line.key().clone_into(&mut last);
                is_new || is_marker
            });
        }
        Mutation::LedgerMarkerCloses if prefix == "ledger/holds/" => {
            let hidden: Vec<String> = {
                let markers = listing.lines.iter().filter(|line| matches!(line, Line::Version { version, is_latest: true, .. } if version.is_marker));
                markers.map(|line| line.key().to_owned()).collect()
            };
            listing.lines.retain(|line| !hidden.iter().any(|key| key == line.key()));
        }
        _ => (),
    }
}
