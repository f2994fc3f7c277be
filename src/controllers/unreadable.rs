//! Objects that this version cannot deserialize. They must not stop the others, and people must learn which field is the cause.

use kube::api::ApiResource;
use kube::core::{DeserializeGuard, DynamicObject};
use kube::{Api, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing::warn;

use super::context::Context;
use super::kubernetes::cached::Cacheable;
use super::kubernetes::{ApiError, event, meta};

/// Names the field that this version cannot read, in the log and in an event.
pub async fn report<K: Cacheable>(context: &Context, object: &DeserializeGuard<K>) {
    let (kind, key) = (K::kind(&()), meta::namespaced_name(object));
    match fetch_problem::<K>(context, object).await {
        Ok(Some(problem)) => {
            warn!(%kind, object = key, problem, "an object cannot be read");
            event::publish(&context.events, object, &[event::warning("Unreadable", "Read", &problem)]).await;
        }
        // It was deleted, or corrected: then the watch reports it again.
        Ok(None) => {}
        Err(error) => warn!(%kind, object = key, %error, "an object cannot be read"),
    }
}

async fn fetch_problem<K: Cacheable>(
    context: &Context,
    object: &DeserializeGuard<K>,
) -> Result<Option<String>, ApiError> {
    let (namespace, kind) = (object.namespace().unwrap_or_default(), ApiResource::erase::<K>(&()));
    let api = Api::<DynamicObject>::namespaced_with(context.client.clone(), &namespace, &kind);
    let found = api.get_opt(&object.name_any()).await?;
    Ok(found.and_then(|found| problem::<K>(serde_json::to_value(found).ok()?)))
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
    use serde_json::json;

    use super::*;
    use crate::api::Camera;

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
