//! Names and labels of a Site's children.

use std::collections::BTreeMap;

use kube::ResourceExt;

use crate::api::Site;

/// Field manager of the objects that the Site controller applies.
pub const FIELD_MANAGER: &str = "toezicht/site";
/// Field manager of [`REVISION_ANNOTATION`].
pub const CONFIG_TOUCH_MANAGER: &str = "toezicht/site-nudge";
/// Finalizer that keeps a Site until its recorders have terminated.
pub const FINALIZER: &str = "toezicht.dev/recorders";
/// Type of the Secret with the recorders' configuration.
pub const CONFIG_SECRET_TYPE: &str = "toezicht.dev/recorder-config";
/// Prefix of the finalizer on the Secrets that a Site needs to release its holds. The name of the Site follows.
const SECRET_FINALIZER_PREFIX: &str = "toezicht.dev/holds-of-";
/// Label with the name of the Site.
pub const SITE_LABEL: &str = "toezicht.dev/site";
/// Labels of all recorder pods.
pub const RECORDER_SELECTOR: &str =
    "app.kubernetes.io/managed-by=toezicht,app.kubernetes.io/component=recorder";
/// Volume with segments that wait for their upload.
pub const SPOOL_VOLUME: &str = "spool";
/// Annotation of a recorder pod with the revision of its desired configuration.
pub const REVISION_ANNOTATION: &str = "toezicht.dev/config-revision";

/// Recorders that a message names.
const MAX_NAMED: usize = 10;

/// Returns the finalizer of `site` on the Secrets that it needs to release its holds.
pub fn secret_finalizer(site: &Site) -> String {
    format!("{SECRET_FINALIZER_PREFIX}{}", site.name_any())
}

/// Joins the first of `texts`, and counts the others; `None`: there are none.
pub fn join_first(mut texts: Vec<String>, separator: &str, others: &str) -> Option<String> {
    let more = texts.len().saturating_sub(MAX_NAMED);
    texts.truncate(MAX_NAMED);
    if more > 0 {
        texts.push(format!("{more} more {others}"));
    }
    (!texts.is_empty()).then(|| texts.join(separator))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildNames {
    pub namespace: String,
    pub site: String,
    /// UID of the Site, the controller of its children.
    pub uid: String,
    /// Name of StatefulSet, Service and ServiceAccount.
    pub recorder: String,
    /// Name of the Secret with the recorders' configuration.
    pub config: String,
}

impl ChildNames {
    pub fn of(site: &Site) -> Self {
        let name = site.name_any();
        Self {
            namespace: site.namespace().unwrap_or_default(),
            uid: site.uid().unwrap_or_default(),
            recorder: format!("{name}-recorder"),
            config: format!("{name}-recorder-config"),
            site: name,
        }
    }

    /// Returns the name of a recorder pod, as the StatefulSet forms it.
    pub fn pod(&self, shard: u32) -> String {
        format!("{}-{shard}", self.recorder)
    }

    /// Returns the name of the claim of a recorder's spool, as the StatefulSet forms it.
    pub fn claim(&self, shard: u32) -> String {
        format!("{SPOOL_VOLUME}-{}", self.pod(shard))
    }

    /// Returns the selector of the recorder pods. It must never change: a StatefulSet's selector is immutable.
    pub fn selector(&self) -> BTreeMap<String, String> {
        let pairs = [
            ("app.kubernetes.io/name", "toezicht"),
            ("app.kubernetes.io/component", "recorder"),
            ("app.kubernetes.io/instance", self.site.as_str()),
        ];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    pub fn labels(&self) -> BTreeMap<String, String> {
        let more = [("app.kubernetes.io/managed-by", "toezicht"), (SITE_LABEL, self.site.as_str())];
        let more = more.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        self.selector().into_iter().chain(more).collect()
    }
}
