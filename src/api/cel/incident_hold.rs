//! Rules of IncidentHold: once it counts it only grows, and it is frozen once it is resolved.
//!
//! The rules about change sit on the whole object, since they need to know from the status whether the hold counts:
//! `status.placement` is there once a pass has placed it. Before that a person may correct every field, but for the site of
//! one that is accepted: the ledger of that site's bucket may have it already. Whatever else a person narrows meanwhile,
//! the ledger never covers less than it did, so nothing is released by that.

use super::CelRule;

pub(crate) const INCIDENT_HOLD: &[CelRule] = &[
    CelRule {
        field: ".spec.siteRef",
        cel: "!has(oldSelf.status) || (!has(oldSelf.status.placement) && (!has(oldSelf.status.conditions) \
              || !oldSelf.status.conditions.exists(c, c.type == 'Accepted' && c.status == 'True'))) \
              || self.spec.siteRef.name == oldSelf.spec.siteRef.name",
        message: "article 6: a hold only grows: its site is fixed; create another hold for another site",
    },
    CelRule {
        field: ".spec.window.from",
        cel: "!has(oldSelf.status) || !has(oldSelf.status.placement) \
              || self.spec.window.from == oldSelf.spec.window.from",
        message: "article 6: a hold only grows and its start is fixed; place another hold for an earlier time, or a \
                  narrow one before you resolve this",
    },
    CelRule {
        field: ".spec.reference",
        cel: "!has(oldSelf.status) || !has(oldSelf.status.placement) \
              || self.spec.reference == oldSelf.spec.reference",
        message: "a hold belongs to one case: its reference is fixed; create another hold for another case",
    },
    CelRule {
        field: ".spec.window.until",
        cel: "!has(oldSelf.status) || !has(oldSelf.status.placement) || !has(oldSelf.spec.window.until) \
              || (has(self.spec.window.until) && self.spec.window.until >= oldSelf.spec.window.until)",
        message: "article 6: a hold only grows: its end may be moved to a later time, not to an earlier one and not \
                  removed; to narrow it, place a narrow hold and resolve this one as Superseded",
    },
    // A name of which nothing was found may go: the ledger keeps it, so whatever still comes of it is held.
    CelRule {
        field: ".spec.cameras",
        cel: "!has(oldSelf.status) || !has(oldSelf.status.placement) || !has(self.spec.cameras) \
              || self.spec.cameras.size() == 0 || (has(oldSelf.spec.cameras) && oldSelf.spec.cameras.size() > 0 \
              && oldSelf.spec.cameras.all(camera, camera in self.spec.cameras \
              || (has(oldSelf.status.unknownCameras) && camera in oldSelf.status.unknownCameras)))",
        message: "article 6: a hold only grows: cameras may be added, and an empty list (all) stays empty; only a \
                  name in status.unknownCameras may be removed; to narrow it, place a narrow hold and resolve this \
                  one as Superseded",
    },
    CelRule {
        field: ".spec.includeCalls",
        cel: "!has(oldSelf.status) || !has(oldSelf.status.placement) || !oldSelf.spec.includeCalls || self.spec.includeCalls",
        message: "article 6: a hold only grows: includeCalls may go from false to true only; to narrow it, place a narrow \
                  hold and resolve this one as Superseded",
    },
    // A resolution that lies ahead has released nothing: the operator says so in the status, and releases nothing before
    // it has taken that back.
    CelRule {
        field: ".spec.state",
        cel: "!has(oldSelf.status) || !has(oldSelf.status.placement) || oldSelf.spec.state != 'Resolved' \
              || self.spec.state == 'Resolved' \
              || oldSelf.status.conditions.exists(c, c.type == 'Released' && c.reason == 'ResolutionInFuture')",
        message: "article 6: resolved is final, what the hold covered may be gone; create a new hold",
    },
    CelRule {
        field: ".spec",
        cel: "!has(oldSelf.status) || !has(oldSelf.status.placement) || oldSelf.spec.state != 'Resolved' \
              || self.spec.state != 'Resolved' || self.spec == oldSelf.spec \
              || oldSelf.status.conditions.exists(c, c.type == 'Released' && c.reason == 'ResolutionInFuture')",
        message: "a resolved hold is a record and cannot be changed; create a new hold",
    },
    CelRule {
        field: ".spec.review.time",
        cel: "!has(oldSelf.status) || !has(oldSelf.status.placement) || !has(oldSelf.spec.review) \
              || (has(self.spec.review) && self.spec.review.time >= oldSelf.spec.review.time) \
              || oldSelf.status.conditions.exists(c, c.type == 'ReviewDue' && c.reason == 'ReviewInFuture')",
        message: "a review that took place stays: set review.time to a later review, and do not remove it",
    },
];

pub(crate) const INCIDENT_HOLD_SPEC: &[CelRule] = &[
    CelRule {
        field: ".resolution",
        cel: "has(self.resolution) == (self.state == 'Resolved')",
        message: "article 6: how an incident was resolved goes with state Resolved, and only with it: set both state \
                  and resolution, or neither",
    },
    CelRule {
        field: ".resolution.time",
        cel: "!has(self.resolution) || self.resolution.time >= self.window.from",
        message: "an incident is resolved after it began: set resolution.time later than window.from",
    },
    CelRule {
        field: ".review.time",
        cel: "!has(self.review) || self.review.time >= self.window.from",
        message: "a hold is reviewed after its incident began: set review.time to when the review took place",
    },
];

pub(crate) const REFERENCE: &[CelRule] = &[CelRule {
    field: "",
    cel: "self.matches('^[A-Za-z0-9][A-Za-z0-9._/-]*$') && self.matches('[0-9]')",
    message: "a reference is the organisation's case number, with letters, digits, '.', '_', '/' and '-', and a digit \
              in it; no names, mail addresses or other personal data",
}];
