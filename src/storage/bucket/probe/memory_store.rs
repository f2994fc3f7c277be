//! A store in memory, as a real HTTP server.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use super::canary;
use crate::storage::s3::stub::{ReceivedRequest, Stub, error_answer};

/// Status and body.
type Answer = (u16, String);

pub(crate) struct MemoryStore {
    enforces_holds: bool,
    rejects_anonymous: bool,
    objects: Mutex<Vec<MemoryObject>>,
}

#[derive(Clone)]
struct MemoryObject {
    key: String,
    id: String,
    text: String,
    tag: Option<String>,
    is_held: bool,
    is_retained: bool,
    is_marker: bool,
    last_modified: jiff::Timestamp,
}

impl MemoryStore {
    pub(crate) async fn serve(enforces_holds: bool, rejects_anonymous: bool) -> Stub {
        Self::serve_with_overrides(enforces_holds, rejects_anonymous, |_| None).await
    }

    /// Serves a store that gives some requests another answer.
    pub(crate) async fn serve_with_overrides(
        enforces_holds: bool,
        rejects_anonymous: bool,
        overrides: impl Fn(&ReceivedRequest) -> Option<Answer> + Clone + Send + Sync + 'static,
    ) -> Stub {
        let files = Arc::new(Self { enforces_holds, rejects_anonymous, objects: Mutex::default() });
        Stub::start(move |request| overrides(request).unwrap_or_else(|| files.answer(request))).await
    }

    fn answer(&self, request: &ReceivedRequest) -> Answer {
        if self.rejects_anonymous && request.header("authorization").is_none() {
            return error_answer(403, "AccessDenied");
        }
        let has = |name: &str| request.query_parameter(name).is_some();
        let key = request.path.splitn(3, '/').nth(2).unwrap_or_default().to_owned();
        let mut files = self.objects.lock().unwrap();
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let id = request.query_parameter("versionId");
        let is_it = |file: &&mut MemoryObject| file.key == key && id.as_ref().is_none_or(|id| *id == file.id);
        let ok = |text: &str| (200, text.to_owned());
        match (request.method.as_str(), key.is_empty()) {
            ("PUT", true) if has("policy") => ok(""),
            ("GET" | "DELETE", true) if has("policy") => error_answer(404, "NoSuchBucketPolicy"),
            ("GET", true) if has("versions") || has("list-type") => (200, listing(&files, request)),
            ("POST", true) => {
                let (key, id) = (element_text(&body, "Key"), element_text(&body, "VersionId"));
                files.retain(|file| file.key != key || file.id != id || self.is_protected(file));
                ok("<DeleteResult/>")
            }
            ("PUT" | "GET" | "DELETE", false) if has("tagging") || has("legal-hold") || has("retention") => {
                let file = files.iter_mut().rev().find(is_it);
                file.map_or(error_answer(404, ""), |file| answer_object_subresource(file, request, &body))
            }
            ("PUT", false) => {
                files.push(MemoryObject::put(key, request));
                ok("")
            }
            ("GET", false) => match files.iter_mut().rev().find(is_it) {
                Some(file) if !file.is_marker => ok(&file.text),
                _ => error_answer(404, ""),
            },
            ("DELETE", false) => {
                match id {
                    Some(id) => {
                        files.retain(|file| file.key != key || file.id != id || self.is_protected(file));
                    }
                    None => files.push(MemoryObject { is_marker: true, ..MemoryObject::put(key, request) }),
                }
                (204, String::new())
            }
            _ => error_answer(501, ""),
        }
    }

    fn is_protected(&self, file: &MemoryObject) -> bool {
        self.enforces_holds && file.is_held
    }
}

impl MemoryObject {
    fn put(key: String, request: &ReceivedRequest) -> Self {
        let tag = request.header("x-amz-tagging");
        Self {
            key,
            id: canary::random_name(),
            text: String::from_utf8(request.body.to_vec()).unwrap(),
            tag: tag.map(|tag| tag.split_once('=').unwrap().1.to_owned()),
            is_held: request.header("x-amz-object-lock-legal-hold").is_some(),
            is_retained: request.header("x-amz-object-lock-mode").is_some(),
            is_marker: false,
            last_modified: jiff::Timestamp::now(),
        }
    }
}

/// Answers a request about the tag, legal hold or retention of a version.
fn answer_object_subresource(file: &mut MemoryObject, request: &ReceivedRequest, body: &str) -> Answer {
    let has = |name: &str| request.query_parameter(name).is_some();
    let text = match (request.method.as_str(), has("tagging"), has("legal-hold")) {
        ("PUT", true, _) => {
            file.tag = Some(element_text(body, "Value"));
            String::new()
        }
        ("DELETE", true, _) => {
            file.tag = None;
            String::new()
        }
        ("PUT", _, true) => {
            file.is_held = element_text(body, "Status") == "ON";
            String::new()
        }
        ("PUT", ..) => {
            file.is_retained = true;
            String::new()
        }
        ("GET", true, _) => {
            let tag = |tag| format!("<Tag><Key>toezicht-retention</Key><Value>{tag}</Value></Tag>");
            let tags = file.tag.as_ref().map(tag).unwrap_or_default();
            format!("<Tagging><TagSet>{tags}</TagSet></Tagging>")
        }
        ("GET", _, true) => {
            let status = if file.is_held { "ON" } else { "OFF" };
            format!("<LegalHold><Status>{status}</Status></LegalHold>")
        }
        _ if file.is_retained => {
            let until = "<RetainUntilDate>2040-01-01T00:00:00Z</RetainUntilDate>";
            format!("<Retention><Mode>GOVERNANCE</Mode>{until}</Retention>")
        }
        _ => return error_answer(404, ""),
    };
    (200, text)
}

fn listing(files: &[MemoryObject], request: &ReceivedRequest) -> String {
    let prefix = request.query_parameter("prefix").unwrap_or_default();
    let has_versions = request.query_parameter("versions").is_some();
    // By key, newest first within a key: the sort is stable.
    let mut found: Vec<&MemoryObject> =
        files.iter().rev().filter(|file| file.key.starts_with(&prefix)).collect();
    found.sort_by(|one, other| one.key.cmp(&other.key));
    let mut listed = String::new();
    for MemoryObject { key, id, last_modified, is_marker, .. } in found {
        let tag = match (has_versions, is_marker) {
            (true, true) => "DeleteMarker",
            (true, false) => "Version",
            (false, true) => continue,
            (false, false) => "Contents",
        };
        let _ = write!(
            listed,
            "<{tag}><Key>{key}</Key><VersionId>{id}</VersionId><LastModified>{last_modified:.3}</LastModified></{tag}>"
        );
    }
    let name = if has_versions { "ListVersionsResult" } else { "ListBucketResult" };
    format!("<{name}><IsTruncated>false</IsTruncated>{listed}</{name}>")
}

fn element_text(body: &str, name: &str) -> String {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let rest = body.split_once(&open).map_or("", |(_, rest)| rest);
    rest.split_once(&close).map_or("", |(text, _)| text).to_owned()
}
