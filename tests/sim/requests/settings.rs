//! A bucket's settings and policy, as AWS answers and heeds them. The probe of a bucket tries its policy: a store that
//! heeded none would end the probe early, and the count would be too low.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use serde_json::Value;

/// Settings that a bucket has: what they are called in a query, and the answer where nobody has made them.
const SETTINGS: [(&str, Absent); 14] = [
    ("accelerate", Absent::Says("AccelerateConfiguration")),
    ("acl", Absent::Is(ACL)),
    ("cors", Absent::Error("NoSuchCORSConfiguration")),
    ("encryption", Absent::Is(ENCRYPTION)),
    ("inventory", Absent::Says("ListInventoryConfigurationsResult")),
    ("lifecycle", Absent::Error("NoSuchLifecycleConfiguration")),
    ("logging", Absent::Says("BucketLoggingStatus")),
    ("notification", Absent::Says("NotificationConfiguration")),
    ("object-lock", Absent::Is(LOCK)),
    ("ownershipControls", Absent::Is(OWNERSHIP)),
    ("policy", Absent::Error("NoSuchBucketPolicy")),
    ("publicAccessBlock", Absent::Error("NoSuchPublicAccessBlockConfiguration")),
    ("replication", Absent::Error("ReplicationConfigurationNotFoundError")),
    ("website", Absent::Error("NoSuchWebsiteConfiguration")),
];
const VERSIONING: &str = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
const ACL: &str = "<AccessControlPolicy><Owner><ID>us</ID></Owner><AccessControlList/></AccessControlPolicy>";
const LOCK: &str =
    "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>";
/// What new buckets have at AWS.
const ENCRYPTION: &str = "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>\
    <SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>";
const OWNERSHIP: &str = "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>";

/// The answer where nobody has made a setting.
#[derive(Clone, Copy)]
enum Absent {
    /// This.
    Is(&'static str),
    /// An element without content.
    Says(&'static str),
    /// 404 with this code.
    Error(&'static str),
}

/// Who asks for what.
pub struct Request<'a> {
    /// The principal; `None`: without credentials.
    pub principal: Option<&'a str>,
    /// The action, as policies name it.
    pub action: &'a str,
    /// The key; empty: the bucket itself.
    pub key: &'a str,
    /// Values of the conditions' keys.
    pub context: &'a [(String, String)],
}

/// Who asks, the right that it needs, and what it is about.
type Case = (Option<String>, String, String);

/// See the module.
pub struct Settings {
    made: BTreeMap<&'static str, Vec<u8>>,
    /// What was decided, but for single canaries: no statement tells apart what is in one folder. There are hundreds of
    /// thousands of requests about recordings.
    decided: Mutex<HashMap<Case, bool>>,
    policy: Vec<Value>,
    bucket: String,
    /// Who has all rights that the policy does not deny.
    owner: String,
}

impl Settings {
    pub fn new(bucket: &str, owner: &str) -> Self {
        Self {
            made: BTreeMap::new(),
            decided: Mutex::default(),
            policy: Vec::new(),
            bucket: bucket.to_owned(),
            owner: owner.to_owned(),
        }
    }

    /// Status and body; `None`: it is not about a setting.
    pub fn answer(&mut self, method: &str, part: &str, body: &[u8]) -> Option<(u16, Vec<u8>)> {
        if part == "versioning" {
            return Some((200, VERSIONING.into()));
        }
        let (part, absent) = SETTINGS.into_iter().find(|(name, _)| *name == part)?;
        Some(match (method, self.made.get(part), absent) {
            ("GET", Some(made), _) => (200, made.clone()),
            ("GET", None, Absent::Is(text)) => (200, text.into()),
            ("GET", None, Absent::Says(name)) => (200, format!("<{name}/>").into()),
            ("GET", None, Absent::Error(code)) => (404, format!("<Error><Code>{code}</Code></Error>").into()),
            _ => {
                if method == "PUT" {
                    self.made.insert(part, body.to_vec());
                } else {
                    self.made.remove(part);
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

    /// Whether a request is allowed: a Deny counts more than any Allow.
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
        let says = |effect: &str| {
            let statements = self.policy.iter().filter(|statement| statement["Effect"] == effect);
            statements.into_iter().any(|statement| self.is_about(statement, request))
        };
        !says("Deny") && (request.principal == Some(self.owner.as_str()) || says("Allow"))
    }

    fn is_about(&self, statement: &Value, request: &Request<'_>) -> bool {
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

/// Whether all conditions are met.
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

/// One text, or several.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Whether a text is what a pattern says, of which `*` is anything.
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
