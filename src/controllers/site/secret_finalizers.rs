//! Secrets that a Site's holds need cannot be deleted away: without the operator's credentials no hold can be released, and
//! in a namespace that is being deleted nobody can make them again. They wait with the hold, by a finalizer of the Site's
//! own, so that Sites that share a Secret do not take each other's off.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};

use super::dereference::ObservedSite;
use super::recorders::names::FIELD_MANAGER;
use crate::api::Site;
use crate::controllers::kubernetes::error::ApiError;
use crate::controllers::kubernetes::meta::{ObservedMeta, patch_finalizers};
use crate::controllers::kubernetes::secret_ref::ReferencedSecret;

/// What the finalizer of a Site begins with; its name follows.
const SECRET_FINALIZER_PREFIX: &str = "toezicht.dev/holds-of-";

/// A Secret whose finalizers are to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FinalizerChange<'a> {
    name: &'a str,
    found: &'a ReferencedSecret,
    finalizers: Vec<String>,
}

/// Puts the finalizer on the Secrets that `site` needs to reach its bucket, while something may be kept for its holds, and
/// takes it off all others. Whether there is one to be taken off later.
pub async fn ensure_secret_finalizers(
    client: &Client,
    site: &Site,
    observed: &ObservedSite,
    is_held: bool,
) -> Result<bool, ApiError> {
    let secrets = Api::<Secret>::namespaced(client.clone(), &site.namespace().unwrap_or_default());
    for change in finalizer_changes(site, observed, is_held) {
        let seen = ObservedMeta {
            name: change.name,
            uid: change.found.finalizer_state.uid.as_deref(),
            resource_version: Some(&change.found.resource_version),
        };
        patch_finalizers(&secrets, seen, &change.finalizers, FIELD_MANAGER).await?;
    }
    Ok(is_held)
}

fn finalizer_changes<'a>(site: &Site, observed: &'a ObservedSite, is_held: bool) -> Vec<FinalizerChange<'a>> {
    let storage = &site.spec.storage;
    let authority = storage.ca_ref.as_ref().map(|reference| reference.name.as_str());
    let finalizer = format!("{SECRET_FINALIZER_PREFIX}{}", site.name_any());
    let change =
        |secrets: &'a BTreeMap<String, ReferencedSecret>, needed: Option<&str>| -> Vec<FinalizerChange<'a>> {
            let changes = secrets.iter().filter_map(|(name, found)| {
                let is_needed = is_held && needed == Some(name.as_str());
                let finalizers = desired_finalizers(found, &finalizer, is_needed)?;
                Some(FinalizerChange { name, found, finalizers })
            });
            changes.collect()
        };
    let operator = storage.operator.credentials_ref.as_ref().map(|secret| secret.name.as_str());
    let mut changes = change(&observed.store_secrets, operator);
    changes.extend(change(&observed.camera_secrets.ca_certificates, authority));
    changes
}

/// The finalizers of `found` with or without `finalizer`; `None`: they are so, or cannot be changed so.
fn desired_finalizers(found: &ReferencedSecret, finalizer: &str, is_needed: bool) -> Option<Vec<String>> {
    let keeping = &found.finalizer_state;
    let has = keeping.finalizers.iter().any(|name| name == finalizer);
    if has == is_needed || is_needed && keeping.is_deleting {
        return None;
    }
    let others = keeping.finalizers.iter().filter(|name| *name != finalizer);
    let new = is_needed.then(|| finalizer.to_owned());
    Some(others.cloned().chain(new).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::site::fixtures::{Fixture, fixture};

    fn finalizers(fixture: &mut Fixture, secret: &str) -> Vec<String> {
        let secrets = &mut fixture.observed.store_secrets;
        secrets.get_mut(secret).unwrap().finalizer_state.finalizers.clone()
    }

    /// Does what is to be done; which Secrets that was.
    fn apply_changes(fixture: &mut Fixture, is_held: bool) -> Vec<String> {
        let done: Vec<(String, Vec<String>)> = finalizer_changes(&fixture.site, &fixture.observed, is_held)
            .into_iter()
            .map(|change| (change.name.to_owned(), change.finalizers))
            .collect();
        for (name, finalizers) in &done {
            let secret = fixture.observed.store_secrets.get_mut(name).unwrap();
            secret.finalizer_state.finalizers.clone_from(finalizers);
        }
        done.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn operator_secret_has_finalizer_only_while_holds_exist() {
        let mut fixture = fixture();
        let secrets = &mut fixture.observed.store_secrets;
        let theirs = "example.nl/theirs".to_owned();
        let other = "toezicht.dev/holds-of-dillenburcht".to_owned();
        secrets.get_mut("s3-operator").unwrap().finalizer_state.finalizers =
            vec![theirs.clone(), other.clone()];
        assert!(apply_changes(&mut fixture, false).is_empty());
        assert_eq!(apply_changes(&mut fixture, true), ["s3-operator"]);
        let ours = "toezicht.dev/holds-of-zwembad".to_owned();
        assert_eq!(finalizers(&mut fixture, "s3-operator"), [theirs.clone(), other.clone(), ours.clone()]);
        assert!(apply_changes(&mut fixture, true).is_empty(), "once");

        // The Site is told to use another: that one stays, and the first may go.
        fixture.site.spec.storage.operator.credentials_ref =
            Some(crate::api::LocalRef { name: "s3-recorder".into() });
        let mut changed = apply_changes(&mut fixture, true);
        changed.sort();
        assert_eq!(changed, ["s3-operator", "s3-recorder"]);
        assert_eq!(finalizers(&mut fixture, "s3-operator"), [theirs, other]);
        assert_eq!(finalizers(&mut fixture, "s3-recorder"), [ours]);
        assert_eq!(apply_changes(&mut fixture, false), ["s3-recorder"]);
    }

    #[test]
    fn deleting_secret_can_lose_but_not_gain_finalizer() {
        let mut fixture = fixture();
        let secret = |fixture: &mut Fixture| {
            let secrets = &mut fixture.observed.store_secrets;
            secrets.get_mut("s3-operator").unwrap().finalizer_state.is_deleting = true;
        };
        secret(&mut fixture);
        assert!(apply_changes(&mut fixture, true).is_empty());
        let mut kept = crate::controllers::site::fixtures::fixture();
        apply_changes(&mut kept, true);
        secret(&mut kept);
        assert!(apply_changes(&mut kept, true).is_empty());
        assert_eq!(apply_changes(&mut kept, false), ["s3-operator"]);
    }

    #[test]
    fn secret_finalizer_is_a_valid_qualified_name() {
        let longest = "a".repeat(40);
        let name = format!("{SECRET_FINALIZER_PREFIX}{longest}");
        let (domain, name) = name.split_once('/').unwrap();
        assert_eq!(domain, "toezicht.dev");
        assert!(name.len() <= 63);
    }
}
