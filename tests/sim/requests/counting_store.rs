//! A store in memory that counts requests by their origin and by AWS's price tier.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
    http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use super::settings::{Request, Settings};
use crate::store::{Actor, Caller, Store, StoreError};
use crate::store_api::{RawResponse, StoreRequest, StoreResponse, to_raw_response};
use crate::store_kind::StoreKind;
use crate::xml;

/// Default latency of a request.
const LATENCY: Duration = Duration::from_millis(20);
pub const BUCKET: &str = "heusden-die-heijgrave";
/// Access key and principal of the operator and of the recorder.
pub const OPERATOR: (&str, &str) = ("OPERATOR", "arn:aws:iam::123456789012:user/operator");
pub const RECORDER: (&str, &str) = ("RECORDER", "arn:aws:iam::123456789012:user/recorder");

/// Part of the work that a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Retention,
    Audit,
    Site,
    Probe,
    Recorders,
}

/// AWS's price tier of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PriceTier {
    /// PUT, COPY, POST, LIST.
    Tier1,
    /// GET, SELECT and all others.
    Other,
    /// DELETE and CANCEL.
    Free,
}

pub type Counts = BTreeMap<(Part, PriceTier, &'static str), u64>;

/// Times at which a version's protection was last read and written.
#[derive(Clone, Copy, Debug, Default)]
struct ProtectionTimes {
    read: Option<Timestamp>,
    written: Option<Timestamp>,
}

/// The counting store.
pub struct CountingStore {
    pub store: Store,
    settings: Settings,
    pub counts: Counts,
    pub part: Part,
    /// Start of the current reconcile, and whether it verifies everything.
    reconcile: (Timestamp, bool),
    protection_times: HashMap<(String, String), ProtectionTimes>,
    /// Versions whose legal hold was read again although it was unchanged and no verification was due, or twice in
    /// one, with the time.
    early_reads: Vec<((String, String), Timestamp)>,
    /// Number of reads of each version's legal hold.
    pub reads: HashMap<(String, String), u64>,
    retained: HashSet<(String, String)>,
    /// Latency of a request.
    pub latency: Duration,
    base: Timestamp,
    began: Instant,
}

pub type Shared = Arc<Mutex<CountingStore>>;

pub fn lock(counting_store: &Shared) -> MutexGuard<'_, CountingStore> {
    counting_store.lock().unwrap_or_else(PoisonError::into_inner)
}

struct CountingConnector(Shared);

impl fmt::Debug for CountingConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CountingConnector")
    }
}

pub fn client(counting_store: &Shared) -> SharedHttpClient {
    let line = SharedHttpConnector::new(CountingConnector(counting_store.clone()));
    http_client_fn(move |_: &HttpConnectorSettings, _: &RuntimeComponents| line.clone())
}

impl HttpConnector for CountingConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let counting_store = self.0.clone();
        HttpConnectorFuture::new(async move {
            let latency = lock(&counting_store).latency;
            sleep(latency).await;
            let mut counting_store = lock(&counting_store);
            let wire = counting_store.serve(&request);
            let mut response =
                HttpResponse::new(StatusCode::try_from(wire.status).unwrap(), SdkBody::from(wire.body));
            let date = counting_store.now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
            response.headers_mut().insert("date", date);
            if let Some(id) = wire.version {
                response.headers_mut().insert("x-amz-version-id", id);
            }
            Ok(response)
        })
    }
}

/// A parsed request.
struct Parts<'a> {
    method: &'a str,
    target: &'a str,
    key: String,
    /// Subresource: the first parameter of the query.
    subresource: &'a str,
    version: Option<String>,
    header: &'a dyn Fn(&str) -> Option<String>,
    body: &'a [u8],
}

impl CountingStore {
    pub fn new(base: Timestamp) -> Self {
        Self {
            store: Store::new(StoreKind::AWS),
            settings: Settings::new(BUCKET, OPERATOR.1),
            counts: Counts::new(),
            part: Part::Site,
            reconcile: (base, true),
            protection_times: HashMap::new(),
            early_reads: Vec::new(),
            reads: HashMap::new(),
            retained: HashSet::new(),
            latency: LATENCY,
            base,
            began: Instant::now(),
        }
    }

    pub fn now(&self) -> Timestamp {
        self.base + SignedDuration::try_from(self.began.elapsed()).unwrap()
    }

    /// Returns the number of requests so far.
    pub fn request_count(&self) -> u64 {
        self.counts.values().sum()
    }

    fn serve(&mut self, request: &HttpRequest) -> RawResponse {
        let target = request
            .uri()
            .split_once("://")
            .map_or("", |(_, rest)| rest.find('/').map_or("/", |at| &rest[at..]));
        let header = |name: &str| request.headers().get(name).map(str::to_owned);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let key = path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key);
        let mut names = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let version = names.clone().find(|(name, _)| *name == "versionId");
        let parts = Parts {
            method: request.method(),
            target,
            key: xml::decoded(key),
            subresource: names
                .find(|(name, _)| {
                    !name.starts_with("x-id") && *name != "versionId" && *name != "encoding-type"
                })
                .map_or("", |(name, _)| name),
            version: version.map(|(_, value)| xml::decoded(value)),
            header: &header,
            body: request.body().bytes().unwrap_or_default(),
        };
        let subresource = if query.contains("versions") && parts.key.is_empty() && parts.method == "GET" {
            "versions"
        } else if query.contains("list-type") {
            "list-type"
        } else {
            parts.subresource
        };
        let parts = Parts { subresource, ..parts };
        let (price, operation) = price_and_operation(&parts);
        *self.counts.entry((self.part, price, operation)).or_default() += 1;
        self.record_protection_access(&parts);
        if !self.is_allowed(&parts) {
            return raw_response(403, xml::error(StoreError(403, "AccessDenied")).into_bytes());
        }
        let response = self.serve_unsupported(&parts).unwrap_or_else(|| self.serve_by_store(&parts));
        self.store.effects.clear();
        response
    }

    /// Records reads and writes of protections.
    fn record_protection_access(&mut self, parts: &Parts<'_>) {
        let Some(id) = parts.version.clone().filter(|_| self.part == Part::Retention) else {
            return;
        };
        let (now, version) = (self.now(), (parts.key.clone(), id));
        let is_recording = parts.key.starts_with("video/") || parts.key.starts_with("calls/");
        let times = self.protection_times.entry(version.clone()).or_default();
        match (parts.method, parts.subresource) {
            ("GET", "legal-hold") if is_recording => {
                *self.reads.entry(version.clone()).or_default() += 1;
                let is_unchanged = times.read > times.written;
                let last = times.read.replace(now).filter(|_| is_unchanged);
                let (began, is_verifying) = self.reconcile;
                if last.is_some_and(|last| !is_verifying || last >= began) {
                    self.early_reads.push((version, now));
                }
            }
            ("PUT", "legal-hold" | "tagging") => times.written = Some(now),
            _ => (),
        }
    }

    /// Records the start of a reconcile.
    pub fn begin_reconcile(&mut self, is_verifying: bool) {
        self.reconcile = (self.now(), is_verifying);
    }

    /// Returns versions that were read too early and not written afterwards.
    pub fn early_reads(&mut self) -> Vec<String> {
        let early = std::mem::take(&mut self.early_reads).into_iter();
        let early = early.filter(|(version, at)| self.protection_times[version].written < Some(*at));
        early.map(|((key, _), at)| format!("{key} at {at}")).collect()
    }

    /// Returns whether the policy allows the request.
    fn is_allowed(&self, parts: &Parts<'_>) -> bool {
        let credential = (parts.header)("authorization").unwrap_or_default();
        let is_by = |identity: &(&str, &str)| credential.contains(&format!("Credential={}/", identity.0));
        let principal = [OPERATOR, RECORDER].into_iter().find(is_by).map(|(_, principal)| principal);
        let mut context = vec![("aws:SecureTransport".to_owned(), "true".to_owned())];
        if let Some(principal) = principal {
            context.push(("aws:PrincipalArn".to_owned(), principal.to_owned()));
            let name = principal.rsplit_once('/').unwrap().1;
            context.push(("aws:username".to_owned(), name.to_owned()));
        }
        let tags = (parts.header)("x-amz-tagging").unwrap_or_default();
        for (key, value) in tags.split('&').filter_map(|pair| pair.split_once('=')) {
            context.push((format!("s3:RequestObjectTag/{key}"), value.to_owned()));
        }
        let versions = self.store.keys.get(&parts.key).into_iter().flatten();
        let mut matching =
            versions.filter(|version| parts.version.as_ref().is_none_or(|id| *id == version.id));
        for (key, value) in matching.next().into_iter().flat_map(|version| &version.tags) {
            context.push((format!("s3:ExistingObjectTag/{key}"), value.clone()));
        }
        let allows = |action: &String| {
            self.settings.allows(&Request { principal, action, key: &parts.key, context: &context })
        };
        required_actions(parts).iter().all(allows)
    }

    /// Serves requests that the simulation's store does not support.
    fn serve_unsupported(&mut self, parts: &Parts<'_>) -> Option<RawResponse> {
        let Parts { method, subresource, body, .. } = *parts;
        if parts.key.is_empty() && subresource == "list-type" {
            let prefix = query(parts.target, "prefix");
            let current =
                self.store.keys.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
            let current = current.filter(|(_, versions)| !versions[0].is_marker);
            let found: String =
                current.map(|(key, _)| format!("<Contents><Key>{key}</Key></Contents>")).collect();
            let body =
                format!("<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>");
            return Some(raw_response(200, body.into_bytes()));
        }
        if parts.key.is_empty() {
            let (status, body) = self.settings.answer(method, subresource, body)?;
            return Some(raw_response(status, body));
        }
        let now = self.now();
        let version = (parts.key.clone(), parts.version.clone().unwrap_or_default());
        match (method, subresource) {
            ("GET", "retention") if self.retained.contains(&version) => {
                let until = now + SignedDuration::from_secs(90);
                let body = format!(
                    "<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>{until:.0}</RetainUntilDate></Retention>"
                );
                Some(raw_response(200, body.into_bytes()))
            }
            ("GET", "retention") => Some(raw_response(
                404,
                xml::error(StoreError(404, "NoSuchObjectLockConfiguration")).into_bytes(),
            )),
            ("PUT", "retention") => {
                self.retained.insert(version);
                Some(raw_response(200, Vec::new()))
            }
            ("PUT" | "DELETE" | "GET", "tagging") if parts.version.is_none() => {
                let id = self.store.keys.get(&parts.key)?.first()?.id.clone();
                let target = format!("{}&versionId={id}", parts.target);
                Some(self.serve_by_store(&Parts {
                    target: &target,
                    version: Some(id),
                    header: parts.header,
                    key: parts.key.clone(),
                    ..*parts
                }))
            }
            ("PUT", "") => {
                let (status, code) = checksum_error(parts)?;
                Some(raw_response(status, xml::error(StoreError(status, code)).into_bytes()))
            }
            _ => None,
        }
    }

    fn by(&self) -> Caller {
        let now = self.now();
        Caller { actor: Actor::Operator(0), now, sent: now }
    }

    fn serve_by_store(&mut self, parts: &Parts<'_>) -> RawResponse {
        let by = self.by();
        if let ("DELETE", "tagging", Some(id)) = (parts.method, parts.subresource, &parts.version) {
            let response = self.store.set_tags(by, &parts.key, id, Vec::new());
            return raw_response(response.map_or(404, |()| 204), Vec::new());
        }
        let request = StoreRequest::parse(parts.method, parts.target, parts.header, parts.body);
        let response = self.store.serve(by, &request);
        if let (StoreRequest::Put { key, .. }, Ok(StoreResponse::Put(id))) = (&request, &response) {
            if (parts.header)("x-amz-object-lock-legal-hold").as_deref() == Some("ON") {
                let _ = self.store.set_hold(by, key, id, true);
            }
            if (parts.header)("x-amz-object-lock-mode").is_some() {
                self.retained.insert((key.clone(), id.clone()));
            }
        }
        to_raw_response(&self.store.kind, &request, &response)
    }
}

fn raw_response(status: u16, body: Vec<u8>) -> RawResponse {
    RawResponse { status, body, version: None }
}

fn query(target: &str, name: &str) -> String {
    let (_, query) = target.split_once('?').unwrap_or_default();
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| xml::decoded(value)).unwrap_or_default()
}

/// Returns an error if a body does not match its checksum.
fn checksum_error(parts: &Parts<'_>) -> Option<(u16, &'static str)> {
    let hash = Sha256::digest(parts.body);
    let sum = (parts.header)("x-amz-checksum-sha256");
    if sum.is_some_and(|sum| sum != STANDARD.encode(hash)) {
        return Some((400, "BadDigest"));
    }
    let signed = (parts.header)("x-amz-content-sha256").filter(|signed| signed.len() == 64);
    signed.is_some_and(|signed| signed != hex::encode(hash)).then_some((400, "XAmzContentSHA256Mismatch"))
}

/// Returns the price tier and the operation of a request.
fn price_and_operation(parts: &Parts<'_>) -> (PriceTier, &'static str) {
    match (parts.method, parts.key.is_empty(), parts.subresource) {
        ("GET", true, "versions") => (PriceTier::Tier1, "ListObjectVersions"),
        ("GET", true, "list-type") => (PriceTier::Tier1, "ListObjectsV2"),
        ("GET", true, "uploads") => (PriceTier::Tier1, "ListMultipartUploads"),
        // No request for keys, but a LIST by its name.
        ("GET", true, "inventory") => (PriceTier::Tier1, "ListBucketInventoryConfigurations"),
        ("GET", true, _) => (PriceTier::Other, "settings"),
        ("PUT", true, _) => (PriceTier::Tier1, "settings"),
        ("POST", ..) => (PriceTier::Tier1, "DeleteObjects"),
        ("DELETE", _, _) => (PriceTier::Free, "DELETE"),
        ("GET", false, "tagging") => (PriceTier::Other, "GetObjectTagging"),
        ("GET", false, "legal-hold") => (PriceTier::Other, "GetObjectLegalHold"),
        ("GET" | "HEAD", ..) => (PriceTier::Other, "GetObject"),
        ("PUT", false, "tagging") => (PriceTier::Tier1, "PutObjectTagging"),
        ("PUT", false, "legal-hold") => (PriceTier::Tier1, "PutObjectLegalHold"),
        ("PUT", ..) => (PriceTier::Tier1, "PutObject"),
        (method, ..) => panic!("{method} {}", parts.target),
    }
}

/// Returns the actions that a request needs, as named in policies.
fn required_actions(parts: &Parts<'_>) -> Vec<String> {
    let of_version = if parts.version.is_some() { "Version" } else { "" };
    let right = |name: &str| format!("s3:{name}");
    let method = match parts.method {
        "HEAD" | "GET" => "Get",
        "PUT" => "Put",
        _ => "Delete",
    };
    match (parts.key.is_empty(), parts.method, parts.subresource) {
        (true, _, "versions") => vec![right("ListBucketVersions")],
        (true, _, "list-type") => vec![right("ListBucket")],
        (true, _, "uploads") => vec![right("ListBucketMultipartUploads")],
        (true, "POST", _) => vec![right("DeleteObjectVersion")],
        (true, _, subresource) => vec![format!("s3:{method}Bucket{subresource}")],
        (_, _, "tagging") => vec![format!("s3:{method}Object{of_version}Tagging")],
        (_, _, "legal-hold") => vec![format!("s3:{method}ObjectLegalHold")],
        (_, _, "retention") => vec![format!("s3:{method}ObjectRetention")],
        (_, "PUT", _) => {
            let has = |name: &str| (parts.header)(name).is_some();
            let mut all = vec![right("PutObject")];
            all.extend(has("x-amz-tagging").then(|| right("PutObjectTagging")));
            all.extend(has("x-amz-object-lock-legal-hold").then(|| right("PutObjectLegalHold")));
            all.extend(has("x-amz-object-lock-mode").then(|| right("PutObjectRetention")));
            all
        }
        _ => vec![format!("s3:{method}Object{of_version}")],
    }
}
