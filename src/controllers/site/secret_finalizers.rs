//! Finalizers on the Secrets that a Site needs to release its holds.
//!
//! Without the operator's credentials nobody can release a hold, and in a namespace that is being deleted nobody can create
//! them again. Each Site has a finalizer of its own, so that Sites that share a Secret do not remove each other's.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};

use super::dereference::ObservedSite;
use super::recorders::names::{FIELD_MANAGER, secret_finalizer};
use crate::api::Site;
use crate::controllers::context::Context;
use crate::controllers::kubernetes::ApiError;
use crate::controllers::kubernetes::meta::{ObservedMeta, patch_finalizers};
use crate::controllers::kubernetes::secret_ref::ReferencedSecret;

/// Secret with other finalizers than it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FinalizerChange<'a> {
    name: &'a str,
    secret: &'a ReferencedSecret,
    finalizers: Vec<String>,
}

/// Adds the finalizer to the Secrets that `site` needs for its bucket while `is_held`, and removes it from all others.
pub async fn ensure_secret_finalizers(
    context: &Context,
    site: &Site,
    observed: &ObservedSite,
    is_held: bool,
) -> Result<(), ApiError> {
    let namespace = site.namespace().unwrap_or_default();
    let Context { client, cache, .. } = context;
    let secrets = Api::<Secret>::namespaced(client.clone(), &namespace);
    for FinalizerChange { name, secret, finalizers } in finalizer_changes(site, observed, is_held) {
        let is_of_store = observed.store_secrets.contains_key(name);
        let cached = if is_of_store { &cache.store_secrets } else { &cache.ca_secrets };
        if !cached.has_own_changes(&namespace, name) {
            // The watch reports the last change soon. Until then the server would reject this one.
            continue;
        }
        let observed = ObservedMeta {
            name,
            uid: secret.finalizer_state.uid.as_deref(),
            resource_version: Some(&secret.resource_version),
        };
        if let Some(written) = patch_finalizers(&secrets, observed, &finalizers, FIELD_MANAGER).await? {
            cached.note_written(&written);
        }
    }
    Ok(())
}

fn finalizer_changes<'a>(site: &Site, observed: &'a ObservedSite, is_held: bool) -> Vec<FinalizerChange<'a>> {
    let storage = &site.spec.storage;
    let finalizer = secret_finalizer(site);
    let changes = |secrets: &'a BTreeMap<String, ReferencedSecret>, needed: Option<&str>| {
        let change = |(name, secret): (&'a String, &'a ReferencedSecret)| {
            let is_needed = is_held && needed == Some(name.as_str());
            let finalizers = desired_finalizers(secret, &finalizer, is_needed)?;
            Some(FinalizerChange { name, secret, finalizers })
        };
        secrets.iter().filter_map(change).collect::<Vec<_>>()
    };
    let operator = storage.operator.credentials_ref.as_ref().map(|reference| reference.name.as_str());
    let authority = storage.ca_ref.as_ref().map(|reference| reference.name.as_str());
    let mut all = changes(&observed.store_secrets, operator);
    all.extend(changes(&observed.camera_secrets.ca_certificates, authority));
    all
}

/// Returns the finalizers of `secret` with or without `finalizer`; `None`: it has them, or cannot get them any more.
fn desired_finalizers(secret: &ReferencedSecret, finalizer: &str, is_needed: bool) -> Option<Vec<String>> {
    let state = &secret.finalizer_state;
    let has = state.finalizers.iter().any(|name| name == finalizer);
    // The server rejects a new finalizer on an object that is being deleted.
    if has == is_needed || is_needed && state.is_deleting {
        return None;
    }
    let others = state.finalizers.iter().filter(|name| *name != finalizer);
    let new = is_needed.then(|| finalizer.to_owned());
    Some(others.cloned().chain(new).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::site::fixtures::{Fixture, fixture};
    use crate::controllers::testing;

    fn finalizers(fixture: &mut Fixture, secret: &str) -> Vec<String> {
        let secrets = &mut fixture.observed.store_secrets;
        secrets.get_mut(secret).unwrap().finalizer_state.finalizers.clone()
    }

    /// Applies the changes to the fixture. Returns the names of the changed Secrets.
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
        assert!(apply_changes(&mut fixture, true).is_empty(), "nothing is left to change");

        // The Site uses another Secret: the finalizer moves.
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
        let delete = |fixture: &mut Fixture| {
            let secrets = &mut fixture.observed.store_secrets;
            secrets.get_mut("s3-operator").unwrap().finalizer_state.is_deleting = true;
        };
        let (mut without, mut with) = (fixture(), fixture());
        delete(&mut without);
        assert!(apply_changes(&mut without, true).is_empty());
        apply_changes(&mut with, true);
        delete(&mut with);
        assert!(apply_changes(&mut with, true).is_empty());
        assert_eq!(apply_changes(&mut with, false), ["s3-operator"]);
    }

    #[test]
    fn secret_finalizer_is_a_valid_qualified_name() {
        let longest = "a".repeat(40);
        let mut site = testing::site();
        site.metadata.name = Some(longest);
        let name = secret_finalizer(&site);
        let (domain, name) = name.split_once('/').unwrap();
        assert_eq!(domain, "toezicht.dev");
        assert!(name.len() <= 63);
    }
}
