//! The requests of S3 that operator and recorder make, as the store understands them, and its answers.

use std::sync::Arc;

use super::kind::Kind;
use super::listing::{Asked, Listing};
use super::store::{By, No, Store, Version};
use super::xml;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    List {
        asked: Asked,
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
    /// Nothing of what the simulation has.
    Other(String),
}

/// An answer of success.
#[derive(Clone, Debug)]
pub enum Answer {
    Listing(Listing),
    Object(Version),
    Put(String),
    Tags(Vec<(String, String)>),
    Hold(bool),
    /// What of a batch was not deleted.
    Left(Vec<(String, String, No)>),
    Done,
    Uploads,
}

/// As it goes over the wire.
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

impl Ask {
    /// Reads a request of path style.
    pub fn read(method: &str, target: &str, header: impl Fn(&str) -> Option<String>, body: &[u8]) -> Self {
        let (path, text) = target.split_once('?').unwrap_or((target, ""));
        let pairs = query(text);
        let of = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let key = path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key);
        let (key, id) = (xml::decoded(key), of("versionId"));
        let marks = id.clone().unwrap_or_default();
        match method {
            "GET" if key.is_empty() && of("versions").is_some() => Self::List {
                asked: Asked {
                    prefix: of("prefix").unwrap_or_default(),
                    delimiter: of("delimiter").filter(|text| !text.is_empty()),
                    key_marker: of("key-marker").unwrap_or_default(),
                    id_marker: of("version-id-marker").unwrap_or_default(),
                    most: of("max-keys").and_then(|most| most.parse().ok()).unwrap_or(1000),
                },
                wants_url: of("encoding-type").is_some_and(|kind| kind == "url"),
            },
            "GET" if key.is_empty() && of("uploads").is_some() => Self::Uploads,
            "POST" if key.is_empty() && of("delete").is_some() => {
                let (keys, ids) = (xml::texts(body, "Key"), xml::texts(body, "VersionId"));
                Self::DeleteMany(keys.into_iter().zip(ids).collect())
            }
            _ if key.is_empty() => Self::Other(format!("{method} {target}")),
            "GET" if of("tagging").is_some() => Self::GetTags { key, id: marks },
            "PUT" if of("tagging").is_some() => {
                let (keys, values) = (xml::texts(body, "Key"), xml::texts(body, "Value"));
                let tags = keys.into_iter().zip(values).collect();
                Self::PutTags { key, id: marks, tags }
            }
            "GET" if of("legal-hold").is_some() => Self::GetHold { key, id: marks },
            "PUT" if of("legal-hold").is_some() => Self::PutHold {
                key,
                id: marks,
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

    /// In a line of the trace.
    pub fn told(&self) -> String {
        match self {
            Self::List { asked, .. } => format!(
                "list {:?} after {:?} {} by {:?}",
                asked.prefix, asked.key_marker, asked.id_marker, asked.delimiter
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
    /// Does what is asked.
    pub fn answer(&mut self, by: By, ask: &Ask) -> Result<Answer, No> {
        let is_operator = matches!(by.who, super::store::Who::Operator(_));
        match ask {
            Ask::List { .. } | Ask::Uploads if !is_operator => Err(No(403, "AccessDenied")),
            Ask::List { asked, .. } => Ok(Answer::Listing(self.list(asked))),
            Ask::Uploads => Ok(Answer::Uploads),
            Ask::Put { key, body, tags, is_new_only } => {
                let id = self.put(by, key, body.clone(), tags.clone(), *is_new_only)?;
                Ok(Answer::Put(id))
            }
            Ask::Get { key, id } | Ask::Head { key, id } => {
                Ok(Answer::Object(self.get(by.who, key, id.as_deref())?.clone()))
            }
            Ask::Delete { key, id } => {
                self.delete(by, key, id.as_deref())?;
                Ok(Answer::Done)
            }
            Ask::DeleteMany(all) => {
                let mut left = Vec::new();
                for (key, id) in all {
                    if let Err(no) = self.delete(by, key, Some(id)) {
                        left.push((key.clone(), id.clone(), no));
                    }
                }
                Ok(Answer::Left(left))
            }
            Ask::GetTags { key, id } => {
                let is_told = !self.kind.no_such_tag_set;
                let version = self.marked(by.who, key, id)?;
                if version.tags.is_empty() && !is_told {
                    return Err(No(404, "NoSuchTagSet"));
                }
                Ok(Answer::Tags(version.tags.clone()))
            }
            Ask::PutTags { key, id, tags } => {
                self.set_tags(by, key, id, tags.clone())?;
                Ok(Answer::Done)
            }
            Ask::GetHold { key, id } => {
                let version = self.marked(by.who, key, id)?;
                version.legal_hold.map(Answer::Hold).ok_or(No(404, "NoSuchObjectLockConfiguration"))
            }
            Ask::PutHold { key, id, on } => {
                self.set_hold(by, key, id, *on)?;
                Ok(Answer::Done)
            }
            Ask::Other(_) => Err(No(501, "NotImplemented")),
        }
    }
}

/// An answer as it is sent.
pub fn written(kind: &Kind, ask: &Ask, answer: &Result<Answer, No>) -> RawResponse {
    let ok = |body: String| RawResponse { status: 200, body: body.into_bytes(), version: None };
    match answer {
        Err(no) => RawResponse { status: no.0, ..ok(xml::error(*no)) },
        Ok(Answer::Listing(listing)) => match ask {
            Ask::List { asked, wants_url } => ok(xml::listing(kind, asked, *wants_url, listing)),
            _ => ok(String::new()),
        },
        Ok(Answer::Object(version)) => {
            RawResponse { status: 200, body: version.body.to_vec(), version: Some(version.id.clone()) }
        }
        Ok(Answer::Put(id)) => RawResponse { version: Some(id.clone()), ..ok(String::new()) },
        Ok(Answer::Tags(tags)) => ok(xml::tagging(tags)),
        Ok(Answer::Hold(on)) => ok(xml::legal_hold(*on)),
        Ok(Answer::Left(left)) => ok(xml::deleted(left)),
        Ok(Answer::Uploads) => ok(xml::empty_uploads_result()),
        Ok(Answer::Done) => RawResponse {
            status: if matches!(ask, Ask::Delete { .. }) { 204 } else { 200 },
            ..ok(String::new())
        },
    }
}
