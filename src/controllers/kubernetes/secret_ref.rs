//! Secrets that a spec names.
//!
//! The operator watches only Secrets of its own types: the type is part of the watch. To the operator, a Secret of another
//! type looks exactly like one that does not exist. Therefore nobody can learn about another Secret from a message, a status
//! or the time of an answer.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use kube::ResourceExt;

use super::cached::Cached;
use super::meta;
use crate::api::LocalRef;
use crate::wire::Secret;

/// Secret of the type that the field takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferencedSecret {
    pub resource_version: String,
    pub finalizer_state: FinalizerState,
    data: BTreeMap<String, Secret>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FinalizerState {
    pub uid: Option<String>,
    pub finalizers: Vec<String>,
    /// Whether the Secret is being deleted, so that the server accepts no new finalizer.
    pub is_deleting: bool,
}

impl ReferencedSecret {
    /// Returns the text under `key` without its final newline, which editors add; `None` if it is absent, empty or not
    /// UTF-8.
    pub fn text(&self, key: &str) -> Option<Secret> {
        let text = self.data.get(key)?.reveal().trim_end_matches(['\r', '\n']);
        (!text.is_empty()).then(|| Secret::new(text))
    }
}

/// A Secret cannot be used. The message is the same for one that does not exist and one of another type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MissingSecret {
    #[error(
        "{field}: no Secret of type {type_} is named {name:?}: create it in this namespace with that type, which cannot be \
         changed later"
    )]
    NotFound { field: String, type_: &'static str, name: String },
    #[error("{field}: the Secret {name:?} has no text under the key {key:?}: add it")]
    NoKey { field: String, name: String, key: &'static str },
    #[error(
        "{field}: the Secret {name:?} has more than {MAX_TEXT_BYTES} bytes under the key {key:?}: shorten it, since all \
         recorders of the Site read one Secret of at most 1 MiB"
    )]
    TooLong { field: String, name: String, key: &'static str },
}

/// Longest text of a Secret that recorders read.
pub const MAX_TEXT_BYTES: usize = 64 * 1024;

/// Returns those of the Secrets in `namespace` that `references` name or that meet `also`, by name. `cached` has one type.
pub fn select<'a>(
    cached: &Cached<core::Secret>,
    namespace: &str,
    references: impl Iterator<Item = &'a LocalRef>,
    also: impl Fn(&core::Secret) -> bool,
) -> BTreeMap<String, ReferencedSecret> {
    let named = references.filter_map(|reference| cached.get(namespace, &reference.name));
    let others = cached.in_namespace(namespace).into_iter().filter(|secret| also(secret));
    named.chain(others).map(|secret| (secret.name_any(), read_secret(&secret))).collect()
}

/// Returns the text under `key` of the Secret `name` among `secrets`, which are all of `type_`. `field`: path of the
/// field with that name.
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

/// Like [`require_text`], for a text that recorders read. Each camera has its own copy in their configuration, so one long text would
/// take the place of all cameras.
pub fn require_bounded_text(
    secrets: &BTreeMap<String, ReferencedSecret>,
    type_: &'static str,
    name: &str,
    key: &'static str,
    field: &str,
) -> Result<Secret, MissingSecret> {
    let text = require_text(secrets, type_, name, key, field)?;
    check_length(&text, name, key, field).map(|()| text)
}

pub fn check_length(text: &Secret, name: &str, key: &'static str, field: &str) -> Result<(), MissingSecret> {
    if text.reveal().len() <= MAX_TEXT_BYTES {
        return Ok(());
    }
    Err(MissingSecret::TooLong { field: field.to_owned(), name: name.to_owned(), key })
}

fn read_secret(secret: &core::Secret) -> ReferencedSecret {
    let resource_version = secret.resource_version().unwrap_or_default();
    let finalizer_state = FinalizerState {
        uid: secret.uid(),
        finalizers: secret.finalizers().to_vec(),
        is_deleting: meta::is_deleting(secret),
    };
    let texts = secret
        .data
        .iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), Secret::new(str::from_utf8(&value.0).ok()?))));
    ReferencedSecret { resource_version, finalizer_state, data: texts.collect() }
}

#[cfg(test)]
impl ReferencedSecret {
    /// Returns a Secret with these texts.
    pub(crate) fn of(texts: &[(&str, &str)]) -> Self {
        let data = texts.iter().map(|(key, text)| ((*key).to_owned(), Secret::new(*text))).collect();
        Self { resource_version: "1".to_owned(), finalizer_state: FinalizerState::default(), data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Many tools create Secrets of type Opaque, and nobody can change the type of a Secret.
    #[test]
    fn missing_secret_error_names_required_type() {
        let secrets = BTreeMap::new();
        let error = require_text(&secrets, "toezicht.dev/ca", "corporate", "ca.crt", "spec.storage.caRef")
            .unwrap_err();
        let message = error.to_string();
        for part in
            ["spec.storage.caRef: ", "type toezicht.dev/ca", "\"corporate\"", "cannot be changed later"]
        {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[test]
    fn text_for_recorders_is_bounded() {
        let text = |bytes| {
            let secret = ReferencedSecret::of(&[("ca.crt", "x".repeat(bytes).as_str())]);
            let secrets = BTreeMap::from([("ca".to_owned(), secret)]);
            require_bounded_text(&secrets, "toezicht.dev/ca", "ca", "ca.crt", "spec.stream.caRef")
        };
        assert!(text(MAX_TEXT_BYTES).is_ok());
        let message = text(MAX_TEXT_BYTES + 1).unwrap_err().to_string();
        assert!(
            message.starts_with("spec.stream.caRef: the Secret \"ca\" has more than 65536 bytes"),
            "{message}"
        );
    }

    #[test]
    fn secret_text_is_nonempty_utf8() {
        let secret: core::Secret = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "a", "resourceVersion": "7"},
            "data": {"ok": "aGkK", "empty": "", "newline": "Cg==", "binary": "//4="}
        }))
        .unwrap();
        let found = read_secret(&secret);
        assert_eq!(found.resource_version, "7");
        assert_eq!(found.text("ok").unwrap().reveal(), "hi");
        for key in ["empty", "newline", "binary", "absent"] {
            assert_eq!(found.text(key), None, "{key}");
        }
        assert!(!format!("{found:?}").contains("hi"));
    }
}
