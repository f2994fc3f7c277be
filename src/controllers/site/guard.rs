//! Secrets that a Site's holds need cannot be deleted away: without the operator's credentials no hold can be released, and
//! in a namespace that is being deleted nobody can make them again. They wait with the hold, by a finalizer of the Site's
//! own, so that Sites that share a Secret do not take each other's off.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};

use super::dereference::Dereferenced;
use super::names::MANAGER;
use crate::api::Site;
use crate::controllers::kit::error::ApiError;
use crate::controllers::kit::meta::{Seen, patch_finalizers};
use crate::controllers::kit::reference::Found;

/// What the finalizer of a Site begins with; its name follows.
const FINALIZER: &str = "toezicht.dev/holds-of-";

/// A Secret whose finalizers are to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change<'a> {
    name: &'a str,
    found: &'a Found,
    finalizers: Vec<String>,
}

/// Puts the finalizer on the Secrets that `site` needs to reach its bucket, while something may be kept for its holds, and
/// takes it off all others. Whether there is one to be taken off later.
pub async fn guard(
    client: &Client,
    site: &Site,
    found: &Dereferenced,
    is_held: bool,
) -> Result<bool, ApiError> {
    let secrets = Api::<Secret>::namespaced(client.clone(), &site.namespace().unwrap_or_default());
    for change in changes(site, found, is_held) {
        let seen = Seen {
            name: change.name,
            uid: change.found.keeping.uid.as_deref(),
            version: Some(&change.found.version),
        };
        patch_finalizers(&secrets, seen, &change.finalizers, MANAGER).await?;
    }
    Ok(is_held)
}

fn changes<'a>(site: &Site, found: &'a Dereferenced, is_held: bool) -> Vec<Change<'a>> {
    let storage = &site.spec.storage;
    let authority = storage.ca_ref.as_ref().map(|reference| reference.name.as_str());
    let finalizer = format!("{FINALIZER}{}", site.name_any());
    let change = |secrets: &'a BTreeMap<String, Found>, needed: Option<&str>| -> Vec<Change<'a>> {
        let changes = secrets.iter().filter_map(|(name, found)| {
            let is_needed = is_held && needed == Some(name.as_str());
            let finalizers = changed(found, &finalizer, is_needed)?;
            Some(Change { name, found, finalizers })
        });
        changes.collect()
    };
    let operator = storage.operator.credentials_ref.as_ref().map(|secret| secret.name.as_str());
    let mut changes = change(&found.store_secrets, operator);
    changes.extend(change(&found.camera_secrets.authorities, authority));
    changes
}

/// The finalizers of `found` with or without `finalizer`; `None`: they are so, or cannot be changed so.
fn changed(found: &Found, finalizer: &str, is_needed: bool) -> Option<Vec<String>> {
    let keeping = &found.keeping;
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
        let secrets = &mut fixture.found.store_secrets;
        secrets.get_mut(secret).unwrap().keeping.finalizers.clone()
    }

    /// Does what is to be done; which Secrets that was.
    fn guarded(fixture: &mut Fixture, is_held: bool) -> Vec<String> {
        let done: Vec<(String, Vec<String>)> = changes(&fixture.site, &fixture.found, is_held)
            .into_iter()
            .map(|change| (change.name.to_owned(), change.finalizers))
            .collect();
        for (name, finalizers) in &done {
            let secret = fixture.found.store_secrets.get_mut(name).unwrap();
            secret.keeping.finalizers.clone_from(finalizers);
        }
        done.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn the_operators_secret_stays_while_something_is_held_and_no_longer() {
        let mut fixture = fixture();
        let secrets = &mut fixture.found.store_secrets;
        let theirs = "example.nl/theirs".to_owned();
        let other = "toezicht.dev/holds-of-dillenburcht".to_owned();
        secrets.get_mut("s3-operator").unwrap().keeping.finalizers = vec![theirs.clone(), other.clone()];
        assert!(guarded(&mut fixture, false).is_empty());
        assert_eq!(guarded(&mut fixture, true), ["s3-operator"]);
        let ours = "toezicht.dev/holds-of-zwembad".to_owned();
        assert_eq!(finalizers(&mut fixture, "s3-operator"), [theirs.clone(), other.clone(), ours.clone()]);
        assert!(guarded(&mut fixture, true).is_empty(), "once");

        // The Site is told to use another: that one stays, and the first may go.
        fixture.site.spec.storage.operator.credentials_ref =
            Some(crate::api::LocalRef { name: "s3-recorder".into() });
        let mut changed = guarded(&mut fixture, true);
        changed.sort();
        assert_eq!(changed, ["s3-operator", "s3-recorder"]);
        assert_eq!(finalizers(&mut fixture, "s3-operator"), [theirs, other]);
        assert_eq!(finalizers(&mut fixture, "s3-recorder"), [ours]);
        assert_eq!(guarded(&mut fixture, false), ["s3-recorder"]);
    }

    #[test]
    fn one_that_is_going_can_be_let_go_and_not_be_kept() {
        let mut fixture = fixture();
        let secret = |fixture: &mut Fixture| {
            let secrets = &mut fixture.found.store_secrets;
            secrets.get_mut("s3-operator").unwrap().keeping.is_deleting = true;
        };
        secret(&mut fixture);
        assert!(guarded(&mut fixture, true).is_empty());
        let mut kept = super::super::fixtures::fixture();
        guarded(&mut kept, true);
        secret(&mut kept);
        assert!(guarded(&mut kept, true).is_empty());
        assert_eq!(guarded(&mut kept, false), ["s3-operator"]);
    }

    #[test]
    fn the_finalizer_is_a_name_that_the_api_server_takes() {
        let longest = "a".repeat(40);
        let name = format!("{FINALIZER}{longest}");
        let (domain, name) = name.split_once('/').unwrap();
        assert_eq!(domain, "toezicht.dev");
        assert!(name.len() <= 63);
    }
}
