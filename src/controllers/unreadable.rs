//! Objects that this version cannot deserialize. They must not stop the others, and people must learn which field is the cause.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ApiResource, Patch, PatchParams};
use kube::core::{DeserializeGuard, DynamicObject};
use kube::{Api, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::warn;

use super::context::Context;
use super::kubernetes::cached::Cacheable;
use super::kubernetes::{event, meta, status};
use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason};

/// Field manager of the conditions of unreadable objects.
const MANAGER: &str = "toezicht/unreadable";

/// Names the field that this version cannot read, in the log, in an event and in `Ready`.
pub async fn report<K: Cacheable>(context: &Context, object: &DeserializeGuard<K>) {
    let (kind, key) = (K::kind(&()), meta::namespaced_name(object));
    let (namespace, resource) = (object.namespace().unwrap_or_default(), ApiResource::erase::<K>(&()));
    let api = Api::<DynamicObject>::namespaced_with(context.client.clone(), &namespace, &resource);
    let found = match api.get_opt(&object.name_any()).await {
        Ok(found) => found,
        Err(error) => return warn!(%kind, object = key, %error, "an object cannot be read"),
    };
    // It was deleted, or corrected: then the watch reports it again.
    let Some((found, problem)) = found.and_then(|found| {
        let problem = problem::<K>(serde_json::to_value(&found).ok()?)?;
        Some((found, problem))
    }) else {
        return;
    };
    let before = conditions_of(&found);
    let after = unread_conditions(&before, &problem, found.metadata.generation, Timestamp::now());
    if !before.is_empty() && after == before {
        return;
    }
    warn!(%kind, object = key, problem, "an object cannot be read");
    event::publish(&context.events, object, &[event::warning("Unreadable", "Read", &problem)]).await;
    if !before.is_empty()
        && let Err(error) = replace_conditions(&api, &found, &after).await
    {
        warn!(%kind, object = key, %error, "the conditions of an unreadable object stay as they were");
    }
}

fn conditions_of(object: &DynamicObject) -> Vec<Condition> {
    let conditions = object.data.pointer("/status/conditions").cloned().unwrap_or_default();
    serde_json::from_value(conditions).unwrap_or_default()
}

/// Returns the conditions of an object that nobody observes any more.
fn unread_conditions(
    before: &[Condition],
    problem: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let (unknown, reason) = (ConditionStatus::Unknown, Reason::Unreadable);
    let ready = ConditionFinding::new(ConditionType::Ready, unknown, reason, problem);
    let conditions = status::replace_condition(before, &ready, generation, now);
    status::mark_unobserved(conditions, before, reason, "the operator cannot read the object", now)
}

/// Does not apply a status, as the controllers do: the fields that it left out would be removed.
async fn replace_conditions(
    api: &Api<DynamicObject>,
    object: &DynamicObject,
    conditions: &[Condition],
) -> Result<(), kube::Error> {
    let patch = json!({
        "metadata": {"resourceVersion": object.resource_version()},
        "status": {"conditions": conditions},
    });
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch_status(&object.name_any(), &params, &Patch::Merge(&patch)).await {
        // It changed meanwhile, which the watch reports.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        written => written.map(drop),
    }
}

/// Returns the field of `object` that is not as `K` has it, and the remedy; `None`: all are. Without the value, which can be a
/// password.
fn problem<K: DeserializeOwned>(object: Value) -> Option<String> {
    let error = serde_path_to_error::deserialize::<_, K>(object).err()?;
    let text = error.inner().to_string();
    let known = [
        "missing field",
        "unknown field",
        "unknown variant",
        "invalid type",
        "invalid length",
        "duplicate field",
    ];
    let category = known.into_iter().find(|category| text.starts_with(category)).unwrap_or("invalid value");
    let path = error.path().to_string();
    let field = if path == "." { "the object" } else { &path };
    Some(format!(
        "{field}: {category}; this version of the operator cannot read it: apply the object again with this version's fields, or \
         upgrade the operator"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Camera;
    use crate::api::condition::merge;

    #[test]
    fn unreadable_object_claims_nothing_and_is_written_once() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let findings = [
            ConditionFinding::new(ConditionType::Ready, true, Reason::AsRequired, ""),
            ConditionFinding::new(ConditionType::Compliant, true, Reason::AuditPassed, "kept"),
            ConditionFinding::new(ConditionType::Permitted, false, Reason::NoConsent, "no consent"),
        ];
        let before = merge(&[], &findings, Some(1), now);
        let after = unread_conditions(&before, "spec.area: invalid type", Some(2), now);
        let found: Vec<_> = after.iter().map(|one| (one.type_.as_str(), one.status.as_str())).collect();
        assert_eq!(found, [("Ready", "Unknown"), ("Compliant", "Unknown"), ("Permitted", "False")]);
        assert!(after[0].message.contains("spec.area") && after[1].message.ends_with("kept"), "{after:?}");
        let later = Timestamp::from_second(1_700_000_100).unwrap();
        assert_eq!(unread_conditions(&after, "spec.area: invalid type", Some(2), later), after);
    }

    fn camera(stream: Value) -> Value {
        json!({
            "apiVersion": "toezicht.dev/v1alpha1", "kind": "Camera", "metadata": {"name": "hal"},
            "spec": {"siteRef": {"name": "pool"}, "area": "Hal", "visible": true, "stream": stream},
        })
    }

    #[test]
    fn problem_names_the_field_and_never_its_value() {
        let url = "rtsp://u:geheim@192.0.2.1/1";
        assert_eq!(problem::<Camera>(camera(json!({"url": url}))), None);
        for (stream, expected) in [
            (json!({"url": url, "transport": "geheim"}), "spec.stream.transport: unknown variant; "),
            (json!({"url": [url]}), "spec.stream.url: invalid type; "),
            (json!({}), "spec.stream: missing field; "),
        ] {
            let found = problem::<Camera>(camera(stream)).unwrap();
            assert!(found.starts_with(expected), "{found}");
            assert!(!found.contains("geheim"), "{found}");
        }
    }
}
