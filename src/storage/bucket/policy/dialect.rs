//! The dialect of a store's policies. Stores accept the same document and honour different parts of it. So the operator finds out by
//! trying which words to use, keeps them in the ledger, and reports the consequences of missing ones.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::storage::bucket::desired::OptionalRule;
use crate::storage::bucket::subresources::RequiredSubresource;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EveryoneExcept {
    /// `StringNotEquals` on `aws:PrincipalArn` (AWS).
    PrincipalArn,
    /// `NotPrincipal` (Ceph).
    NotPrincipal,
    /// `StringNotEquals` on `aws:username` (SeaweedFS).
    Username,
    /// Impossible: others have the rights that the store's administrators give them.
    Unsaid,
}

impl EveryoneExcept {
    /// The forms to try, the best first.
    pub(crate) const CANDIDATES: [Self; 3] = [Self::PrincipalArn, Self::NotPrincipal, Self::Username];

    /// Returns the elements that make a statement apply to everyone but `exempt`; `None` if that is impossible.
    pub(crate) fn statement_elements(self, exempt: &[&str]) -> Option<Map<String, Value>> {
        let everyone_unless = |key: &str, values: &[&str]| json!({ "Principal": { "AWS": ["*"] }, "Condition": { "StringNotEquals": { key: values } } });
        let elements = match self {
            Self::PrincipalArn => everyone_unless("aws:PrincipalArn", exempt),
            Self::NotPrincipal => json!({ "NotPrincipal": { "AWS": exempt } }),
            Self::Username => {
                let names: Vec<_> = exempt.iter().map(|principal| username(principal)).collect();
                everyone_unless("aws:username", &names)
            }
            Self::Unsaid => return None,
        };
        elements.as_object().cloned()
    }
}

/// Returns the name in an ARN (`arn:aws:iam::1:user/path/NAME`), or the bare name.
pub(crate) fn username(principal: &str) -> &str {
    principal.rsplit_once('/').map_or(principal, |(_, name)| name)
}

/// Returns whether a store may take two principals for one identity: some stores compare only the user's name.
pub fn may_be_same_identity(one: &str, other: &str) -> bool {
    username(one) == username(other)
}

/// Version of the proof. The operator repeats a proof of another version.
const DIALECT_VERSION: u32 = 2;

/// Configuration that a store does not keep. The operator tries it again daily.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum UnsupportedItem {
    /// A subresource that the store rejected, or accepted and did not keep.
    Subresource(RequiredSubresource),
    /// A lifecycle rule that the store rejected.
    Rule(OptionalRule),
}

/// The proved dialect of a store, for the principals of the machines and the people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::struct_excessive_bools, reason = "each is a word that a store knows or does not")]
pub struct Dialect {
    #[serde(default)]
    pub(crate) version: u32,
    /// The operator's principal: proved to name the identity of its credentials.
    pub operator: String,
    /// The recorders' principal: proved to name the identity of their credentials.
    pub recorder: String,
    pub others: EveryoneExcept,
    /// `s3:RequestObjectTag` is known: policies can limit the tags that a recorder writes.
    pub request_tag: bool,
    /// A recorder that is denied tagging can still put with its tag. Elsewhere (AWS) the put needs that right, and the policy
    /// denies only tagging an object that already has a tag.
    pub deny_tagging: bool,
    /// Policies can deny plain HTTP: the store knows whether a request came over TLS. Some stores behind a proxy that terminates
    /// TLS do not, and the rule would lock everyone out.
    pub deny_plain_http: bool,
    /// Policies know the rights to default encryption, object ownership and inventories. Elsewhere (Ceph 16), the store rejects
    /// the whole policy.
    pub more_settings: bool,
    /// The actions of newer settings that the store's policies know.
    #[serde(default)]
    pub newer_settings: BTreeSet<String>,
    /// Policies have an effect on identities. Otherwise (`MinIO`, or a store without bucket policies) identity policies give the
    /// rights, and the operator writes no bucket policy.
    #[serde(default = "yes")]
    pub heeds_policies: bool,
    /// Principals of auditor, managers and officers that are proved to be one identity each, or none.
    #[serde(default)]
    pub people: BTreeSet<String>,
    /// Those that the store does not know. The policy omits them, and the operator tries again daily.
    #[serde(default)]
    pub left_out: BTreeSet<String>,
    /// Configuration that the store does not keep.
    #[serde(default)]
    pub given_up: BTreeSet<UnsupportedItem>,
}

fn yes() -> bool {
    true
}

impl Dialect {
    /// Returns the smallest dialect, with words that every store knows.
    pub(crate) fn unproved(operator: &str, recorder: &str) -> Self {
        Self {
            version: DIALECT_VERSION,
            operator: operator.to_owned(),
            recorder: recorder.to_owned(),
            others: EveryoneExcept::Unsaid,
            request_tag: false,
            deny_tagging: false,
            deny_plain_http: false,
            more_settings: false,
            newer_settings: BTreeSet::new(),
            heeds_policies: true,
            people: BTreeSet::new(),
            left_out: BTreeSet::new(),
            given_up: BTreeSet::new(),
        }
    }

    pub(crate) fn is_current(&self) -> bool {
        self.version == DIALECT_VERSION
    }

    /// Returns the rules that this dialect cannot express, each with its consequence. `tls`: the endpoint uses TLS.
    pub fn limitations(&self, tls: bool) -> Vec<&'static str> {
        let lacks = |rule| self.given_up.contains(&UnsupportedItem::Rule(rule));
        let heeds = self.heeds_policies;
        let all = [
            (
                !heeds,
                "bucket policies have no effect on this store's identities: each has the rights that its administrators gave it; \
                 toezicht iam --store identity-policies prints them",
            ),
            (
                heeds && self.others == EveryoneExcept::Unsaid,
                "policies cannot say \"everyone but\": other identities have the rights that the store's administrators gave them",
            ),
            (
                heeds && !self.request_tag,
                "policies do not know s3:RequestObjectTag: a recorder could write another tag than its own",
            ),
            (
                heeds && tls && !self.deny_plain_http,
                "policies cannot distinguish TLS from plain HTTP: the store's own listener must not offer plain HTTP",
            ),
            (
                lacks(OptionalRule::UnfinishedUploads),
                "the store rejects the lifecycle rule that ends unfinished uploads: the operator's sweep ends them",
            ),
            (
                lacks(OptionalRule::ExpiredMarkers),
                "the store rejects the lifecycle rule that removes expired delete markers: the operator's sweep removes \
                 them at their ceiling",
            ),
        ];
        all.into_iter().filter_map(|(is_missing, text)| is_missing.then_some(text)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statement_elements_in_each_form() {
        let exempt = ["arn:aws:iam::1:user/x/operator", "recorder"];
        assert_eq!(
            Value::Object(EveryoneExcept::Username.statement_elements(&exempt).unwrap()),
            json!({"Principal": {"AWS": ["*"]}, "Condition": {"StringNotEquals": {"aws:username": ["operator", "recorder"]}}})
        );
        assert_eq!(
            Value::Object(EveryoneExcept::NotPrincipal.statement_elements(&exempt).unwrap()),
            json!({"NotPrincipal": {"AWS": exempt}})
        );
        assert!(EveryoneExcept::Unsaid.statement_elements(&exempt).is_none());
    }

    #[test]
    fn may_be_same_identity_compares_bare_names() {
        assert!(may_be_same_identity("operator", "operator"));
        assert!(may_be_same_identity("operator", "arn:aws:iam::1:user/x/operator"));
        assert!(!may_be_same_identity("operator", "arn:aws:iam::1:user/operators"));
    }

    #[test]
    fn dialect_round_trips_as_json() {
        let dialect = Dialect {
            others: EveryoneExcept::NotPrincipal,
            request_tag: true,
            more_settings: true,
            newer_settings: BTreeSet::from(["s3:PutAccelerateConfiguration".to_owned()]),
            left_out: BTreeSet::from(["gone".to_owned()]),
            given_up: BTreeSet::from([
                UnsupportedItem::Subresource(RequiredSubresource::Encryption),
                UnsupportedItem::Rule(OptionalRule::ExpiredMarkers),
            ]),
            ..Dialect::unproved("o", "r")
        };
        let text = serde_json::to_string(&dialect).unwrap();
        assert_eq!(serde_json::from_str::<Dialect>(&text).unwrap(), dialect);
        assert!(text.contains(r#""givenUp":["encryption","expiredMarkers"]"#), "{text}");
        assert_eq!(dialect.limitations(false).len(), 1);
        assert!(dialect.limitations(false)[0].contains("expired delete markers"));
        assert_eq!(dialect.limitations(true).len(), 2);
        assert!(dialect.is_current());
        let unheeded = Dialect { heeds_policies: false, ..dialect };
        assert_eq!(unheeded.limitations(true).len(), 2);
        assert!(unheeded.limitations(true)[1].contains("expired delete markers"));
    }

    /// The operator reads the dialect of an earlier version, and repeats its proof.
    #[test]
    fn dialect_of_an_earlier_version_is_outdated() {
        let text = r#"{"operator":"o","recorder":"r","others":"username","requestTag":false,"denyTagging":true,
            "denyPlainHttp":false,"moreSettings":true,"givenUp":[]}"#;
        let stored: Dialect = serde_json::from_str(text).unwrap();
        assert!(stored.heeds_policies && !stored.is_current());
    }
}
