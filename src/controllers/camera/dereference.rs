//! Step one: the objects that a camera depends on. One snapshot of a site serves all its cameras.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::api::{Ceilings, Site};
use crate::controllers::camera_source::CameraSecrets;
use crate::controllers::kubernetes::secret_ref;
use crate::controllers::runner::{get, readable};
use crate::controllers::site::recorders::names::ChildNames;
use crate::controllers::site::recorders::workload::own_recorder_config;
use crate::controllers::site_policies::{SitePolicies, site_policies};
use crate::controllers::slots::Slots;
use crate::controllers::watch_cache::WatchCache;
use crate::wire::RecorderConfig;

/// Age up to which a snapshot is used. The next reconcile, some seconds later, sees newer changes.
const SNAPSHOT_MAX_AGE: Duration = Duration::from_secs(1);

/// A site and its objects. `None`: the object does not exist or cannot be deserialized.
#[derive(Clone, Debug, Default)]
pub struct SiteSnapshot {
    pub site: Option<Site>,
    pub policies: SitePolicies,
    /// Secrets that the cameras of the site name.
    pub secrets: CameraSecrets,
    /// Current configuration of the recorders.
    pub config: Option<RecorderConfig>,
    pub pods: Vec<Arc<Pod>>,
}

/// Snapshots of sites, each at most [`SNAPSHOT_MAX_AGE`] old.
pub struct SiteSnapshots(Slots<(String, String), Arc<SiteSnapshot>>);

impl Default for SiteSnapshots {
    fn default() -> Self {
        Self(Slots::new(SNAPSHOT_MAX_AGE, SNAPSHOT_MAX_AGE))
    }
}

impl SiteSnapshots {
    /// Returns the snapshot of `site` at `now`, and whether this call made it. `cluster`: the cluster's ceilings.
    pub async fn get(
        &self,
        cache: &WatchCache,
        namespace: &str,
        site: &str,
        cluster: &Ceilings,
        now: Timestamp,
    ) -> (Arc<SiteSnapshot>, bool) {
        let fetch = async |_| Ok::<_, Infallible>(Arc::new(snapshot(cache, namespace, site, cluster, now)));
        let Ok(found) = self.0.get_or_fetch((namespace.to_owned(), site.to_owned()), |_| true, fetch).await;
        found
    }
}

fn snapshot(
    cache: &WatchCache,
    namespace: &str,
    name: &str,
    cluster: &Ceilings,
    now: Timestamp,
) -> SiteSnapshot {
    let cameras = cache.cameras.of_site(namespace, name);
    let streams = || readable(&cameras).map(|camera| &camera.spec.stream);
    let logins = streams().filter_map(|stream| stream.credentials_ref.as_ref());
    let authorities = streams().filter_map(|stream| stream.ca_ref.as_ref());
    let secrets = CameraSecrets {
        logins: secret_ref::select(&cache.camera_secrets, namespace, logins, |_| false),
        ca_certificates: secret_ref::select(&cache.ca_secrets, namespace, authorities, |_| false),
    };
    let Some(site) = get(&cache.sites, namespace, name) else {
        return SiteSnapshot { secrets, ..SiteSnapshot::default() };
    };
    let names = ChildNames::of(&site);
    let policies = site_policies(cache, &site, cluster, now);
    let config = own_recorder_config(cache, &names);
    let pods = cache.pods.of_site(namespace, name);
    SiteSnapshot { site: Some(site), policies, secrets, config, pods }
}
