//! Rules of types that several kinds use.

use super::CelRule;

pub(crate) const OBJECT_NAME: &[CelRule] = &[CelRule {
    field: "",
    cel: "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",
    message: "an object's name has lowercase letters, digits, '-' and '.' only; write its metadata.name, \
                  without namespace or kind",
}];

pub(crate) const SITE_NAME: &[CelRule] = &[CelRule {
    field: "",
    cel: "self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    message: "a Site's name has lowercase letters, digits and '-' only and begins with a letter; write \
                  its metadata.name",
}];

pub(crate) const CAMERA_NAME: &[CelRule] = &[CelRule {
    field: "",
    cel: "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
    message: "a Camera's name has lowercase letters, digits and '-' only; write its metadata.name",
}];

// The pattern checks the days of each month, because the CEL library for dates exceeds the cost budget. `timestamp` then
// rejects 29 February of other years.
pub(crate) const DATE_OR_INSTANT: &[CelRule] = &[CelRule {
    field: "",
    cel: "self.matches('^[0-9]{4}-(02-[0-2][0-9]|(0[469]|11)-([0-2][0-9]|30)|(0[13578]|1[02])-([0-2][0-9]|3[01]))\
          (T[0-9:]{8}([.][0-9]{1,9})?(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9]))?$') \
          && timestamp(self.size() == 10 ? self + 'T00:00:00Z' : self).getFullYear() >= 0",
    message: "neither an existing day nor an RFC 3339 time with its offset; write it such as 2020-05-06 \
                  or 2020-05-06T00:00:00+02:00",
}];

// `timestamp` rejects days and times that do not exist.
pub(crate) const INSTANT: &[CelRule] = &[CelRule {
    field: "",
    cel: "self.matches('^(19|20|21)[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?\
          (Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])$') && timestamp(self).getFullYear() >= 0",
    message: "not an RFC 3339 time with seconds and an offset, in the years 1900 to 2199; write it such as \
                  2026-04-12T21:30:00+02:00 or 2026-04-12T19:30:00Z",
}];

/// Expression that is true if a time has no offset. Rules that compare it skip it: its own rule rejects it, and the API server
/// would add that they cannot be evaluated.
macro_rules! has_no_offset {
    ($time:literal) => {
        concat!("!", $time, ".matches('(Z|[+-][0-9]{2}:[0-9]{2})$')")
    };
}
pub(crate) use has_no_offset;

pub(crate) const TIME_WINDOW: &[CelRule] = &[CelRule {
    field: ".until",
    cel: concat!(
        "!has(self.until) || ",
        has_no_offset!("self.from"),
        " || ",
        has_no_offset!("self.until"),
        " || timestamp(self.from) < timestamp(self.until)"
    ),
    message: "until is not later than from; set a later until, or remove it while the incident lasts",
}];

/// Forms in which stores name one identity: a bare name, or the ARN of a user, a role, or a session of either. Other
/// characters than letters, digits and `+=,.@_-` are rejected: a store expands `${aws:username}` to any caller.
macro_rules! principal_pattern {
    () => {
        "^([A-Za-z0-9+=,.@_-]+|arn:aws(-[a-z]+)*:(iam::[A-Za-z0-9_-]*:(root|(user|role)(/[A-Za-z0-9+=,.@_-]+)+)\
         |sts::[A-Za-z0-9_-]*:(assumed-role|federated-user)(/[A-Za-z0-9+=,.@_-]+)+))$"
    };
}

/// Names of these forms that denote several identities.
macro_rules! shared_principal_pattern {
    () => {
        "^[0-9]{12}$|^root$|:root$|(^|/)anonymous$"
    };
}

/// Regular expressions for CEL and Rust: the form of a principal, and the names that it must not have.
pub(crate) const PRINCIPAL_PATTERNS: (&str, &str) = (principal_pattern!(), shared_principal_pattern!());

pub(crate) const PRINCIPAL: &[CelRule] = &[
    CelRule {
        field: "",
        cel: concat!("self.matches('", principal_pattern!(), "')"),
        message: "article 4.1: a principal must be one identity, not a wildcard, a variable or a pattern, \
                  with letters, digits and +=,.@_- only; write the ARN or bare name of a user or role as the \
                  store's policies do, such as arn:aws:iam::123456789012:user/name",
    },
    CelRule {
        field: "",
        cel: concat!("!self.matches('", shared_principal_pattern!(), "')"),
        message: "article 4.1: a principal must be one identity, not an account, its root or anonymous; \
                  create a user or role for it",
    },
];

pub(crate) const ENCRYPTION_KEY: &[CelRule] = &[CelRule {
    field: "",
    cel: "self.matches('^age1[a-z0-9]{58}$')",
    message: "not an age public key of age1 and 58 characters; write the public key that age-keygen \
                  prints, never the secret key",
}];
