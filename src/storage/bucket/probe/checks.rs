//! The rows of the conformance table: the expectation of a store, and the consequence if it fails.

use crate::api::{ConformanceIdentity, ConformanceSeverity};

/// An exception of a Site (article 9) that accepts a bucket with a failed fatal row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeException {
    /// `allowUnprotected`: record although the store does not enforce legal holds.
    AllowUnprotected,
    /// `retentionEnforcement: OperatorOnly`: record although the store deletes nothing.
    OperatorOnly,
}

/// Fixed properties of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckInfo {
    /// The identity that makes the attempts.
    pub principal: ConformanceIdentity,
    pub severity: ConformanceSeverity,
    pub expected: &'static str,
    /// Consequence of a failure.
    pub consequence: &'static str,
}

macro_rules! checks {
    ($($name:ident: $principal:ident, $severity:ident, $expected:literal, $consequence:literal;)*) => {
        /// A check. Its name is the statement that holds if the verdict is [`Passed`](super::Verdict::Passed).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, strum::IntoStaticStr, strum::VariantArray)]
        pub enum Check {
            $(#[doc = $expected] $name,)*
        }

        impl Check {
            /// All checks, in the order of the table.
            pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

            /// Returns its name in the Site's status.
            pub fn as_str(self) -> &'static str {
                self.into()
            }

            pub const fn about(self) -> CheckInfo {
                match self {
                    $(Self::$name => CheckInfo {
                        principal: ConformanceIdentity::$principal,
                        severity: ConformanceSeverity::$severity,
                        expected: $expected,
                        consequence: $consequence,
                    },)*
                }
            }
        }
    };
}

checks! {
    LegalHoldReadsBack: Operator, Fatal,
        "a legal hold reads back as it was set, on and off",
        "held recordings are not protected: an administrator's mistake, or the lifecycle, may delete evidence";
    HeldSurvivesDelete: Operator, Fatal,
        "a version under legal hold survives being deleted by its id",
        "the store accepts a legal hold and still deletes the version: evidence may be lost";
    HeldSurvivesBatchDelete: Operator, Fatal,
        "a version under legal hold survives a batch deletion",
        "a batch deletion, the usual way to empty a bucket, deletes evidence";
    HeldSurvivesBypass: Operator, Fatal,
        "a version under legal hold survives a deletion that asks to bypass governance retention",
        "an identity that may bypass a retention can delete evidence, although a legal hold has no bypass";
    LifecycleReadsBack: Operator, Fatal,
        "the lifecycle rules of a site read back as they were written",
        "the store applies other rules, or none: while the operator is down, recordings outlive their ceiling";
    PutStoresTag: Operator, Fatal,
        "an object has the tag that was written with it",
        "the lifecycle uses that tag: while the operator is down, recordings outlive their ceiling";
    ListingIsComplete: Operator, Fatal,
        "listings find every folder and, in order, every version in it, however small the pages are",
        "the operator misses versions to hold or to delete: evidence may be lost, and recordings outlive their ceiling";
    ConditionalPutIsEnforced: Operator, Warning,
        "a second put of a key with If-None-Match: * adds nothing",
        "a put repeated after a lost answer leaves two versions of the same bytes; the store deletes the older one a day later";
    WrongChecksumIsRejected: Operator, Warning,
        "bytes that do not match their x-amz-checksum-sha256 are not stored",
        "the store ignores the checksum: only the hash in the signature protects the bytes (WrongPayloadHashIsRejected)";
    WrongPayloadHashIsRejected: Operator, Warning,
        "bytes that do not match the hash in the request's signature are not stored",
        "the store may keep a segment that was damaged in transit, unless it compares the checksum (WrongChecksumIsRejected)";
    LastModifiedIsStable: Operator, Warning,
        "`LastModified` stays when a tag or a legal hold changes",
        "the age of a released recording starts again in the store's lifecycle: the operator must delete it at its ceiling";
    HeldIsReadable: Operator, Warning,
        "if a policy allows objects tagged `held`, such an object can be read",
        "Managers and officers cannot read held recordings through the bucket policy: use another store if they must";
    HeldVersionIsReadable: Operator, Warning,
        "if a policy allows objects tagged `held`, such a version can be read by its id",
        "Managers and officers cannot read held recordings through the bucket policy: use another store if they must";
    SealedIsUnreadable: Operator, Warning,
        "if a policy allows only objects tagged `held`, an object tagged `sealed` cannot be read",
        "Managers and officers can read recordings under embargo: set no principal in spec.managers and incidentOfficers";
    SealedVersionIsUnreadable: Operator, Warning,
        "if a policy allows only objects tagged `held`, a version tagged `sealed` cannot be read by its id",
        "Managers and officers can read recordings under embargo: set no principal in spec.managers and incidentOfficers";
    VideoIsUnreadable: Operator, Warning,
        "if a policy allows only objects tagged `held`, an object tagged `video` cannot be read",
        "Managers and officers can read recordings that no incident holds: set no principal in spec.managers and incidentOfficers";
    VideoVersionIsUnreadable: Operator, Warning,
        "if a policy allows only objects tagged `held`, a version tagged `video` cannot be read by its id",
        "Managers and officers can read recordings that no incident holds: set no principal in spec.managers and incidentOfficers";
    OperatorCannotGet: Operator, Warning,
        "the operator cannot read an object that a recorder wrote",
        "The operator's credentials can read recordings";
    EveryoneElseIsDenied: Operator, Fatal,
        "an identity that the bucket policy does not name cannot read or write, even with rights from elsewhere",
        "A stranger (an identity that the bucket policy does not name) can read and write recordings, as far as its own rights go";
    RecorderCanPut: Recorder, Fatal,
        "a recorder can write an object tagged `video`",
        "A recorder cannot write: nothing can be recorded";
    RecorderCanPutSealed: Recorder, Warning,
        "a recorder can write an object tagged `sealed`",
        "A recorder cannot write objects tagged `sealed`: its recordings during an incident wait in its spool";
    RecorderCannotGet: Recorder, Warning,
        "a recorder cannot read an object that it wrote",
        "A recorder can read recordings";
    RecorderCannotGetVersion: Recorder, Warning,
        "a recorder cannot read by its id a version that it wrote",
        "A recorder can read recordings";
    RecorderCannotList: Recorder, Warning,
        "a recorder cannot list keys",
        "A recorder can list recordings: it sees when each camera recorded";
    RecorderCannotListVersions: Recorder, Warning,
        "a recorder cannot list versions",
        "A recorder can list recordings: it sees when each camera recorded";
    RecorderCannotDelete: Recorder, Warning,
        "a recorder cannot put a delete marker over an object",
        "A recorder can hide recordings; the store deletes those that no incident holds a day later";
    RecorderCannotDeleteVersion: Recorder, Warning,
        "a recorder cannot delete a version",
        "A recorder can delete recordings that no incident holds";
    RecorderCannotBatchDelete: Recorder, Warning,
        "a recorder cannot delete a version in a batch",
        "A recorder can delete recordings that no incident holds";
    RecorderCannotRetag: Recorder, Warning,
        "a recorder cannot change the tag of an object",
        "A recorder can change tags: open recordings to readers, or keep them from the lifecycle";
    RecorderCannotRetagVersion: Recorder, Warning,
        "a recorder cannot change the tag of a version",
        "A recorder can change tags: open recordings to readers, or keep them from the lifecycle";
    RecorderCannotUntag: Recorder, Warning,
        "a recorder cannot remove the tag of an object",
        "A recorder can remove tags: only the operator then deletes those recordings at their ceiling";
    RecorderCannotSetLegalHold: Recorder, Warning,
        "a recorder cannot set a legal hold",
        "A recorder can set legal holds: such recordings stay until a person clears the hold with the operator's keys";
    RecorderCannotClearLegalHold: Recorder, Warning,
        "a recorder cannot clear a legal hold",
        "A recorder can clear legal holds: evidence is unprotected until the operator sets them again";
    RecorderCannotSetRetention: Recorder, Warning,
        "a recorder cannot set a retention",
        "A recorder can set retentions: such recordings outlive their ceiling";
    RecorderCannotPutWithLegalHold: Recorder, Warning,
        "a recorder cannot write an object with a legal hold",
        "A recorder can write objects with a legal hold, which stay until a person clears it with the operator's keys";
    RecorderCannotPutWithRetention: Recorder, Warning,
        "a recorder cannot write an object with a retention",
        "A recorder can write objects with a retention, which outlive their ceiling";
    RecorderCannotPutHeld: Recorder, Warning,
        "a recorder cannot write an object tagged `held`",
        "A recorder can write objects tagged `held`, which readers can read until the operator corrects the tag";
    RecorderCannotPutOtherTag: Recorder, Warning,
        "a recorder cannot write an object with the tag of another class",
        "A recorder can write objects with a wrong tag or none, which only the operator deletes at their ceiling";
    RecorderCannotPutUntagged: Recorder, Warning,
        "a recorder cannot write an object without a tag",
        "A recorder can write objects with a wrong tag or none, which only the operator deletes at their ceiling";
    RecorderCannotOverwrite: Recorder, Warning,
        "a recorder cannot write a second version of an object",
        "A recorder can overwrite a recording whose key it knows; unless held, the older version is deleted a day later";
    RecorderCannotPutElsewhere: Recorder, Warning,
        "a recorder cannot write outside its prefixes",
        "A recorder can write objects that are no recordings";
    AnonymousCannotGet: Anonymous, Fatal,
        "without credentials, nothing can be read",
        "Anyone who reaches the store can read recordings";
    AnonymousCannotGetVersion: Anonymous, Fatal,
        "without credentials, no version can be read by its id",
        "Anyone who reaches the store can read recordings";
    AnonymousCannotList: Anonymous, Fatal,
        "without credentials, no keys can be listed",
        "Anyone who reaches the store can list recordings";
    AnonymousCannotListVersions: Anonymous, Fatal,
        "without credentials, no versions can be listed",
        "Anyone who reaches the store can list recordings";
    AnonymousCannotPut: Anonymous, Fatal,
        "without credentials, nothing can be written",
        "Anyone who reaches the store can write recordings";
    AnonymousCannotDelete: Anonymous, Fatal,
        "without credentials, nothing can be hidden behind a delete marker",
        "Anyone who reaches the store can hide recordings";
    AnonymousCannotDeleteVersion: Anonymous, Fatal,
        "without credentials, no version can be deleted",
        "Anyone who reaches the store can delete recordings";
}

impl Check {
    /// Returns whether it concerns the access of an identity to recordings (promise 3).
    pub const fn is_access_check(self) -> bool {
        match self.about().principal {
            ConformanceIdentity::Recorder | ConformanceIdentity::Anonymous => true,
            ConformanceIdentity::Operator => matches!(
                self,
                Self::HeldIsReadable
                    | Self::HeldVersionIsReadable
                    | Self::SealedIsUnreadable
                    | Self::SealedVersionIsUnreadable
                    | Self::VideoIsUnreadable
                    | Self::VideoVersionIsUnreadable
                    | Self::OperatorCannotGet
                    | Self::EveryoneElseIsDenied
            ),
        }
    }

    /// Returns the exception that accepts a failure of this check.
    pub const fn exception(self) -> Option<ProbeException> {
        match self {
            Self::LegalHoldReadsBack
            | Self::HeldSurvivesDelete
            | Self::HeldSurvivesBatchDelete
            | Self::HeldSurvivesBypass => Some(ProbeException::AllowUnprotected),
            Self::LifecycleReadsBack | Self::PutStoresTag => Some(ProbeException::OperatorOnly),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rows_fit_the_status_and_are_unique() {
        let names: BTreeSet<_> = Check::ALL.iter().map(|check| check.as_str()).collect();
        assert_eq!(names.len(), Check::ALL.len());
        assert!(names.len() <= 64, "the API's bound: {}", names.len());
        for check in Check::ALL {
            let CheckInfo { principal, severity, expected, consequence } = check.about();
            assert!(expected.len() <= 200 && consequence.len() <= 200, "{check:?}");
            assert!(!expected.ends_with('.') && !consequence.ends_with('.'), "{check:?}");
            let name = check.as_str();
            let prefix = <&str>::from(principal);
            assert!(principal == ConformanceIdentity::Operator || name.starts_with(prefix), "{name}");
            assert!(check.exception().is_none() || severity == ConformanceSeverity::Fatal, "{name}");
        }
    }

    #[test]
    fn critical_checks_are_fatal() {
        let fatal: BTreeSet<_> = Check::ALL
            .iter()
            .filter(|check| check.about().severity == ConformanceSeverity::Fatal)
            .map(|check| check.as_str())
            .collect();
        for name in ["LegalHoldReadsBack", "HeldSurvivesDelete", "LifecycleReadsBack", "AnonymousCannotGet"] {
            assert!(fatal.contains(name), "{name}");
        }
        assert!(!fatal.contains("RecorderCannotOverwrite"));
    }

    /// The table in `docs/reference/stores.md` equals the one that the tests expect of the two stores.
    #[test]
    fn documented_table_matches_expected_results() {
        type Table = std::collections::BTreeMap<String, String>;
        let committed = |text: &str| serde_json::from_str::<Table>(text).unwrap();
        let servers = [
            committed(include_str!("../../../../tests/expected/seaweedfs/conformance.json")),
            committed(include_str!("../../../../tests/expected/ceph/conformance.json")),
        ];
        let page = include_str!("../../../../docs/reference/stores.md");
        for check in Check::ALL {
            let CheckInfo { principal, severity, .. } = check.about();
            let names = [principal.into(), severity.into()].map(str::to_lowercase);
            let words = servers.each_ref().map(|table| match table[check.as_str()].as_str() {
                "Passed" => "passed",
                "Failed" => "**failed**",
                _ => "unknown",
            });
            let row = format!(
                "\n| `{}` | {}, {} | {} | {} |\n",
                check.as_str(),
                names[0],
                names[1],
                words[0],
                words[1]
            );
            assert!(page.contains(&row), "{row}");
        }
        assert!(servers.iter().all(|table| table.len() == Check::ALL.len()));
    }
}
