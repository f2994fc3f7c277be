//! Names and labels of a Site's children.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};

use crate::api::Site;
use crate::controllers::kubernetes::apply::APPLIED_HASH_ANNOTATION;

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

/// Suffix of the name of StatefulSet, Service and ServiceAccount. The name of the Site precedes.
const RECORDER_SUFFIX: &str = "-recorder";
/// Suffix of the name of the Secret with the recorders' configuration.
const CONFIG_SUFFIX: &str = "-recorder-config";

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

/// Names of a Site's children.
///
/// No child has an owner reference. A deletion of the Site in the foreground, as Argo CD prunes, would let Kubernetes delete the
/// StatefulSet and its configuration at once, although the finalizer keeps the Site: the recorders would lose their spools. So the
/// finalizer's own steps delete every child, and a child belongs to the Site by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildNames {
    pub namespace: String,
    pub site: String,
    pub uid: String,
    /// Name of StatefulSet, Service and ServiceAccount.
    pub recorder: String,
    /// Name of the Secret with the recorders' configuration.
    pub config: String,
}

impl ChildNames {
    pub fn of(site: &Site) -> Self {
        let uid = site.uid().unwrap_or_default();
        Self { uid, ..Self::of_gone(&site.namespace().unwrap_or_default(), &site.name_any()) }
    }

    /// Returns the names of the children of a Site that does not exist, and therefore has no UID.
    pub fn of_gone(namespace: &str, site: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            uid: String::new(),
            recorder: format!("{site}{RECORDER_SUFFIX}"),
            config: format!("{site}{CONFIG_SUFFIX}"),
            site: site.to_owned(),
        }
    }

    /// Whether an object with the name of a child is the child of this Site, or of an earlier Site of the same name: the operator
    /// applied it or it has the label of the Site, and nobody else controls it.
    ///
    /// The marks are redundant: another party may remove one, and the operator restores it. Children that an earlier version applied
    /// have their Site as controller, until they are applied again.
    pub fn owns(&self, object: &ObjectMeta) -> bool {
        let mut owners = object.owner_references.iter().flatten();
        if let Some(owner) = owners.find(|owner| owner.controller == Some(true)) {
            return owner.api_version == Site::api_version(&())
                && owner.kind == Site::kind(&())
                && owner.name == self.site;
        }
        self.has_marks(object)
    }

    /// Whether the operator applied `object` or it has the label of the Site, even if another party controls it now.
    pub fn has_marks(&self, object: &ObjectMeta) -> bool {
        let has_label = object.labels.as_ref().and_then(|all| all.get(SITE_LABEL)) == Some(&self.site);
        has_label || object.annotations.as_ref().is_some_and(|all| all.contains_key(APPLIED_HASH_ANNOTATION))
    }

    /// Returns the name of a recorder pod, as the StatefulSet forms it.
    pub fn pod(&self, shard: u32) -> String {
        format!("{}-{shard}", self.recorder)
    }

    /// Returns the name of the claim of a recorder's spool, as the StatefulSet forms it.
    #[cfg(test)]
    pub fn claim(&self, shard: u32) -> String {
        format!("{SPOOL_VOLUME}-{}", self.pod(shard))
    }

    /// Returns the shard of a recorder pod by its name; `None`: it has another name.
    pub fn shard_of_pod(&self, name: &str) -> Option<u32> {
        let shard = name.strip_prefix(&self.recorder)?.strip_prefix('-')?.parse().ok()?;
        (self.pod(shard) == name).then_some(shard)
    }

    /// Returns the shard of the claim of a spool by its name; `None`: it has another name.
    pub fn shard_of_claim(&self, name: &str) -> Option<u32> {
        self.shard_of_pod(name.strip_prefix(SPOOL_VOLUME)?.strip_prefix('-')?)
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

/// Returns the name of the Site that a Secret of this name has the configuration of. Not by a label, which somebody may change.
pub fn site_of_config(secret: &str) -> Option<&str> {
    secret.strip_suffix(CONFIG_SUFFIX)
}

/// Returns the name of the Site that a StatefulSet of this name has the recorders of.
pub fn site_of_workload(workload: &str) -> Option<&str> {
    workload.strip_suffix(RECORDER_SUFFIX)
}

/// Returns the name of the Site of a child, by its label, or by its name if it has lost the label.
pub fn site_of_child(child: &impl ResourceExt) -> Option<String> {
    if let Some(site) = child.labels().get(SITE_LABEL) {
        return Some(site.clone());
    }
    let name = child.name_any();
    let site = name.strip_suffix(CONFIG_SUFFIX).or_else(|| name.strip_suffix(RECORDER_SUFFIX))?;
    Some(site.to_owned())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Secret;
    use serde_json::json;

    use super::*;
    use crate::controllers::testing;

    #[test]
    fn children_belong_to_the_site_by_label_or_hash_unless_another_controls_them() {
        let names = ChildNames::of(&testing::site());
        let owner = |kind: &str, name: &str, uid: &str| json!([{"apiVersion": "toezicht.dev/v1alpha1", "kind": kind, "name": name, "uid": uid, "controller": true}]);
        let (own, another, none) =
            (json!({SITE_LABEL: names.site}), json!({SITE_LABEL: "another"}), json!({}));
        let hash = json!({APPLIED_HASH_ANNOTATION: "0a"});
        let unowned = json!([]);
        for (labels, annotations, owners, expected) in [
            (&own, &none, unowned.clone(), true),
            // Another party removed the labels.
            (&none, &hash, unowned.clone(), true),
            (&none, &none, unowned.clone(), false),
            (&another, &none, unowned, false),
            // As an earlier version applied it, for this Site or for one of the same name that is gone.
            (&own, &hash, owner("Site", &names.site, &names.uid), true),
            (&own, &hash, owner("Site", &names.site, "gone"), true),
            (&own, &hash, owner("Site", "another", "another"), false),
            (&own, &hash, owner("Helm", &names.site, "another"), false),
        ] {
            let object = json!({"labels": labels, "annotations": annotations, "ownerReferences": owners});
            let object: ObjectMeta = serde_json::from_value(object).unwrap();
            assert_eq!(names.owns(&object), expected, "{object:?}");
        }
    }

    #[test]
    fn site_of_a_child_without_labels_is_known_by_its_name() {
        let secret = |name: &str, labels| {
            let object = json!({"metadata": {"name": name, "labels": labels}});
            serde_json::from_value::<Secret>(object).unwrap()
        };
        for (name, labels, expected) in [
            ("zwembad-recorder-config", json!({}), Some("zwembad")),
            ("zwembad-recorder", json!({}), Some("zwembad")),
            ("x", json!({SITE_LABEL: "zwembad"}), Some("zwembad")),
            ("zwembad-recorder-0", json!({}), None),
        ] {
            assert_eq!(site_of_child(&secret(name, labels)).as_deref(), expected, "{name}");
        }
    }
}
