//! Recorders whose Site is gone, although its finalizer did not remove them: somebody removed the finalizer by
//! hand, or the custom resource definition by force while the operator ran.
//!
//! No Site controller reconciles them, so neither a withdrawal of consent nor a suspension nor the end of a policy would reach them. They
//! stop recording and upload what they have. Nothing is deleted: a spool may have segments that a hold covers. A later Site of the same
//! name takes them over, since [`ChildNames::owns`] does not ask for its UID.

use std::collections::BTreeMap;
use std::future::{pending, ready};
use std::sync::Arc;

use futures::stream::{BoxStream, select_all};
use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::runtime::events::Event;
use kube::{Api, ResourceExt};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::names::{ChildNames, FIELD_MANAGER, site_of_config, site_of_workload};
use super::objects;
use super::plan::closing_config;
use super::site_pods::{configured_pods, list_site_pods};
use super::workload::{is_recorder, read_config, touch_pods};
use crate::api::Site;
use crate::controllers::context::{Context, ControllerKind, ReconcileOutcome};
use crate::controllers::kubernetes::apply::{apply_over, get_owned};
use crate::controllers::kubernetes::error::ReconcileBackoff;
use crate::controllers::kubernetes::{ApiError, ApplyError, event};
use crate::failure::Failure;
use crate::wire::GapCause;

/// Namespace and name of a Site.
type SiteKey = (String, String);

/// Outcome of stopping recorders without a Site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// Their configuration already permits no recording.
    InEffect,
    /// Their configuration now permits no recording.
    Written,
    /// They have no readable configuration that could be changed. They follow the last one that they read.
    Impossible,
}

impl Stop {
    /// Returns the outcome that a person must know: that of an earlier attempt does not differ.
    fn reported(self) -> Self {
        if self == Self::Written { Self::InEffect } else { self }
    }
}

/// Recorders that are left of a Site, as the watch caches have them.
struct Children {
    workload: Option<Arc<StatefulSet>>,
    config: Option<Arc<Secret>>,
}

/// Returns the controller that stops recorders without a Site until `leader` is cancelled. Begin it when the caches of `context` are
/// complete.
pub fn controller(context: &Context, leader: CancellationToken) -> impl Future<Output = ()> + Send + use<> {
    let orphans =
        Orphans { context: context.clone(), reported: BTreeMap::new(), backoff: ReconcileBackoff::default() };
    // Here, so that the streams have the first lists.
    orphans.run(changes(context), leader)
}

/// Returns the keys of the Sites that changed, or whose recorders changed.
fn changes(context: &Context) -> impl Stream<Item = SiteKey> + Send + Unpin + use<> {
    let cache = &context.cache;
    let key = |namespace: Option<String>, site: Option<&str>| ready(namespace.zip(site.map(str::to_owned)));
    let streams: [BoxStream<'static, SiteKey>; 3] = [
        cache
            .sites
            .changes_of_spec()
            .filter_map(move |site| key(site.namespace(), Some(&site.name_any())))
            .boxed(),
        cache
            .recorder_configs
            .changes()
            .filter_map(move |secret| key(secret.namespace(), site_of_config(&secret.name_any())))
            .boxed(),
        cache
            .workloads
            .changes_of_spec()
            .filter_map(move |workload| key(workload.namespace(), site_of_workload(&workload.name_any())))
            .boxed(),
    ];
    select_all(streams)
}

struct Orphans {
    context: Context,
    /// Sites that are gone, and what was reported of their recorders.
    reported: BTreeMap<SiteKey, Option<Stop>>,
    backoff: ReconcileBackoff,
}

impl Orphans {
    async fn run(mut self, mut changes: impl Stream<Item = SiteKey> + Unpin, leader: CancellationToken) {
        let mut retries = BTreeMap::<SiteKey, Instant>::new();
        loop {
            let retry = retries.iter().min_by_key(|(_, at)| **at).map(|(key, at)| (key.clone(), *at));
            let key = tokio::select! {
                () = leader.cancelled() => break,
                Some(key) = changes.next() => key,
                key = next_retry(retry) => key,
            };
            retries.remove(&key);
            if let Some(at) = self.check(&key).await {
                retries.insert(key, at);
            }
        }
        for (namespace, site) in self.reported.keys() {
            self.context.telemetry.set_orphaned(namespace, site, false);
        }
    }

    /// Stops the recorders of a Site that is gone. Returns the time of the next attempt after a failure.
    async fn check(&mut self, key: &SiteKey) -> Option<Instant> {
        let (began, (namespace, site)) = (Instant::now(), key);
        let (outcome, retry_at) = match self.stop(key).await {
            Ok(is_changed) => {
                self.backoff.reset(&format!("{namespace}/{site}"));
                (is_changed.then_some(ReconcileOutcome::Changed), None)
            }
            Err(error) => {
                let delay = self.backoff.record_failure(&format!("{namespace}/{site}"));
                let (category, message) = (error.category(), error.to_string());
                tracing::warn!(namespace, site, category, message, "recorders without a Site may record on");
                (Some(ReconcileOutcome::Failed(category)), Some(Instant::now() + delay))
            }
        };
        if let Some(outcome) = outcome {
            let telemetry = &self.context.telemetry;
            telemetry.record_reconcile(ControllerKind::OrphanedRecorders, outcome, began.elapsed());
        }
        retry_at
    }

    /// Returns whether anything changed.
    async fn stop(&mut self, key: &SiteKey) -> Result<bool, ApplyError> {
        let (namespace, site) = key;
        let names = ChildNames::of_gone(namespace, site);
        let Some(children) = self.orphans(&names) else {
            self.forget(key);
            return Ok(false);
        };
        if exists(&self.context, &names).await? {
            self.forget(key);
            return Ok(false);
        }
        // Before the attempt: it may fail for a long time.
        self.context.telemetry.set_orphaned(namespace, site, true);
        let reported = self.reported.entry(key.clone()).or_default();
        let Some(stop) = stop_recorders(&self.context, &names).await? else {
            // The operator removed them, and their watches do not have that yet.
            self.forget(key);
            return Ok(false);
        };
        if reported.replace(stop.reported()) != Some(stop.reported()) {
            tracing::warn!(namespace, site, ?stop, "the Site is gone, but not its recorders");
            let gone = [gone_event(&names, stop)];
            match (&children.workload, &children.config) {
                (Some(workload), _) => event::publish(&self.context.events, &**workload, &gone).await,
                (None, Some(config)) => event::publish(&self.context.events, &**config, &gone).await,
                (None, None) => {}
            }
        }
        Ok(stop == Stop::Written)
    }

    /// Returns the recorders of a Site that the watch does not have; `None`: it has the Site, or there are none.
    fn orphans(&self, names: &ChildNames) -> Option<Children> {
        let cache = &self.context.cache;
        if cache.sites.get(&names.namespace, &names.site).is_some() {
            return None;
        }
        let workload = cache.workloads.get(&names.namespace, &names.recorder);
        let config = cache.recorder_configs.get(&names.namespace, &names.config);
        let workload = workload.filter(|workload| names.owns(&workload.metadata));
        let config = config.filter(|config| names.owns(&config.metadata));
        (workload.is_some() || config.is_some()).then_some(Children { workload, config })
    }

    /// Ends the report of a Site that exists again, or whose recorders are gone.
    fn forget(&mut self, key: &SiteKey) {
        if self.reported.remove(key).is_some() {
            self.context.telemetry.set_orphaned(&key.0, &key.1, false);
        }
    }
}

/// Whether the Site exists, even in a form that this version cannot deserialize. The watch may not have one that was just created.
async fn exists(context: &Context, names: &ChildNames) -> Result<bool, ApiError> {
    let sites = Api::<Site>::namespaced(context.client.clone(), &names.namespace);
    match sites.get_metadata_opt(&names.site).await.map_err(ApiError::from) {
        // The custom resource definition is gone too: the watch had all its Sites deleted.
        Err(error) if error.is_not_found() => Ok(false),
        found => found.map(|found| found.is_some()),
    }
}

/// Waits until the earliest retry is due.
async fn next_retry(retry: Option<(SiteKey, Instant)>) -> SiteKey {
    match retry {
        Some((key, at)) => {
            sleep_until(at).await;
            key
        }
        None => pending().await,
    }
}

/// Ends every permitted window in the configuration of recorders whose Site is gone. `None`: there are no recorders.
async fn stop_recorders(context: &Context, names: &ChildNames) -> Result<Option<Stop>, ApplyError> {
    let client = &context.client;
    let secrets = Api::<Secret>::namespaced(client.clone(), &names.namespace);
    let live = match get_owned(&secrets, &names.config, |live| names.owns(live)).await {
        Err(ApplyError::ForeignObject { .. }) => None,
        live => live?,
    };
    let Some(config) = live.as_ref().and_then(read_config) else {
        let workloads = Api::<StatefulSet>::namespaced(client.clone(), &names.namespace);
        let workload = workloads.get_metadata_opt(&names.recorder).await.map_err(ApiError::from)?;
        return Ok(workload.filter(|workload| names.owns(&workload.metadata)).map(|_| Stop::Impossible));
    };
    // Not without cameras: recorders would forget their gaps. The holds stay, so that uploads are sealed.
    let closed = closing_config(&config, Some(&config), GapCause::SiteNotReady);
    let is_written = closed != config;
    if is_written {
        let secret = objects::config_secret(names, &closed);
        // Over the Secret that was read: one that is deleted meanwhile must not come back.
        apply_over(&secrets, &context.cache.recorder_configs, FIELD_MANAGER, secret, live).await?;
    }
    let pods = Api::<Pod>::namespaced(client.clone(), &names.namespace);
    let mut recorders = list_site_pods(context, names, configured_pods(Some(&closed))).await?;
    recorders.retain(|pod| is_recorder(pod, names));
    touch_pods(&pods, &recorders, &closed.revision).await?;
    Ok(Some(if is_written { Stop::Written } else { Stop::InEffect }))
}

/// Returns the warning about recorders whose Site is gone.
fn gone_event(names: &ChildNames, stop: Stop) -> Event {
    let ChildNames { site, recorder, config, .. } = names;
    let state = match stop {
        Stop::InEffect | Stop::Written => "they stop recording, and upload what they have".to_owned(),
        Stop::Impossible => format!(
            "the Secret {config} is gone, unreadable or another party's, so nothing can stop them: they record by their last configuration"
        ),
    };
    let note = format!(
        "the Site {site} is gone, but its recorders are not: {state}; create the Site again with the same name, and it takes them over; or \
         delete the StatefulSet {recorder} and the Secret {config} once the spools are empty (metric toezicht_recorder_spool_segments)"
    );
    event::warning("SiteGone", "StopRecording", &note)
}

#[cfg(test)]
mod tests;
