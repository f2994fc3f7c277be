//! Mutations: rules that the code relies on, each broken in turn outside the code under test. The network reverts the
//! operator's writes or hides what it reads, or the simulated environment makes the mistake.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::listing::{Listing, ListingEntry};
use super::store::{Actor, Caller, StoreError};
use super::store_api::{StoreRequest, StoreResponse};
use super::store_kind::NetworkFault;
use super::world::World;

/// A broken rule. Each variant's text states the intact rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutation {
    /// The declared holds are read again before a deletion.
    DeclaredReadOnce,
    /// If the declared holds cannot be read, nothing is deleted.
    UnknownIsNothing,
    /// A stopped leader writes nothing.
    Unfenced,
    /// `Placed` and a release wait for recorders.
    FollowNotAsked,
    /// An acknowledgement becomes invalid once the open holds change.
    FollowKept,
    /// Holds that are open in the ledger are open.
    LedgerDoesNotCount,
    /// A closed entry of an open hold is opened again.
    NotReopened,
    /// A predecessor is closed even if the successor already has its entry.
    SuccessionOnce,
    /// A version under embargo is sealed.
    EmbargoForgotten,
    /// A version that only resolved holds cover is overdue past its ceiling.
    AuditBelievesResolved,
    /// A new leader delays releases.
    ReleasesAtOnce,
    /// A recorder acknowledges nothing while an earlier upload may still arrive.
    UploadsForgotten,
    /// The same applies after a restart.
    SpoolForgotten,
    /// A recorder seals recordings that holds cover.
    RecorderIgnoresHolds,
    /// The legal hold is set before the tag.
    TagBeforeHold,
    /// The tag is reset before the legal hold is cleared.
    HoldOffBeforeTag,
    /// Legal holds are read.
    MarksNotRead,
    /// Delete markers are listed.
    MarkersUnseen,
    /// A listing is read to its end.
    PageEndsListing,
    /// All versions of a key are processed.
    FirstVersionOnly,
    /// A delete marker closes no entry.
    LedgerMarkerCloses,
    /// The ledger is written before anything is placed.
    LedgerWrittenLater,
    /// If clocks disagree, nothing is deleted.
    DatesAgree,
    /// A 400 response does not mean that there is no legal hold.
    AnyRefusalIsNoHold,
    /// Sources are found by their folders, not by jumping from one to the next.
    SourcesByJump,
    /// Cameras' sources are read, even among many forged ones.
    TooManySources,
    /// A key that cannot be listed does not end a listing.
    MangledEndsListing,
    /// A page full of versions of one foreign key does not end a listing.
    CrowdEndsListing,
    /// A truncated listing is rejected.
    HalfBelieved,
    /// Verified versions are remembered in the manifest.
    ManifestForgotten,
    /// A request arrives while its signature is valid, or never.
    SignatureForever,
    /// Tags that no hold explains are reset.
    UnexplainedStay,
    /// A hold with calls covers calls too.
    CallsUnseen,
    /// All days of a window are listed.
    OldDaysUnseen,
    /// An acknowledgement of a hold does not cover a later widened scope.
    ScopeForgotten,
    /// A loss is reported before the manifest drops the lost version.
    ManifestFirst,
    /// Versions are deleted by id; a delete marker deletes nothing.
    DeletedByKey,
    /// The listed version is held, even if a newer one was put since.
    NewestHeld,
    /// A held version needs its tag as well as its legal hold.
    TagForgotten,
}

impl Mutation {
    /// Mutations that the simulation detects, each with a seed that detects it.
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

    /// Mutations that no known seed detects.
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

/// Requests that a mutation has deferred.
#[derive(Debug, Default)]
pub struct DeferredRequests {
    /// Requests that were answered but not applied yet, by key and version.
    requests: BTreeMap<(String, String), Vec<StoreRequest>>,
}

/// Number of sources at which a naive implementation gives up.
const MOST_SOURCES: usize = 12;

impl World {
    /// Resets the request count at the start of a reconcile.
    pub fn begin_reconcile(&mut self, n: usize) {
        self.requests_in_reconcile[n] = 0;
    }

    /// Applies requests that were deferred until the end of a reconcile.
    pub fn end_reconcile(&mut self, n: usize) {
        if self.is_broken(Mutation::LedgerWrittenLater) {
            let (now, sent) = (self.store_now(), self.now());
            let by = Caller { actor: Actor::Operator(n), now, sent };
            for request in std::mem::take(&mut self.deferred.requests).into_values().flatten() {
                let _ = self.store.serve(by, &request);
            }
            self.check_effects();
        }
    }

    pub fn serve_mutated(&mut self, by: Caller, request: &StoreRequest) -> Result<StoreResponse, StoreError> {
        let Some(rule) = self.mutation.filter(|_| matches!(by.actor, Actor::Operator(_))) else {
            return self.store.serve(by, request);
        };
        match (rule, request) {
            (Mutation::TagBeforeHold, StoreRequest::PutHold { key, id, on: true }) => {
                self.defer(key, id, request);
                Ok(StoreResponse::Done)
            }
            (Mutation::HoldOffBeforeTag, StoreRequest::PutTags { key, id, tags }) if is_class_tag(tags) => {
                self.defer(key, id, request);
                Ok(StoreResponse::Done)
            }
            (Mutation::TagBeforeHold, StoreRequest::PutTags { key, id, .. })
            | (Mutation::HoldOffBeforeTag, StoreRequest::PutHold { key, id, on: false }) => {
                let response = self.store.serve(by, request);
                self.check_effects();
                self.run_deferred(by, key, id);
                response
            }
            (Mutation::DeletedByKey, StoreRequest::DeleteMany(versions)) => {
                for (key, id) in versions {
                    let is_marker = self.store.find(key, id).is_none_or(|version| version.is_marker);
                    self.store.delete(by, key, is_marker.then_some(id.as_str())).ok();
                }
                Ok(StoreResponse::Left(Vec::new()))
            }
            (Mutation::NewestHeld, StoreRequest::PutHold { key, id, on: true }) => {
                let versions = self.store.keys.get(key).into_iter().flatten();
                let newest = versions.clone().find(|version| !version.is_marker);
                let id = newest.map_or(id, |version| &version.id).clone();
                self.store.set_hold(by, key, &id, true)?;
                Ok(StoreResponse::Done)
            }
            (Mutation::TagForgotten, StoreRequest::PutTags { tags, .. }) if !is_class_tag(tags) => {
                Ok(StoreResponse::Done)
            }
            (Mutation::MarksNotRead, StoreRequest::GetHold { .. }) => Ok(StoreResponse::Hold(true)),
            (Mutation::LedgerWrittenLater, StoreRequest::Put { key, .. })
                if key.starts_with("ledger/holds/") =>
            {
                self.defer(key, "", request);
                Ok(StoreResponse::Put("later".into()))
            }
            (Mutation::ManifestForgotten, StoreRequest::Get { key, .. })
                if key.starts_with("ledger/manifests/") =>
            {
                Err(StoreError(404, "NoSuchKey"))
            }
            (Mutation::UnexplainedStay, StoreRequest::PutTags { key, tags, .. }) if is_class_tag(tags) => {
                let parsed: Result<toezicht::rules::recording::key::Key, _> = key.parse();
                let entries = super::checks::open_entries(&self.store);
                let is_explained = parsed
                    .is_ok_and(|key| entries.values().any(|entry| entry.scope.covers(&key.recording())));
                if is_explained { self.store.serve(by, request) } else { Ok(StoreResponse::Done) }
            }
            (rule, StoreRequest::List { parameters, .. }) => {
                let response = self.store.serve(by, request)?;
                let StoreResponse::Listing(mut listing) = response else {
                    return Ok(response);
                };
                let is_of_sources = parameters.delimiter.is_some()
                    && matches!(parameters.prefix.as_str(), "video/" | "calls/");
                if is_of_sources {
                    mutate_sources(rule, &mut listing)?;
                }
                if rule == Mutation::LedgerDoesNotCount && parameters.prefix.starts_with("ledger/holds/") {
                    let is_known = |entry: &ListingEntry| {
                        let uid = entry.key().trim_start_matches("ledger/holds/");
                        self.api.holds.contains_key(uid.trim_end_matches(".json"))
                    };
                    listing.entries.retain(is_known);
                }
                if rule == Mutation::CrowdEndsListing && is_single_foreign_key(&listing) {
                    return Err(StoreError(400, "EndlessListing"));
                }
                if rule == Mutation::OldDaysUnseen && is_old(&parameters.prefix, by.now) {
                    listing = Listing::default();
                }
                mutate_page(rule, &parameters.prefix, &mut listing);
                Ok(StoreResponse::Listing(listing))
            }
            _ => self.store.serve(by, request),
        }
    }

    /// Changes a response after faults were applied.
    pub fn mutate_response(
        &self,
        request: &StoreRequest,
        fault: NetworkFault,
        mut response: Result<StoreResponse, StoreError>,
    ) -> Result<StoreResponse, StoreError> {
        if self.is_broken(Mutation::HalfBelieved)
            && fault == NetworkFault::Truncated
            && let Ok(StoreResponse::Listing(listing)) = &mut response
        {
            listing.entries.truncate(listing.entries.len() / 2);
            listing.next = None;
        }
        match (self.mutation, request, &response) {
            (Some(Mutation::AnyRefusalIsNoHold), StoreRequest::GetHold { .. }, Err(StoreError(400, _))) => {
                Err(StoreError(404, "NoSuchObjectLockConfiguration"))
            }
            _ => response,
        }
    }

    fn defer(&mut self, key: &str, id: &str, request: &StoreRequest) {
        let version = (key.to_owned(), id.to_owned());
        self.deferred.requests.entry(version).or_default().push(request.clone());
    }

    fn run_deferred(&mut self, by: Caller, key: &str, id: &str) {
        let deferred = self.deferred.requests.remove(&(key.to_owned(), id.to_owned()));
        for request in deferred.into_iter().flatten() {
            let _ = self.store.serve(by, &request);
        }
    }
}

/// Returns whether a listing is of a day before yesterday.
fn is_old(prefix: &str, now: Timestamp) -> bool {
    let mut parts = prefix.trim_end_matches('/').splitn(3, '/');
    let day = parts.nth(2).unwrap_or_default().replace('/', "-");
    let day = day.get(..10).and_then(|day| day.parse::<jiff::civil::Date>().ok());
    let yesterday = (now - SignedDuration::from_hours(24)).to_zoned(jiff::tz::TimeZone::UTC);
    day.is_some_and(|day| day < yesterday.date())
}

/// Returns whether a page has only versions of one foreign key and is not the last page.
fn is_single_foreign_key(listing: &Listing) -> bool {
    let keys: BTreeSet<&str> = listing.entries.iter().map(ListingEntry::key).collect();
    let is_foreign =
        |key: &&str| key.parse::<toezicht::rules::recording::key::Key>().is_err() && !key.ends_with('/');
    listing.next.is_some() && keys.len() == 1 && keys.iter().all(is_foreign)
}

fn is_class_tag(tags: &[(String, String)]) -> bool {
    matches!(tags, [(_, value)] if value == "video" || value == "calls")
}

/// Changes the listed folders of a class as the mutation does.
fn mutate_sources(rule: Mutation, listing: &mut Listing) -> Result<(), StoreError> {
    match rule {
        Mutation::TooManySources if listing.entries.len() > MOST_SOURCES => {
            return Err(StoreError(400, "TooManySources"));
        }
        Mutation::SourcesByJump => {
            let keys: Vec<String> =
                listing.entries.iter().map(|entry| entry.key().trim_end_matches('/').to_owned()).collect();
            listing.entries.retain(|entry| {
                let name = entry.key().trim_end_matches('/');
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

/// Changes a listed page as the mutation does.
fn mutate_page(rule: Mutation, prefix: &str, listing: &mut Listing) {
    let is_ledger = prefix.starts_with("ledger/");
    match rule {
        Mutation::MarkersUnseen if !is_ledger => {
            listing
                .entries
                .retain(|entry| !matches!(entry, ListingEntry::Version { version, .. } if version.is_marker));
        }
        Mutation::PageEndsListing if !is_ledger => listing.next = None,
        Mutation::MangledEndsListing if !is_ledger => {
            let is_mangled =
                |entry: &ListingEntry| entry.key().chars().any(|c| c.is_control() || c == '\u{fffd}');
            if let Some(place) = listing.entries.iter().position(is_mangled) {
                listing.entries.truncate(place);
                listing.next = None;
            }
        }
        Mutation::CallsUnseen if prefix.starts_with("calls/") => *listing = Listing::default(),
        Mutation::FirstVersionOnly if !is_ledger => {
            let mut last = String::new();
            listing.entries.retain(|entry| {
                let is_marker = matches!(entry, ListingEntry::Version { version, .. } if version.is_marker);
                let is_new = last != entry.key();
                entry.key().clone_into(&mut last);
                is_new || is_marker
            });
        }
        Mutation::LedgerMarkerCloses if prefix == "ledger/holds/" => {
            let hidden: Vec<String> = {
                let markers = listing.entries.iter().filter(|entry| matches!(entry, ListingEntry::Version { version, is_latest: true, .. } if version.is_marker));
                markers.map(|entry| entry.key().to_owned()).collect()
            };
            listing.entries.retain(|entry| !hidden.iter().any(|key| key == entry.key()));
        }
        _ => (),
    }
}
