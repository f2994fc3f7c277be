//! Names and labels of what a Site has.

use std::collections::BTreeMap;

use kube::ResourceExt;

use crate::api::Site;

/// Field manager of what this controller applies.
pub const FIELD_MANAGER: &str = "toezicht/site";
/// Field manager of the annotation that makes a kubelet look at a pod's configuration at once.
pub const CONFIG_TOUCH_MANAGER: &str = "toezicht/site-nudge";
/// Finalizer that keeps a Site until its recorders are gone.
pub const FINALIZER: &str = "toezicht.dev/recorders";
/// Label with the name of the Site.
pub const SITE_LABEL: &str = "toezicht.dev/site";
/// Labels that every recorder pod has.
pub const RECORDER_SELECTOR: &str =
    "app.kubernetes.io/managed-by=toezicht,app.kubernetes.io/component=recorder";
/// Annotation of a recorder pod with the revision of the configuration that it should follow.
pub const REVISION_ANNOTATION: &str = "toezicht.dev/config-revision";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildNames {
    pub namespace: String,
    pub site: String,
    /// Its UID, which its children name as their controller.
    pub uid: String,
    /// StatefulSet, Service and ServiceAccount.
    pub recorder: String,
    pub config: String,
}

impl ChildNames {
    /// The names that `site` gives.
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

    /// Labels that select the recorder pods of this site; a StatefulSet's selector cannot change.
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
