//! Rules of IncidentHold: a hold in effect only grows, and a resolved hold is immutable.
//!
//! The transition rules are set on the whole object because they depend on the status. A hold is in effect once
//! `status.placement` exists: the ledger has the hold. Before that, a person can correct every field. Only the site of an accepted
//! hold is immutable: that site's bucket may already have its ledger entry. The ledger entry never covers less than before,
//! so a correction releases nothing.

use super::CelRule;
use super::common::has_no_offset;

/// A rule that applies once the hold is in effect.
macro_rules! once_in_effect {
    ($rule:literal) => {
        concat!("!has(oldSelf.status) || !has(oldSelf.status.placement) || ", $rule)
    };
}

pub(crate) const INCIDENT_HOLD: &[CelRule] = &[
    CelRule {
        field: ".spec.siteRef",
        cel: "!has(oldSelf.status) || (!has(oldSelf.status.placement) && (!has(oldSelf.status.conditions) \
              || !oldSelf.status.conditions.exists(c, c.type == 'Accepted' && c.status == 'True'))) \
              || self.spec.siteRef.name == oldSelf.spec.siteRef.name",
        message: "article 6: an accepted hold only grows, and its site is immutable; create another hold for \
                  another site",
    },
    CelRule {
        field: ".spec.window.from",
        cel: once_in_effect!("timestamp(self.spec.window.from) == timestamp(oldSelf.spec.window.from)"),
        message: "article 6: once in effect, a hold only grows, and its start is immutable; create another hold for an \
                  earlier time, or create a narrow one and resolve this one as Superseded",
    },
    CelRule {
        field: ".spec.reference",
        cel: once_in_effect!("self.spec.reference == oldSelf.spec.reference"),
        message: "a hold in effect belongs to one case, and its reference is immutable; create another hold for \
                  another case",
    },
    CelRule {
        field: ".spec.window.until",
        cel: once_in_effect!(
            "!has(oldSelf.spec.window.until) \
             || (has(self.spec.window.until) \
             && timestamp(self.spec.window.until) >= timestamp(oldSelf.spec.window.until))"
        ),
        message: "article 6: once in effect, a hold only grows, and its end can move to a later time only; to narrow \
                  it, create a narrow hold and resolve this one as Superseded",
    },
    // A camera without recordings can be removed: its ledger entry still has the name, so later uploads are held.
    CelRule {
        field: ".spec.cameras",
        cel: once_in_effect!(
            "!has(self.spec.cameras) \
             || self.spec.cameras.size() == 0 || (has(oldSelf.spec.cameras) && oldSelf.spec.cameras.size() > 0 \
             && oldSelf.spec.cameras.all(camera, camera in self.spec.cameras \
             || (has(oldSelf.status.unknownCameras) && camera in oldSelf.status.unknownCameras)))"
        ),
        message: "article 6: once in effect, a hold only grows, so cameras can be added, an empty list (all) stays \
                  empty, and only names in status.unknownCameras can be removed; to narrow it, create a \
                  narrow hold and resolve this one as Superseded",
    },
    CelRule {
        field: ".spec.includeCalls",
        cel: once_in_effect!("!oldSelf.spec.includeCalls || self.spec.includeCalls"),
        message: "article 6: once in effect, a hold only grows, and includeCalls can change from false to true only; \
                  to narrow it, create a narrow hold and resolve this one as Superseded",
    },
    // A resolution in the future has released nothing. The operator reports it in the status, and releases nothing while
    // the status has this reason.
    CelRule {
        field: ".spec.state",
        cel: once_in_effect!(
            "oldSelf.spec.state != 'Resolved' \
             || self.spec.state == 'Resolved' \
             || oldSelf.status.conditions.exists(c, c.type == 'Released' && c.reason == 'ResolutionInFuture')"
        ),
        message: "article 6: Resolved is final because the recordings may already be deleted; create a new \
                  hold",
    },
    CelRule {
        field: ".spec",
        cel: once_in_effect!(
            "oldSelf.spec.state != 'Resolved' \
             || self.spec.state != 'Resolved' || self.spec == oldSelf.spec \
             || oldSelf.status.conditions.exists(c, c.type == 'Released' && c.reason == 'ResolutionInFuture')"
        ),
        message: "a resolved hold is a record and immutable; create a new hold",
    },
    CelRule {
        field: ".spec.review.time",
        cel: once_in_effect!(
            "!has(oldSelf.spec.review) \
             || (has(self.spec.review) && timestamp(self.spec.review.time) >= timestamp(oldSelf.spec.review.time)) \
             || oldSelf.status.conditions.exists(c, c.type == 'ReviewDue' && c.reason == 'ReviewInFuture')"
        ),
        message: "a review that took place cannot be undone; set review.time to a later review, and do not \
                  remove it",
    },
];

pub(crate) const INCIDENT_HOLD_SPEC: &[CelRule] = &[
    CelRule {
        field: ".resolution",
        cel: "has(self.resolution) == (self.state == 'Resolved')",
        message: "article 6: state Resolved and resolution belong together; set both, or neither",
    },
    CelRule {
        field: ".resolution.time",
        cel: concat!(
            "!has(self.resolution) || ",
            has_no_offset!("self.window.from"),
            " || ",
            has_no_offset!("self.resolution.time"),
            " || timestamp(self.resolution.time) >= timestamp(self.window.from)"
        ),
        message: "the resolution is earlier than the incident; set resolution.time to window.from or later",
    },
    CelRule {
        field: ".review.time",
        cel: concat!(
            "!has(self.review) || ",
            has_no_offset!("self.window.from"),
            " || ",
            has_no_offset!("self.review.time"),
            " || timestamp(self.review.time) >= timestamp(self.window.from)"
        ),
        message: "the review is earlier than the incident; set review.time to the time at which the review \
                  took place",
    },
];

pub(crate) const REFERENCE: &[CelRule] = &[CelRule {
    field: "",
    cel: "self.matches('^[A-Za-z0-9][A-Za-z0-9._/-]*$') && self.matches('[0-9]')",
    message: "a reference is a case number with at least one digit, and with letters, digits, '.', '_', \
                  '/' and '-' only; write no names, mail addresses or other personal data",
}];
