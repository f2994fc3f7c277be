//! The API server, with holds and one Site.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;
use toezicht::api::{Ceilings, Days, HoldState, IncidentHold, RecordingPolicySpec, Site};
use toezicht::rules::Window;
use toezicht::rules::hold::proof;
use toezicht::rules::hold::scope::HoldScope;

use super::exact::parse;

/// Ceilings of all simulations: the minimum, so that few days need to be simulated.
pub const CEILINGS: Ceilings = Ceilings { video: Days(5), calls: Days(5) };

pub fn policy() -> RecordingPolicySpec {
    let policy = json!({
        "title": "t", "timeZone": "Europe/Amsterdam", "adoption": {"by": "c", "date": "2020-05-04"},
        "inForce": {"from": "2020-05-06"}, "purposes": ["Theft"],
        "retention": {"video": "5d", "calls": "5d"}, "holds": {"reviewInterval": "28d"},
    });
    parse(policy)
}

/// A hold to declare.
#[derive(Clone, Debug)]
pub struct Incident {
    pub name: String,
    pub cameras: Vec<String>,
    pub calls: bool,
    pub window: Window,
}

/// The simulated API server.
pub struct Api {
    /// By UID.
    pub holds: BTreeMap<String, IncidentHold>,
    pub site: Site,
    /// Whether it answers no request.
    pub is_unavailable: bool,
    next: u64,
}

impl Default for Api {
    fn default() -> Self {
        let site = json!({
            "metadata": {"name": "dillenburcht", "namespace": "heusden", "uid": "site-uid", "generation": 1},
            "spec": {
                "displayName": "S", "address": {"street": "a", "city": "b"}, "policyRef": {"name": "p"},
                "managers": [],
                "storage": {
                    "bucket": "bucket", "region": "r",
                    "operator": {"principal": "o", "credentialsRef": {"name": "o"}},
                    "recorder": {"principal": "r", "credentialsRef": {"name": "r"}},
                },
            },
        });
        Self { holds: BTreeMap::new(), site: parse(site), is_unavailable: false, next: 0 }
    }
}

impl Api {
    /// Declares a hold and returns its UID.
    pub fn declare(&mut self, incident: &Incident, now: Timestamp) -> String {
        self.next += 1;
        let uid = format!("uid-{:04}", self.next);
        let hold = json!({
            "metadata": {
                "name": incident.name, "namespace": "heusden", "uid": uid, "generation": 1, "creationTimestamp": now,
            },
            "spec": {
                "siteRef": {"name": "dillenburcht"}, "purpose": "Theft", "reference": format!("2026-{}", incident.name),
                "cameras": incident.cameras, "includeCalls": incident.calls,
                "window": {"from": incident.window.from, "until": incident.window.until},
            },
        });
        let mut hold = hold;
        if incident.window.until.is_none() {
            hold["spec"]["window"].as_object_mut().unwrap().remove("until");
        }
        self.holds.insert(uid.clone(), parse(hold));
        uid
    }

    /// Changes a hold and increases its generation.
    pub fn change(&mut self, uid: &str, edit: impl FnOnce(&mut IncidentHold)) {
        if let Some(hold) = self.holds.get_mut(uid) {
            edit(hold);
            hold.metadata.generation = hold.metadata.generation.map(|generation| generation + 1);
        }
    }

    pub fn resolve(&mut self, uid: &str, at: Timestamp) {
        self.change(uid, |hold| {
            hold.spec.state = HoldState::Resolved;
            let resolution = json!({"time": at, "by": "Gemeentesecretaris", "outcome": "Closed"});
            hold.spec.resolution = Some(parse(resolution));
        });
    }

    pub fn all(&self) -> Vec<IncidentHold> {
        self.holds.values().cloned().collect()
    }

    /// Returns the scopes of the open holds.
    pub fn open_scopes(&self, now: Timestamp) -> Vec<HoldScope> {
        proof::open_scopes(&self.all(), now)
    }

    /// Returns the UIDs of the open holds.
    pub fn open(&self, now: Timestamp) -> Vec<String> {
        let open = self.holds.iter().filter(|(_, hold)| !is_resolved(hold, now));
        open.map(|(uid, _)| uid.clone()).collect()
    }
}

pub fn is_resolved(hold: &IncidentHold, now: Timestamp) -> bool {
    let at = hold.spec.resolution.as_ref().map(|resolution| resolution.time.0);
    hold.spec.state == HoldState::Resolved && at.is_none_or(|at| at <= now)
}

/// Returns the scope of a hold, open or resolved.
pub fn scope_of(hold: &IncidentHold) -> HoldScope {
    let mut open = hold.clone();
    open.spec.state = HoldState::Open;
    open.spec.resolution = None;
    proof::open_scopes(&[open], Timestamp::MIN).remove(0)
}
