//! Step one: fetches the objects that a camera depends on. One snapshot of a site serves all its cameras.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::api::{RecordingPolicy, SECRET_TYPE_CA, SECRET_TYPE_CAMERA, Site};
use crate::controllers::camera_source::CameraSecrets;
use crate::controllers::kubernetes::{ApiError, secret_ref};
use crate::controllers::runner::fetch;
use crate::controllers::site::recorders::names::{ChildNames, RECORDER_SELECTOR, SITE_LABEL};
use crate::controllers::site::recorders::workload::fetch_recorder_config;
use crate::controllers::slots::Slots;
use crate::wire::RecorderConfig;

/// Age up to which a snapshot is used. The next reconcile, some seconds later, sees newer changes.
const SNAPSHOT_MAX_AGE: Duration = Duration::from_secs(1);

/// A site and its objects. `None`: the object does not exist or cannot be deserialized.
#[derive(Clone, Debug, Default)]
pub struct SiteSnapshot {
    pub site: Option<Site>,
    pub policy: Option<RecordingPolicy>,
    /// Secrets that cameras of the namespace may name.
    pub secrets: CameraSecrets,
    /// Current configuration of the recorders.
    pub config: Option<RecorderConfig>,
    pub pods: Vec<Pod>,
}

/// Snapshots of sites, each at most [`SNAPSHOT_MAX_AGE`] old.
pub struct SiteSnapshots(Slots<(String, String), Arc<SiteSnapshot>>);

impl Default for SiteSnapshots {
    fn default() -> Self {
        Self(Slots::new(SNAPSHOT_MAX_AGE))
    }
}

impl SiteSnapshots {
    /// Returns the snapshot of `site`, and whether this call fetched it.
    pub async fn get(
        &self,
        client: &Client,
        namespace: &str,
        site: &str,
    ) -> Result<(Arc<SiteSnapshot>, bool), ApiError> {
        let fetch = async { fetch_snapshot(client, namespace, site).await.map(Arc::new) };
        self.0.get_or_fetch((namespace.to_owned(), site.to_owned()), |_| true, fetch).await
    }
}

async fn fetch_snapshot(client: &Client, namespace: &str, name: &str) -> Result<SiteSnapshot, ApiError> {
    let secrets = |type_| secret_ref::fetch_all(client, namespace, type_);
    let (site, logins, ca_certificates) = tokio::try_join!(
        fetch::<Site>(client, namespace, name),
        secrets(SECRET_TYPE_CAMERA),
        secrets(SECRET_TYPE_CA)
    )?;
    let secrets = CameraSecrets { logins, ca_certificates };
    let Some(site) = site else {
        return Ok(SiteSnapshot { secrets, ..SiteSnapshot::default() });
    };
    let names = ChildNames::of(&site);
    let (policy, config, pods) = tokio::try_join!(
        fetch::<RecordingPolicy>(client, namespace, &site.spec.policy_ref.name),
        fetch_recorder_config(Api::namespaced(client.clone(), namespace), &names),
        list_recorder_pods(Api::namespaced(client.clone(), namespace), name),
    )?;
    Ok(SiteSnapshot { site: Some(site), policy, secrets, config, pods })
}

async fn list_recorder_pods(api: Api<Pod>, site: &str) -> Result<Vec<Pod>, ApiError> {
    let recorders = ListParams::default().labels(&format!("{RECORDER_SELECTOR},{SITE_LABEL}={site}"));
    Ok(api.list(&recorders).await?.items)
}
