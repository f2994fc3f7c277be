//! The S3 requests of operator and recorder, and the store's responses.

use std::sync::Arc;

use super::listing::{ListParameters, Listing};
use super::store::{Caller, Store, StoreError, Version};
use super::store_kind::StoreKind;
use super::xml;

/// A request to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreRequest {
    List {
        parameters: ListParameters,
        wants_url: bool,
    },
    Put {
        key: String,
        body: Arc<[u8]>,
        tags: Vec<(String, String)>,
        is_new_only: bool,
    },
    Get {
        key: String,
        id: Option<String>,
    },
    Head {
        key: String,
        id: Option<String>,
    },
    Delete {
        key: String,
        id: Option<String>,
    },
    DeleteMany(Vec<(String, String)>),
    GetTags {
        key: String,
        id: String,
    },
    PutTags {
        key: String,
        id: String,
        tags: Vec<(String, String)>,
    },
    GetHold {
        key: String,
        id: String,
    },
    PutHold {
        key: String,
        id: String,
        on: bool,
    },
    Uploads,
    /// A request that the simulation does not support.
    Other(String),
}

/// A successful response.
#[derive(Clone, Debug)]
pub enum StoreResponse {
    Listing(Listing),
    Object(Version),
    Put(String),
    Tags(Vec<(String, String)>),
    Hold(bool),
    /// Versions of a batch that were not deleted.
    Left(Vec<(String, String, StoreError)>),
    Done,
    Uploads,
}

/// A response as sent over the network.
#[derive(Clone, Debug)]
pub struct RawResponse {
    pub status: u16,
    pub body: Vec<u8>,
    pub version: Option<String>,
}

fn query(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (xml::decoded(name), xml::decoded(value))
        })
        .collect()
}

impl StoreRequest {
    /// Parses a path-style request.
    pub fn parse(method: &str, target: &str, header: impl Fn(&str) -> Option<String>, body: &[u8]) -> Self {
        let (path, text) = target.split_once('?').unwrap_or((target, ""));
        let pairs = query(text);
        let parameter =
            |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let key = path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key);
        let (key, id) = (xml::decoded(key), parameter("versionId"));
        let version_id = id.clone().unwrap_or_default();
        match method {
            "GET" if key.is_empty() && parameter("versions").is_some() => Self::List {
                parameters: ListParameters {
                    prefix: parameter("prefix").unwrap_or_default(),
                    delimiter: parameter("delimiter").filter(|text| !text.is_empty()),
                    key_marker: parameter("key-marker").unwrap_or_default(),
                    id_marker: parameter("version-id-marker").unwrap_or_default(),
                    max_keys: parameter("max-keys").and_then(|most| most.parse().ok()).unwrap_or(1000),
                },
                wants_url: parameter("encoding-type").is_some_and(|kind| kind == "url"),
            },
            "GET" if key.is_empty() && parameter("uploads").is_some() => Self::Uploads,
            "POST" if key.is_empty() && parameter("delete").is_some() => {
                let (keys, ids) = (xml::texts(body, "Key"), xml::texts(body, "VersionId"));
                Self::DeleteMany(keys.into_iter().zip(ids).collect())
            }
            _ if key.is_empty() => Self::Other(format!("{method} {target}")),
            "GET" if parameter("tagging").is_some() => Self::GetTags { key, id: version_id },
            "PUT" if parameter("tagging").is_some() => {
                let (keys, values) = (xml::texts(body, "Key"), xml::texts(body, "Value"));
                let tags = keys.into_iter().zip(values).collect();
                Self::PutTags { key, id: version_id, tags }
            }
            "GET" if parameter("legal-hold").is_some() => Self::GetHold { key, id: version_id },
            "PUT" if parameter("legal-hold").is_some() => Self::PutHold {
                key,
                id: version_id,
                on: xml::texts(body, "Status").first().is_some_and(|status| status == "ON"),
            },
            "GET" => Self::Get { key, id },
            "HEAD" => Self::Head { key, id },
            "DELETE" => Self::Delete { key, id },
            "PUT" => Self::Put {
                key,
                body: Arc::from(body),
                tags: query(&header("x-amz-tagging").unwrap_or_default()),
                is_new_only: header("if-none-match").is_some(),
            },
            _ => Self::Other(format!("{method} {target}")),
        }
    }

    /// Describes the request for the trace.
    pub fn describe(&self) -> String {
        match self {
            Self::List { parameters, .. } => format!(
                "list {:?} after {:?} {} by {:?}",
                parameters.prefix, parameters.key_marker, parameters.id_marker, parameters.delimiter
            ),
            Self::Put { key, tags, .. } => format!("put {key:?} {tags:?}"),
            Self::Get { key, .. } => format!("get {key:?}"),
            Self::Head { key, .. } => format!("head {key:?}"),
            Self::Delete { key, id } => format!("delete {key:?} {id:?}"),
            Self::DeleteMany(all) => format!("delete {} of {:?}", all.len(), all.first()),
            Self::GetTags { key, id } => format!("tag of {key:?} {id}"),
            Self::PutTags { key, id, tags } => format!("tag {key:?} {id} {tags:?}"),
            Self::GetHold { key, id } => format!("hold of {key:?} {id}"),
            Self::PutHold { key, id, on } => format!("hold {key:?} {id} {on}"),
            Self::Uploads => "uploads".to_owned(),
            Self::Other(other) => other.clone(),
        }
    }
}

impl Store {
    /// Serves a request.
    pub fn serve(&mut self, by: Caller, request: &StoreRequest) -> Result<StoreResponse, StoreError> {
        let is_operator = matches!(by.actor, super::store::Actor::Operator(_));
        match request {
            StoreRequest::List { .. } | StoreRequest::Uploads if !is_operator => {
                Err(StoreError(403, "AccessDenied"))
            }
            StoreRequest::List { parameters, .. } => Ok(StoreResponse::Listing(self.list(parameters))),
            StoreRequest::Uploads => Ok(StoreResponse::Uploads),
            StoreRequest::Put { key, body, tags, is_new_only } => {
                let id = self.put(by, key, body.clone(), tags.clone(), *is_new_only)?;
                Ok(StoreResponse::Put(id))
            }
            StoreRequest::Get { key, id } | StoreRequest::Head { key, id } => {
                Ok(StoreResponse::Object(self.get(by.actor, key, id.as_deref())?.clone()))
            }
            StoreRequest::Delete { key, id } => {
                self.delete(by, key, id.as_deref())?;
                Ok(StoreResponse::Done)
            }
            StoreRequest::DeleteMany(all) => {
                let mut left = Vec::new();
                for (key, id) in all {
                    if let Err(no) = self.delete(by, key, Some(id)) {
                        left.push((key.clone(), id.clone(), no));
                    }
                }
                Ok(StoreResponse::Left(left))
            }
            StoreRequest::GetTags { key, id } => {
                let returns_empty = !self.kind.no_such_tag_set;
                let version = self.version_mut(by.actor, key, id)?;
                if version.tags.is_empty() && !returns_empty {
                    return Err(StoreError(404, "NoSuchTagSet"));
                }
                Ok(StoreResponse::Tags(version.tags.clone()))
            }
            StoreRequest::PutTags { key, id, tags } => {
                self.set_tags(by, key, id, tags.clone())?;
                Ok(StoreResponse::Done)
            }
            StoreRequest::GetHold { key, id } => {
                let version = self.version_mut(by.actor, key, id)?;
                version
                    .legal_hold
                    .map(StoreResponse::Hold)
                    .ok_or(StoreError(404, "NoSuchObjectLockConfiguration"))
            }
            StoreRequest::PutHold { key, id, on } => {
                self.set_hold(by, key, id, *on)?;
                Ok(StoreResponse::Done)
            }
            StoreRequest::Other(_) => Err(StoreError(501, "NotImplemented")),
        }
    }
}

/// Serializes a response.
pub fn to_raw_response(
    kind: &StoreKind,
    request: &StoreRequest,
    response: &Result<StoreResponse, StoreError>,
) -> RawResponse {
    let ok = |body: String| RawResponse { status: 200, body: body.into_bytes(), version: None };
    match response {
        Err(no) => RawResponse { status: no.0, ..ok(xml::error(*no)) },
        Ok(StoreResponse::Listing(listing)) => match request {
            StoreRequest::List { parameters, wants_url } => {
                ok(xml::listing(kind, parameters, *wants_url, listing))
            }
            _ => ok(String::new()),
        },
        Ok(StoreResponse::Object(version)) => {
            RawResponse { status: 200, body: version.body.to_vec(), version: Some(version.id.clone()) }
        }
        Ok(StoreResponse::Put(id)) => RawResponse { version: Some(id.clone()), ..ok(String::new()) },
        Ok(StoreResponse::Tags(tags)) => ok(xml::tagging(tags)),
        Ok(StoreResponse::Hold(on)) => ok(xml::legal_hold(*on)),
        Ok(StoreResponse::Left(left)) => ok(xml::deleted(left)),
        Ok(StoreResponse::Uploads) => ok(xml::empty_uploads_result()),
        Ok(StoreResponse::Done) => RawResponse {
            status: if matches!(request, StoreRequest::Delete { .. }) { 204 } else { 200 },
            ..ok(String::new())
        },
    }
}
