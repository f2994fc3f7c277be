//! Rules of the pieces that more than one kind uses.

use super::CelRule;

pub(crate) const OBJECT_NAME: &[CelRule] = &[CelRule {
    field: "",
    cel: "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",
    message: "the name of an object in the same namespace has lowercase letters, digits, '-' and '.' only; write \
              its metadata.name, without namespace or kind",
}];

pub(crate) const SITE_NAME: &[CelRule] = &[CelRule {
    field: "",
    cel: "self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    message: "a Site's name has lowercase letters, digits and '-', and begins with a letter; write its metadata.name",
}];

pub(crate) const CAMERA_NAME: &[CelRule] = &[CelRule {
    field: "",
    cel: "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
    message: "a Camera's name has lowercase letters, digits and '-' only; write its metadata.name",
}];

// The pattern is by months, since the server's own check of dates costs more than the budget allows; what is
// left, the last days of February, the conversion refuses.
pub(crate) const DATE_OR_INSTANT: &[CelRule] = &[CelRule {
    field: "",
    cel: "self.matches('^[0-9]{4}-(02-[0-2][0-9]|(0[469]|11)-([0-2][0-9]|30)|(0[13578]|1[02])-([0-2][0-9]|3[01]))\
          (T[0-9:]{8}([.][0-9]{1,9})?(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9]))?$') \
          && timestamp(self.size() == 10 ? self + 'T00:00:00Z' : self).getFullYear() >= 0",
    message: "write a day that exists, such as 2020-05-06, or an instant with its offset, such as \
              2020-05-06T00:00:00+02:00",
}];

pub(crate) const TIME_WINDOW: &[CelRule] = &[CelRule {
    field: ".until",
    cel: "!has(self.until) || self.from < self.until",
    message: "a stretch of time ends after it begins: set until later than from, or leave until out while it is \
              still going on",
}];

/// Forms in which stores name one identity: a bare name, or the ARN of a user, a role, or a session of either. What
/// is no letter, digit or one of `+=,.@_-` is in none of them: a store expands `${aws:username}` to whoever asks.
macro_rules! principal_pattern {
    () => {
        "^([A-Za-z0-9+=,.@_-]+|arn:aws(-[a-z]+)*:(iam::[A-Za-z0-9_-]*:(root|(user|role)(/[A-Za-z0-9+=,.@_-]+)+)\
         |sts::[A-Za-z0-9_-]*:(assumed-role|federated-user)(/[A-Za-z0-9+=,.@_-]+)+))$"
    };
}

/// Names of these forms that stand for more than one identity.
macro_rules! shared_principal_pattern {
    () => {
        "^[0-9]{12}$|^root$|:root$|(^|/)anonymous$"
    };
}

/// As regular expressions that CEL and Rust read alike: the form that a principal has, and the names that it has not.
pub(crate) const PRINCIPAL_PATTERNS: (&str, &str) = (principal_pattern!(), shared_principal_pattern!());

pub(crate) const PRINCIPAL: &[CelRule] = &[
    CelRule {
        field: "",
        cel: concat!("self.matches('", principal_pattern!(), "')"),
        message: "article 4.1: a principal names one identity, never a wildcard, a variable or a pattern: letters, digits \
                  and +=,.@_- only; write the user's or role's ARN or its bare name, as the store's policies do, such as \
                  arn:aws:iam::123456789012:user/name",
    },
    CelRule {
        field: "",
        cel: concat!("!self.matches('", shared_principal_pattern!(), "')"),
        message: "article 4.1: a principal names one identity, never a whole account or its root, nor anonymous; create \
                  a user or role for it",
    },
];

pub(crate) const ENCRYPTION_KEY: &[CelRule] = &[CelRule {
    field: "",
    cel: "self.matches('^age1[a-z0-9]{58}$')",
    message: "an encryption key is an age public key, age1 and 58 characters, as age-keygen prints it; never the \
              secret key",
}];
