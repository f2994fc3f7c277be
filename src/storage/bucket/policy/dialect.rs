//! What a store's policies can say. Stores take the same document and heed different parts of it, so which
//! words to use is found out by trying, kept in the ledger, and named where a word is missing.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::storage::bucket::desired::OptionalRule;
use crate::storage::bucket::spec::RequiredSubresource;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EveryoneExcept {
    /// `StringNotEquals` on `aws:PrincipalArn` (AWS).
    PrincipalArn,
    /// `NotPrincipal` (Ceph).
    NotPrincipal,
    /// `StringNotEquals` on `aws:username` (SeaweedFS).
    Username,
    /// Not at all: whoever the store's own administrators allow may.
    Unsaid,
}

impl EveryoneExcept {
    /// What is tried, best first.
    pub(crate) const CANDIDATES: [Self; 3] = [Self::PrincipalArn, Self::NotPrincipal, Self::Username];

    /// The elements of a statement that make it apply to everyone but `exempt`. `None`: it cannot be said.
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
        match elements {
            Value::Object(elements) => Some(elements),
            _ => None,
        }
    }
}

/// The name in an ARN (`arn:aws:iam::1:user/path/NAME`), or the bare name.
pub(crate) fn username(principal: &str) -> &str {
    principal.rsplit_once('/').map_or(principal, |(_, name)| name)
}

/// Whether a store might take two principals for one: some know a user's name only.
pub fn may_be_same_identity(one: &str, other: &str) -> bool {
    username(one) == username(other)
}

/// What this version proves. A dialect that another proved is proved again.
const DIALECT_VERSION: u32 = 2;

/// What was proved of a store, for a pair of principals and the people beside them.
/// Configuration that a store was found not to keep. It is tried again daily.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum UnsupportedItem {
    /// A setting that the store refused, or took and did not keep.
    Subresource(RequiredSubresource),
    /// A lifecycle rule that the store refused.
    Rule(OptionalRule),
}

/// What was proved of a store, for a pair of principals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::struct_excessive_bools, reason = "each is a word that a store knows or does not")]
pub struct Dialect {
    /// By which version it was proved.
    #[serde(default)]
    pub(crate) version: u32,
    /// The operator's principal: proved to be whose credentials the operator has.
    pub operator: String,
    /// The recorders' principal: proved to be whose credentials the recorders have.
    pub recorder: String,
    pub others: EveryoneExcept,
    /// `s3:RequestObjectTag` is known: a recorder can be held to the tags it may write.
    pub request_tag: bool,
    /// A recorder may be denied to tag at all and still puts with its tag. Elsewhere (AWS) the put itself
    /// needs that right, and only tagging what already has a tag is denied.
    pub deny_tagging: bool,
    /// Plain HTTP can be denied: the store knows that requests came over TLS. Behind a proxy that ends TLS
    /// some do not, and the rule would lock everyone out.
    pub deny_plain_http: bool,
    /// Policies know the rights to default encryption, object ownership and inventories. Elsewhere (Ceph 16) a policy
    /// that names them is refused as a whole.
    pub more_settings: bool,
    /// The newer settings whose rights the store's policies know, by the words for them.
    #[serde(default)]
    pub newer_settings: BTreeSet<String>,
    /// Policies have an effect on identities. A store on which they have none (`MinIO`, or one without bucket policies)
    /// has identity policies instead, and no policy is written.
    #[serde(default = "yes")]
    pub heeds_policies: bool,
    /// Principals of auditor, managers and officers of which it was proved that each is one identity, or none.
    #[serde(default)]
    pub people: BTreeSet<String>,
    /// Those among them that the store knows no identity of: they are left out of the policy, and tried again daily.
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
    /// Of a store of which nothing was proved yet: it has no word that not every store has.
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

    /// What cannot be said here, and what follows from it. `tls`: the endpoint is over TLS.
    pub fn limitations(&self, tls: bool) -> Vec<&'static str> {
        let limitation = |missing: bool, text: &'static str| missing.then_some(text);
        let unsaid = [
            limitation(
                self.others == EveryoneExcept::Unsaid,
                "policies cannot say \"everyone but\": other identities of the store have what its administrators gave them",
            ),
            limitation(
                !self.request_tag,
                "policies do not know s3:RequestObjectTag: a recorder could write another tag than its own",
            ),
            limitation(
                tls && !self.deny_plain_http,
                "policies cannot tell TLS from plain HTTP: the store's own listener must not offer plain HTTP",
            ),
        ];
        let unheeded = limitation(
            true,
            "bucket policies have no effect on this store's identities: each has the rights that its administrators gave it; \
             toezicht iam --store identity-policies prints them",
        );
        let policies = if self.heeds_policies { unsaid } else { [unheeded, None, None] };
        let rules = [
            limitation(
                self.given_up.contains(&UnsupportedItem::Rule(OptionalRule::UnfinishedUploads)),
                "the store refuses the lifecycle rule that ends unfinished uploads: the operator's sweep ends them",
            ),
            limitation(
                self.given_up.contains(&UnsupportedItem::Rule(OptionalRule::ExpiredMarkers)),
                "the store refuses the lifecycle rule that removes expired delete markers: the operator's sweep removes \
                 them at their ceiling",
            ),
        ];
        policies.into_iter().chain(rules).flatten().collect()
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

    /// What an earlier version kept is understood, and proved again.
    #[test]
    fn dialect_of_an_earlier_version_is_outdated() {
        let text = r#"{"operator":"o","recorder":"r","others":"username","requestTag":false,"denyTagging":true,
            "denyPlainHttp":false,"moreSettings":true,"givenUp":[]}"#;
        let kept: Dialect = serde_json::from_str(text).unwrap();
        assert!(kept.heeds_policies && !kept.is_current());
    }
}
