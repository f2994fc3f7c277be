//! A bucket's settings and policy, as AWS answers and evaluates them. The probe tests the bucket's policy: without
//! evaluation it would end early, and the count would be too low.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use serde_json::Value;

/// Settings of a bucket by their name in the query, with the response if they are not configured.
const SETTINGS: [(&str, Absent); 14] = [
    ("accelerate", Absent::EmptyElement("AccelerateConfiguration")),
    ("acl", Absent::Document(ACL)),
    ("cors", Absent::Error("NoSuchCORSConfiguration")),
    ("encryption", Absent::Document(ENCRYPTION)),
    ("inventory", Absent::EmptyElement("ListInventoryConfigurationsResult")),
    ("lifecycle", Absent::Error("NoSuchLifecycleConfiguration")),
    ("logging", Absent::EmptyElement("BucketLoggingStatus")),
    ("notification", Absent::EmptyElement("NotificationConfiguration")),
    ("object-lock", Absent::Document(LOCK)),
    ("ownershipControls", Absent::Document(OWNERSHIP)),
    ("policy", Absent::Error("NoSuchBucketPolicy")),
    ("publicAccessBlock", Absent::Error("NoSuchPublicAccessBlockConfiguration")),
    ("replication", Absent::Error("ReplicationConfigurationNotFoundError")),
    ("website", Absent::Error("NoSuchWebsiteConfiguration")),
];
const VERSIONING: &str = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
const ACL: &str = "<AccessControlPolicy><Owner><ID>us</ID></Owner><AccessControlList/></AccessControlPolicy>";
const LOCK: &str =
    "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>";
/// Default encryption of new buckets at AWS.
const ENCRYPTION: &str = "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>\
    <SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>";
const OWNERSHIP: &str = "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>";

/// Response for a setting that is not configured.
#[derive(Clone, Copy)]
enum Absent {
    /// This document.
    Document(&'static str),
    /// An element without content.
    EmptyElement(&'static str),
    /// 404 with this code.
    Error(&'static str),
}

/// A request to authorize.
pub struct Request<'a> {
    /// Principal, or `None` without credentials.
    pub principal: Option<&'a str>,
    /// Action, as named in policies.
    pub action: &'a str,
    /// Key, empty for the bucket itself.
    pub key: &'a str,
    /// Values of condition keys.
    pub context: &'a [(String, String)],
}

/// Principal, action, and folder with tags.
type Case = (Option<String>, String, String);

/// Settings and policy of a bucket.
pub struct Settings {
    configured: BTreeMap<&'static str, Vec<u8>>,
    /// Cached decisions by folder, except for canaries. No policy statement distinguishes keys within a folder, and
    /// there are hundreds of thousands of requests about recordings.
    decided: Mutex<HashMap<Case, bool>>,
    policy: Vec<Value>,
    bucket: String,
    /// Principal with all permissions that the policy does not deny.
    owner: String,
}

impl Settings {
    pub fn new(bucket: &str, owner: &str) -> Self {
        Self {
            configured: BTreeMap::new(),
            decided: Mutex::default(),
            policy: Vec::new(),
            bucket: bucket.to_owned(),
            owner: owner.to_owned(),
        }
    }

    /// Returns status and body, or `None` if the request is not about a setting.
    pub fn answer(&mut self, method: &str, part: &str, body: &[u8]) -> Option<(u16, Vec<u8>)> {
        if part == "versioning" {
            return Some((200, VERSIONING.into()));
        }
        let (part, absent) = SETTINGS.into_iter().find(|(name, _)| *name == part)?;
        Some(match (method, self.configured.get(part), absent) {
            ("GET", Some(configured), _) => (200, configured.clone()),
            ("GET", None, Absent::Document(text)) => (200, text.into()),
            ("GET", None, Absent::EmptyElement(name)) => (200, format!("<{name}/>").into()),
            ("GET", None, Absent::Error(code)) => (404, format!("<Error><Code>{code}</Code></Error>").into()),
            _ => {
                if method == "PUT" {
                    self.configured.insert(part, body.to_vec());
                } else {
                    self.configured.remove(part);
                }
                if part == "policy" {
                    self.decided.lock().unwrap().clear();
                    let document: Value = serde_json::from_slice(body).unwrap_or_default();
                    self.policy = document["Statement"].as_array().cloned().unwrap_or_default();
                }
                (204, Vec::new())
            }
        })
    }

    /// Returns whether a request is allowed. A Deny overrides any Allow.
    pub fn allows(&self, request: &Request<'_>) -> bool {
        if request.key.starts_with("probe/") {
            return self.decide(request);
        }
        let folder = request.key.split_once('/').map_or(request.key, |(folder, _)| folder);
        let tags = request.context.iter().filter(|(name, _)| name.contains("Tag/"));
        let about: String = tags.map(|(name, value)| format!(" {name}={value}")).collect();
        let principal = request.principal.map(str::to_owned);
        let case = (principal, request.action.to_owned(), format!("{folder}{about}"));
        *self.decided.lock().unwrap().entry(case).or_insert_with(|| self.decide(request))
    }

    fn decide(&self, request: &Request<'_>) -> bool {
        let has_matching = |effect: &str| {
            let statements = self.policy.iter().filter(|statement| statement["Effect"] == effect);
            statements.into_iter().any(|statement| self.matches_statement(statement, request))
        };
        !has_matching("Deny") && (request.principal == Some(self.owner.as_str()) || has_matching("Allow"))
    }

    fn matches_statement(&self, statement: &Value, request: &Request<'_>) -> bool {
        let resource = match request.key {
            "" => format!("arn:aws:s3:::{}", self.bucket),
            key => format!("arn:aws:s3:::{}/{key}", self.bucket),
        };
        let names = |element: &str| {
            let named = texts(&statement[element]["AWS"]);
            named.iter().any(|name| *name == "*" || Some(*name) == request.principal)
        };
        let is_of = match statement.get("NotPrincipal") {
            Some(_) => !names("NotPrincipal"),
            None => names("Principal"),
        };
        let matches = |element: &str, text: &str| {
            texts(&statement[element]).iter().any(|pattern| is_like(pattern, text))
        };
        is_of
            && matches("Action", request.action)
            && matches("Resource", &resource)
            && conditions(&statement["Condition"], request)
    }
}

/// Returns whether all conditions are met.
fn conditions(condition: &Value, request: &Request<'_>) -> bool {
    let operators = condition.as_object().into_iter().flatten();
    let all = operators.flat_map(|(operator, keys)| {
        let keys = keys.as_object().into_iter().flatten();
        keys.map(move |(key, values)| (operator.as_str(), key, texts(values)))
    });
    all.into_iter().all(|(operator, key, values)| {
        let mut context = request.context.iter();
        let found = context.find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        let is_any = found.is_some_and(|found| values.iter().any(|value| is_like(value, found)));
        match operator {
            "StringEquals" | "StringLike" | "Bool" => is_any,
            "StringNotEquals" | "StringNotLike" => !is_any,
            "Null" => values.contains(&"true") == found.is_none(),
            other => panic!("no such condition: {other}"),
        }
    })
}

/// Returns a string, or the strings of an array.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Returns whether a text matches a pattern with `*` as a wildcard.
fn is_like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut left) = text.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return left.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return left.ends_with(part);
        }
        let Some((_, rest)) = left.split_once(part) else {
            return false;
        };
        left = rest;
    }
    true
}
