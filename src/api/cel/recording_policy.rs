//! Rules of RecordingPolicy.

use super::CelRule;

/// Rules of the whole object.
pub(crate) const RECORDING_POLICY: &[CelRule] = &[CelRule {
    field: ".spec.replaces",
    cel: "!has(self.spec.replaces) || self.spec.replaces != self.metadata.name",
    message: "article 10: a policy replaces another one, not itself; name the earlier policy, or leave replaces out",
}];

pub(crate) const RECORDING_POLICY_SPEC: &[CelRule] = &[
    // An instant's day depends on the zone: what lies within 14 hours of the day is left to the operator.
    CelRule {
        field: ".inForce.from",
        cel: "self.inForce.from.size() == 10 \
              ? timestamp(self.inForce.from + 'T00:00:00Z') >= self.adoption.date \
              : timestamp(self.inForce.from) >= self.adoption.date - duration('14h')",
        message: "article 11: a policy enters into force after it is adopted; set inForce.from to adoption.date or later",
    },
    CelRule {
        field: ".incidentOfficers",
        cel: "!has(self.incidentOfficers) || self.incidentOfficers.all(a, \
              self.incidentOfficers.exists_one(b, b.subject == a.subject))",
        message: "article 4.1: each officer is listed once; remove the second entry with the same subject",
    },
];

pub(crate) const TIME_ZONE: &[CelRule] = &[CelRule {
    field: "",
    cel: "self.matches('^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$')",
    message: "a time zone is neither a city nor an offset; write its IANA name, such as Europe/Amsterdam",
}];

// Of a day and an instant it takes the zone to tell which comes first: what no zone could put right is
// refused here, the rest by the operator.
pub(crate) const IN_FORCE: &[CelRule] = &[CelRule {
    field: ".until",
    cel: "!has(self.until) || (\
          self.from.size() == 10 \
          ? (self.until.size() == 10 ? self.from < self.until \
             : timestamp(self.from + 'T00:00:00Z') - duration('14h') < timestamp(self.until)) \
          : (self.until.size() == 10 \
             ? timestamp(self.from) < timestamp(self.until + 'T00:00:00Z') + duration('14h') \
             : timestamp(self.from) < timestamp(self.until)))",
    message: "article 11: a policy is withdrawn after it entered into force; set inForce.until later than \
              inForce.from, or leave it out",
}];

pub(crate) const PURPOSE: &[CelRule] = &[CelRule {
    field: "",
    cel: "self.matches('^[A-Z][A-Za-z0-9]*$')",
    message: "article 1: a purpose is one word that begins with a capital, such as Theft or UnwantedBehaviour",
}];

pub(crate) const RETENTION: &[CelRule] = &[
    CelRule {
        field: ".video",
        cel: "!self.video.matches('^[1-4]d$')",
        message: "article 6: a ceiling below 5d cannot be kept by a store that looks once a day; set video to 5d or \
                  more",
    },
    CelRule {
        field: ".calls",
        cel: "!self.calls.matches('^[1-4]d$')",
        message: "article 6: a ceiling below 5d cannot be kept by a store that looks once a day; set calls to 5d or \
                  more",
    },
];
