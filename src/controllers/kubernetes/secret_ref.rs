//! Secrets that a spec names.
//!
//! Only Secrets of our own types are read, and the server is asked for no others: the type is part of the
//! query. So a Secret of another type looks exactly like one that does not exist, to the operator too, and
//! nobody learns anything of another Secret through a message, a status or the time an answer takes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::error::ApiError;
use crate::wire::Secret;

/// A Secret that was found, of the type that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferencedSecret {
    /// Its resourceVersion, to see whether it changed.
    pub resource_version: String,
    /// What its finalizers can be changed by.
    pub finalizer_state: FinalizerState,
    data: BTreeMap<String, Secret>,
}

/// What keeps an object from going.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FinalizerState {
    pub uid: Option<String>,
    pub finalizers: Vec<String>,
    /// Whether it is being deleted, so that no finalizer can be added.
    pub is_deleting: bool,
}

impl ReferencedSecret {
    /// For tests and for what was read elsewhere.
    pub fn new(version: impl Into<String>, data: BTreeMap<String, Secret>) -> Self {
        Self { resource_version: version.into(), finalizer_state: FinalizerState::default(), data }
    }

    /// The text under `key`, where there is one that is UTF-8 and not empty. A newline at its end, which
    /// editors leave, is no part of it.
    pub fn text(&self, key: &str) -> Option<Secret> {
        let text = self.data.get(key)?.reveal().trim_end_matches(['\r', '\n']);
        (!text.is_empty()).then(|| Secret::new(text))
    }
}

/// Why a Secret cannot be used. Says the same for one that does not exist and one of another type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MissingSecret {
    /// There is none of that type and name.
    #[error(
        "{field}: there is no Secret of type {type_} named {name:?}: create it in this namespace with that type, which cannot be \
         changed later"
    )]
    NotFound {
        /// Path of the field that names it.
        field: String,
        type_: &'static str,
        name: String,
    },
    #[error("{field}: the Secret {name:?} has no text under the key {key:?}: add it")]
    NoKey {
        /// Path of the field that names it.
        field: String,
        name: String,
        key: &'static str,
    },
}

/// The Secret `name` of `type_` in `namespace`; `None` where there is none of that type.
pub async fn fetch(
    client: &Client,
    namespace: &str,
    type_: &'static str,
    name: &str,
) -> Result<Option<ReferencedSecret>, ApiError> {
    // A name that is no name could smuggle another selector in.
    if !is_object_name(name) {
        return Ok(None);
    }
    let only = ListParams::default().fields(&format!("metadata.name={name},type={type_}"));
    let secrets = Api::<core::Secret>::namespaced(client.clone(), namespace).list(&only).await?;
    Ok(secrets
        .items
        .into_iter()
        .find(|secret| secret.name_any() == name && secret.type_.as_deref() == Some(type_))
        .map(read_secret))
}

/// Every Secret of `type_` in `namespace`, by name: one request for many references.
pub async fn fetch_all(
    client: &Client,
    namespace: &str,
    type_: &'static str,
) -> Result<BTreeMap<String, ReferencedSecret>, ApiError> {
    let only = ListParams::default().fields(&format!("type={type_}"));
    let secrets = Api::<core::Secret>::namespaced(client.clone(), namespace).list(&only).await?;
    let ours = secrets.items.into_iter().filter(|secret| secret.type_.as_deref() == Some(type_));
    Ok(ours.map(|secret| (secret.name_any(), read_secret(secret))).collect())
}

/// The text under `key` of the Secret `name` among `secrets`, all of `type_`; `field` is the path of the
/// field that names it.
pub fn require_text(
    secrets: &BTreeMap<String, ReferencedSecret>,
    type_: &'static str,
    name: &str,
    key: &'static str,
    field: &str,
) -> Result<Secret, MissingSecret> {
    let (field, name) = (|| field.to_owned(), || name.to_owned());
    let found = secrets.get(&name()).ok_or_else(|| MissingSecret::NotFound {
        field: field(),
        type_,
        name: name(),
    })?;
    found.text(key).ok_or_else(|| MissingSecret::NoKey { field: field(), name: name(), key })
}

fn read_secret(secret: core::Secret) -> ReferencedSecret {
    let version = secret.metadata.resource_version.unwrap_or_default();
    let keeping = FinalizerState {
        uid: secret.metadata.uid,
        finalizers: secret.metadata.finalizers.unwrap_or_default(),
        is_deleting: secret.metadata.deletion_timestamp.is_some(),
    };
    let data = secret.data.unwrap_or_default().into_iter();
    let texts = data.filter_map(|(key, value)| Some((key, Secret::new(String::from_utf8(value.0).ok()?))));
    ReferencedSecret { resource_version: version, finalizer_state: keeping, data: texts.collect() }
}

/// Whether `name` can be the name of a Kubernetes object: a DNS subdomain (RFC 1123).
fn is_object_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_name_cannot_inject_selector() {
        for name in ["", "a,type=Opaque", "a b", "A", "a=b", "ä", "a/b"] {
            assert!(!is_object_name(name), "{name}");
        }
        assert!(is_object_name("camera-1.receptie"));
    }

    /// Tools make Secrets of type Opaque, and Kubernetes changes no Secret's type.
    #[test]
    fn missing_secret_error_names_required_type() {
        let told =
            require_text(&BTreeMap::new(), "toezicht.dev/ca", "corporate", "ca.crt", "spec.storage.caRef");
        let told = told.unwrap_err().to_string();
        for part in
            ["spec.storage.caRef: ", "type toezicht.dev/ca", "\"corporate\"", "cannot be changed later"]
        {
            assert!(told.contains(part), "{part}: {told}");
        }
    }

    #[test]
    fn secret_text_is_nonempty_utf8() {
        let secret: core::Secret = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "a", "resourceVersion": "7"},
            "data": {"ok": "aGkK", "empty": "", "newline": "Cg==", "binary": "//4="}
        }))
        .unwrap();
        let found = read_secret(secret);
        assert_eq!(found.resource_version, "7");
        assert_eq!(found.text("ok").unwrap().reveal(), "hi");
        for key in ["empty", "newline", "binary", "absent"] {
            assert_eq!(found.text(key), None, "{key}");
        }
        assert!(!format!("{found:?}").contains("hi"));
    }
}
