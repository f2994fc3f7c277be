//! The rows of the conformance table: what is expected of a store, and what follows where it does not hold.

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr)]
pub enum Principal {
    Operator,
    Recorder,
    /// Without credentials: requests are not signed.
    Anonymous,
}

/// What a row that fails means for a Site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr)]
pub enum Severity {
    /// A promise cannot be kept: the bucket is refused, unless the Site has an exception for it.
    Fatal,
    /// The promises are kept by other means; what is weaker is said.
    Warning,
}

/// An exception of a Site (article 9) under which a bucket is taken though a fatal row fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeException {
    /// `allowUnprotected`: record though the store keeps no legal holds.
    AllowUnprotected,
    /// `retentionEnforcement: OperatorOnly`: record though the store deletes nothing by itself.
    OperatorOnly,
}

/// What stands in a row whatever is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckInfo {
    pub principal: Principal,
    /// What it means when it fails.
    pub severity: Severity,
    pub expected: &'static str,
    /// What follows where it is not so.
    pub consequence: &'static str,
}

macro_rules! checks {
    ($($name:ident: $principal:ident, $severity:ident, $expected:literal, $consequence:literal;)*) => {
        /// What is checked. The name says what holds where the verdict is [`Passed`](super::Verdict::Passed).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Check {
            $(#[doc = $expected] $name,)*
        }

        impl Check {
            /// All, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name, as it stands in the Site's status.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// What stands in its row whatever is found.
            pub const fn about(self) -> CheckInfo {
                match self {
                    $(Self::$name => CheckInfo {
                        principal: Principal::$principal,
                        severity: Severity::$severity,
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
        "what an incident holds cannot be protected: an administrator's mistake, or the lifecycle, may delete evidence";
    HeldSurvivesDelete: Operator, Fatal,
        "a version under legal hold survives being deleted by its id",
        "the store accepts a legal hold and deletes all the same: evidence may be lost";
    HeldSurvivesBatchDelete: Operator, Fatal,
        "a version under legal hold survives a batch deletion",
        "a batch deletion, which is how buckets are emptied, deletes evidence";
    HeldSurvivesBypass: Operator, Fatal,
        "a version under legal hold survives a deletion that asks to bypass governance retention",
        "whoever may bypass a retention deletes evidence, although a legal hold knows no bypass";
    LifecycleReadsBack: Operator, Fatal,
        "the lifecycle rules of a site read back as they were written",
        "the store deletes by other rules, or by none: while the operator is down, recordings outlive their ceiling";
    PutStoresTag: Operator, Fatal,
        "an object has the tag that was written with it",
        "the lifecycle goes by that tag: while the operator is down, recordings outlive their ceiling";
    ListingIsComplete: Operator, Fatal,
        "listings find every folder and, in order, every version in it, however small the pages are",
        "the operator cannot find what it must hold or delete: evidence may be lost, and recordings outlive their ceiling";
    ConditionalPutIsEnforced: Operator, Warning,
        "a second put of a key with If-None-Match: * adds nothing",
        "a put that is repeated because its answer was lost leaves two versions of the same bytes; the older goes a day later";
    WrongChecksumIsRejected: Operator, Warning,
        "bytes that do not match their x-amz-checksum-sha256 are not stored",
        "what arrives is not compared with the checksum: the hash in the signature has to do it (WrongPayloadHashIsRejected)";
    WrongPayloadHashIsRejected: Operator, Warning,
        "bytes that do not match the hash in the request's signature are not stored",
        "a segment damaged on its way may be stored unless the checksum is compared (WrongChecksumIsRejected)";
    LastModifiedIsStable: Operator, Warning,
        "`LastModified` stays when a tag or a legal hold changes",
        "a released recording begins a new life in the store's lifecycle: the operator has to delete it at its ceiling";
    HeldIsReadable: Operator, Warning,
        "where a policy lets through what is tagged `held`, such an object can be read",
        "Managers and officers cannot read held recordings by the bucket policy: they need another way to them";
    HeldVersionIsReadable: Operator, Warning,
        "where a policy lets through what is tagged `held`, such a version can be read by its id",
        "Managers and officers cannot read held recordings by the bucket policy: they need another way to them";
    SealedIsUnreadable: Operator, Warning,
        "where a policy lets through only what is tagged `held`, an object tagged `sealed` cannot be read",
        "Managers and officers can read recordings under embargo: name no principals of theirs on this store";
    SealedVersionIsUnreadable: Operator, Warning,
        "where a policy lets through only what is tagged `held`, a version tagged `sealed` cannot be read by its id",
        "Managers and officers can read recordings under embargo: name no principals of theirs on this store";
    VideoIsUnreadable: Operator, Warning,
        "where a policy lets through only what is tagged `held`, an object tagged `video` cannot be read",
        "Managers and officers can read recordings that no incident holds: name no principals of theirs on this store";
    VideoVersionIsUnreadable: Operator, Warning,
        "where a policy lets through only what is tagged `held`, a version tagged `video` cannot be read by its id",
        "Managers and officers can read recordings that no incident holds: name no principals of theirs on this store";
    OperatorCannotGet: Operator, Warning,
        "the operator cannot read what a recorder wrote",
        "The operator's credentials can read recordings";
    EveryoneElseIsDenied: Operator, Fatal,
        "whoever the bucket policy does not name is denied reading and writing, whatever rights it has from elsewhere",
        "Anyone with an account at the store can read and write recordings, as far as the account's own rights go";
    RecorderCanPut: Recorder, Fatal,
        "a recorder can write an object tagged `video`",
        "A recorder cannot write: nothing can be recorded";
    RecorderCanPutSealed: Recorder, Warning,
        "a recorder can write an object tagged `sealed`",
        "A recorder cannot write objects tagged `sealed`: what it records during an incident waits in its spool";
    RecorderCannotGet: Recorder, Warning,
        "a recorder cannot read what it wrote",
        "A recorder can read recordings";
    RecorderCannotGetVersion: Recorder, Warning,
        "a recorder cannot read by its id a version that it wrote",
        "A recorder can read recordings";
    RecorderCannotList: Recorder, Warning,
        "a recorder cannot list keys",
        "A recorder can list recordings: it sees which camera recorded when";
    RecorderCannotListVersions: Recorder, Warning,
        "a recorder cannot list versions",
        "A recorder can list recordings: it sees which camera recorded when";
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
        "a recorder cannot take the tag off an object",
        "A recorder can remove tags: only the operator then deletes those recordings at their ceiling";
    RecorderCannotSetLegalHold: Recorder, Warning,
        "a recorder cannot set a legal hold",
        "A recorder can set legal holds: such recordings stay until the operator clears the hold";
    RecorderCannotClearLegalHold: Recorder, Warning,
        "a recorder cannot clear a legal hold",
        "A recorder can clear legal holds: evidence is unprotected until the operator sets them again";
    RecorderCannotSetRetention: Recorder, Warning,
        "a recorder cannot set a retention",
        "A recorder can set retentions: such recordings outlive their ceiling";
    RecorderCannotPutWithLegalHold: Recorder, Warning,
        "a recorder cannot write an object with a legal hold",
        "A recorder can write objects with a legal hold, which stay until the operator clears it";
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
        "a recorder cannot write where it has nothing to write",
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
    /// Whether it is about access: which identity can read or write recordings (promise 3).
    pub const fn is_access_check(self) -> bool {
        match self.about().principal {
            Principal::Recorder | Principal::Anonymous => true,
            Principal::Operator => matches!(
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

    /// The exception under which a bucket is taken though this fails; `None`: there is none.
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
            assert!(principal == Principal::Operator || name.starts_with(prefix), "{name}");
            assert!(check.exception().is_none() || severity == Severity::Fatal, "{name}");
        }
    }

    #[test]
    fn critical_checks_are_fatal() {
        let fatal: BTreeSet<_> = Check::ALL
            .iter()
            .filter(|check| check.about().severity == Severity::Fatal)
            .map(|check| check.as_str())
            .collect();
        for name in ["LegalHoldReadsBack", "HeldSurvivesDelete", "LifecycleReadsBack", "AnonymousCannotGet"] {
            assert!(fatal.contains(name), "{name}");
        }
        assert!(!fatal.contains("RecorderCannotOverwrite"));
    }

    /// The table in `docs/reference/stores.md` is the one that the tests hold the two stores to.
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
