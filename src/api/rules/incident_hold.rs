//! Rules of IncidentHold: it only grows while it is open, and is frozen once it is resolved.

use super::Rule;

pub(in crate::api) const INCIDENT_HOLD_SPEC: &[Rule] = &[
    Rule {
        field: ".siteRef",
        cel: "self.siteRef.name == oldSelf.siteRef.name",
        message: "article 6: a hold only grows: its site is fixed; create another hold for another site",
    },
    Rule {
        field: ".window.from",
        cel: "self.window.from == oldSelf.window.from",
        message: "article 6: a hold only grows and its start is fixed; place another hold for an earlier time, or a \
                  narrow one before you resolve this",
    },
    Rule {
        field: ".reference",
        cel: "self.reference == oldSelf.reference",
        message: "a hold belongs to one case: its reference is fixed; create another hold for another case",
    },
    Rule {
        field: ".window.until",
        cel: "!has(oldSelf.window.until) || (has(self.window.until) && self.window.until >= oldSelf.window.until)",
        message: "article 6: a hold only grows: its end may be moved to a later time, not to an earlier one and not \
                  removed; to narrow it, place a narrow hold and resolve this one as Superseded",
    },
    Rule {
        field: ".cameras",
        cel: "!has(self.cameras) || self.cameras.size() == 0 || (has(oldSelf.cameras) && oldSelf.cameras.size() > 0 \
              && oldSelf.cameras.all(camera, camera in self.cameras))",
        message: "article 6: a hold only grows: cameras may be added, and an empty list (all) stays empty; to narrow \
                  it, place a narrow hold and resolve this one as Superseded",
    },
    Rule {
        field: ".calls",
        cel: "!oldSelf.calls || self.calls",
        message: "article 6: a hold only grows: calls may go from false to true only; to narrow it, place a narrow \
                  hold and resolve this one as Superseded",
    },
    Rule {
        field: ".state",
        cel: "oldSelf.state != 'Resolved' || self.state == 'Resolved'",
        message: "article 6: resolved is final, what the hold covered may be gone; create a new hold",
    },
    Rule {
        field: "",
        cel: "oldSelf.state != 'Resolved' || self.state != 'Resolved' || self == oldSelf",
        message: "a resolved hold is a record and cannot be changed; create a new hold",
    },
    Rule {
        field: ".resolution",
        cel: "has(self.resolution) == (self.state == 'Resolved')",
        message: "article 6: how an incident was resolved goes with state Resolved, and only with it: set both state \
                  and resolution, or neither",
    },
    Rule {
        field: ".resolution.at",
        cel: "!has(self.resolution) || self.resolution.at >= self.window.from",
        message: "an incident is resolved after it began: set resolution.at later than window.from",
    },
    Rule {
        field: ".review.at",
        cel: "!has(self.review) || self.review.at >= self.window.from",
        message: "a hold is reviewed after its incident began: set review.at to when the review took place",
    },
    Rule {
        field: ".review.at",
        cel: "!has(oldSelf.review) || (has(self.review) && self.review.at >= oldSelf.review.at)",
        message: "a review that took place stays: set review.at to a later review, and do not remove it",
    },
];

pub(in crate::api) const REFERENCE: &[Rule] = &[Rule {
    field: "",
    cel: "self.matches('^[A-Za-z0-9][A-Za-z0-9._/-]*$') && self.matches('[0-9]')",
    message: "a reference is the organisation's case number, with letters, digits, '.', '_', '/' and '-', and a digit \
              in it; no names, mail addresses or other personal data",
}];
