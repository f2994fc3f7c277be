//! Rules of RecordingPolicy.

use super::CelRule;

/// Rules of the whole object.
pub(crate) const RECORDING_POLICY: &[CelRule] = &[CelRule {
    field: ".spec.replaces",
    cel: "!has(self.spec.replaces) || self.spec.replaces != self.metadata.name",
    message: "article 10: a policy cannot replace itself; name the earlier policy, or remove replaces",
}];

pub(crate) const RECORDING_POLICY_SPEC: &[CelRule] = &[
    // The day of an RFC 3339 time depends on the zone. Within 14 hours of the day, only the operator can decide.
    CelRule {
        field: ".inForce.from",
        cel: "self.inForce.from.size() == 10 \
              ? timestamp(self.inForce.from + 'T00:00:00Z') >= self.adoption.date \
              : timestamp(self.inForce.from) >= self.adoption.date - duration('14h')",
        message: "article 11: a policy cannot enter into force before its adoption; set inForce.from to \
                  adoption.date or later",
    },
    CelRule {
        field: ".incidentOfficers",
        cel: "!has(self.incidentOfficers) || self.incidentOfficers.all(a, \
              self.incidentOfficers.exists_one(b, b.subject == a.subject))",
        message: "article 4.1: an officer is listed twice; remove the second entry with the same subject",
    },
];

pub(crate) const TIME_ZONE: &[CelRule] = &[CelRule {
    field: "",
    cel: "self.matches('^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$')",
    message: "not the name of an IANA time zone; write it such as Europe/Amsterdam, not as a city or an \
                  offset",
}];

// The order of a day and an RFC 3339 time depends on the zone. This rule rejects orders that are wrong in every zone. The
// operator rejects the rest.
pub(crate) const IN_FORCE: &[CelRule] = &[CelRule {
    field: ".until",
    cel: "!has(self.until) || (\
          self.from.size() == 10 \
          ? (self.until.size() == 10 ? self.from < self.until \
             : timestamp(self.from + 'T00:00:00Z') - duration('14h') < timestamp(self.until)) \
          : (self.until.size() == 10 \
             ? timestamp(self.from) < timestamp(self.until + 'T00:00:00Z') + duration('14h') \
             : timestamp(self.from) < timestamp(self.until)))",
    message: "article 11: a policy cannot be withdrawn before it enters into force; set inForce.until \
                  later than inForce.from, or remove it",
}];

pub(crate) const PURPOSE: &[CelRule] = &[CelRule {
    field: "",
    cel: "self.matches('^[A-Z][A-Za-z0-9]*$')",
    message: "article 1: a purpose is one word that begins with a capital letter; write it such as Theft \
                  or UnwantedBehaviour",
}];

pub(crate) const RETENTION: &[CelRule] = &[
    CelRule {
        field: ".video",
        cel: "!self.video.matches('^[1-4]d$')",
        message: "article 6: a store that applies lifecycle rules once a day cannot keep a ceiling below 5d; \
                  set video to 5d or more",
    },
    CelRule {
        field: ".calls",
        cel: "!self.calls.matches('^[1-4]d$')",
        message: "article 6: a store that applies lifecycle rules once a day cannot keep a ceiling below 5d; \
                  set calls to 5d or more",
    },
];
