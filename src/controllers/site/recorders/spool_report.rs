//! Content of spools that are to be removed, and the report of its loss.
//!
//! A loss is reported before the first request that causes it. Afterwards, an error or a stop in between would drop the report: the next
//! reconcile finds the spool given up or gone. It may be reported twice.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::events::Event;

use crate::api::Site;
use crate::controllers::context::Context;
use crate::controllers::kubernetes::event;
use crate::storage::recordings::ledger::SpoolDiscard;

/// Reason why people give up the content of spools that cannot be drained. It ends up in an event and in the ledger.
pub const DISCARD_SPOOLS_ANNOTATION: &str = "toezicht.dev/discard-spools";
/// Longest reason that is reported.
const MAX_REASON_CHARS: usize = 256;

/// Content of spools that are to be removed, as far as their recorders prove it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpoolReport {
    /// Segments that the recorders report.
    pub segments: u64,
    /// Recorders that report content or have not proved that there is none, by their pods.
    pub filled: Vec<String>,
    /// Recorders whose spools are empty and whose uploads may still arrive, by their pods. Such a segment was evicted after its upload
    /// got no answer. In the bucket, it may lack the protection of a hold.
    pub in_doubt: Vec<String>,
    /// Recorders that do not answer, by their pods, with the reason. Their spools may have content.
    pub unknown: BTreeMap<String, String>,
}

impl SpoolReport {
    pub fn is_empty(&self) -> bool {
        self.filled.is_empty() && self.in_doubt.is_empty() && self.unknown.is_empty()
    }

    /// Returns the pods of all these spools.
    pub fn pods(&self) -> impl Iterator<Item = &String> {
        self.filled.iter().chain(&self.in_doubt).chain(self.unknown.keys())
    }

    /// Returns the part that is lost with the recorders.
    pub fn lost(&self) -> Self {
        Self { in_doubt: Vec::new(), ..self.clone() }
    }

    /// Adds the spools of another report.
    pub fn extend(&mut self, other: Self) {
        self.segments = self.segments.saturating_add(other.segments);
        self.unknown.extend(other.unknown);
        let is_new = |pod: &String| {
            let known = [&self.filled, &self.in_doubt];
            !known.iter().any(|pods| pods.contains(pod)) && !self.unknown.contains_key(pod)
        };
        let new = |pods: Vec<String>| pods.into_iter().filter(is_new).collect::<Vec<_>>();
        let (filled, in_doubt) = (new(other.filled), new(other.in_doubt));
        self.filled.extend(filled);
        self.in_doubt.extend(in_doubt);
    }

    /// Describes the wait for these spools, with the remedy.
    pub fn message(&self) -> String {
        format!(
            "{self}; if this lasts, check StorageEnforced and the pods, or give up these recordings with the annotation \
             {DISCARD_SPOOLS_ANNOTATION} on the Site, whose value is the reason"
        )
    }
}

impl fmt::Display for SpoolReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filled = self.filled.join(", ");
        let filled = match self.segments {
            0 => format!("the spools of {filled} are not proved empty"),
            segments => format!("{segments} segments in the spools of {filled} are not uploaded"),
        };
        let filled = (!self.filled.is_empty()).then_some(filled);
        let in_doubt = (!self.in_doubt.is_empty()).then(|| {
            format!("uploads of {} may still arrive, for at most 31 minutes", self.in_doubt.join(", "))
        });
        let unknown = self.unknown.iter().map(|(pod, why)| format!("the content of {pod} is unknown: {why}"));
        f.write_str(&filled.into_iter().chain(in_doubt).chain(unknown).collect::<Vec<_>>().join("; "))
    }
}

/// Returns the reason for which people give up spools; `None`: they do not.
pub fn discard_reason(site: &Site) -> Option<String> {
    let reason = site.annotations().get(DISCARD_SPOOLS_ANNOTATION)?.trim();
    (!reason.is_empty()).then(|| reason.chars().take(MAX_REASON_CHARS).collect())
}

/// Describes the annotation that gives up spools, as long as it is set; `None`: it is not.
pub fn describe_discard(site: &Site) -> Option<String> {
    let reason = discard_reason(site)?;
    Some(format!(
        "the annotation {DISCARD_SPOOLS_ANNOTATION} is set ({reason}): recorders that are removed or replaced lose the segments \
         that they have not uploaded; remove the annotation once they are gone"
    ))
}

/// Publishes the loss of what these spools have, and keeps it for the ledger if a person gave it up.
pub async fn report_loss(context: &Context, site: &Site, spools: &SpoolReport, now: Timestamp) {
    let (lost, reason) = (spools.lost(), discard_reason(site));
    let why = match &reason {
        Some(reason) => format!("given up by the annotation {DISCARD_SPOOLS_ANNOTATION}: {reason}"),
        None => "not drained within ten minutes".to_owned(),
    };
    publish_loss(context, site, &lost, &why).await;
    if let Some(reason) = reason {
        keep_for_ledger(context, site, &lost, reason, now);
    }
}

/// Publishes that the StatefulSet of these spools is gone, and keeps it for the ledger: somebody else deleted it.
pub async fn report_deleted_workload(context: &Context, site: &Site, lost: &SpoolReport, now: Timestamp) {
    let reason = "another party deleted the StatefulSet of the deleted Site";
    publish_loss(context, site, lost, reason).await;
    keep_for_ledger(context, site, lost, reason.to_owned(), now);
}

async fn publish_loss(context: &Context, site: &Site, lost: &SpoolReport, why: &str) {
    event::publish(&context.events, site, &recordings_lost_event(lost, why)).await;
}

fn keep_for_ledger(context: &Context, site: &Site, lost: &SpoolReport, reason: String, now: Timestamp) {
    if lost.is_empty() {
        return;
    }
    context.discards.add(SpoolDiscard {
        namespace: site.namespace().unwrap_or_default(),
        site: site.name_any(),
        uid: site.uid().unwrap_or_default(),
        time: Timestamp::from_second(now.as_second()).unwrap_or(now),
        reason,
        spools: lost.to_string(),
    });
}

/// Returns an event if the spools were not proved empty.
fn recordings_lost_event(lost: &SpoolReport, why: &str) -> Vec<Event> {
    if lost.is_empty() {
        return Vec::new();
    }
    let note = format!("recorders are removed with their spools, {why}: {lost}");
    vec![event::warning("RecordingsLost", "Delete", &note)]
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use kube::Client;
    use serde_json::json;

    use super::*;
    use crate::controllers::site::fixtures::context;
    use crate::controllers::site::recorders::delete::delete;
    use crate::controllers::site::recorders::names::ChildNames;
    use crate::controllers::site::recorders::site_holds::SiteHolds;
    use crate::controllers::testing;

    /// Answers as an API server without recorders and with one claim of them, which accepts no change. Notes the requests.
    fn api_server(names: &ChildNames, requests: &Arc<Mutex<Vec<String>>>) -> Client {
        let (claim, labels, requests) = (names.claim(0), names.labels(), Arc::clone(requests));
        testing::api_server(move |method, uri, _| {
            let path = uri.path();
            requests.lock().unwrap().push(format!("{method} {path}"));
            match (method, path.rsplit('/').next().unwrap()) {
                ("GET", "pods") => testing::list_response(&[]),
                ("GET", "persistentvolumeclaims") => testing::list_response(&[json!({
                    "metadata": {"name": claim, "labels": labels, "uid": "u", "resourceVersion": "7", "finalizers": ["toezicht.dev/spool"]},
                    "spec": {"volumeName": "pv"},
                })]),
                ("GET", _) => testing::error_response(404, &json!({})),
                _ => testing::error_response(409, &json!({})),
            }
        })
    }

    /// Two claims, of which the second changed meanwhile, or a stop: the next reconcile finds the first given up, and reports nothing.
    #[tokio::test]
    async fn loss_is_reported_before_the_claim_is_given_up() {
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        let mut site = testing::site();
        site.metadata.deletion_timestamp = Some(Time(now));
        let reason = [(DISCARD_SPOOLS_ANNOTATION.to_owned(), "the disk burned".to_owned())];
        site.metadata.annotations = Some(reason.into());
        let requests = Arc::default();
        let context = context(api_server(&ChildNames::of(&site), &requests));
        let failed = delete(&context, &site, true, &SiteHolds::default(), now).await;
        assert!(failed.is_err(), "{failed:?}");
        let requests = requests.lock().unwrap();
        let find = |method: &str, part: &str| {
            requests.iter().position(|request| request.starts_with(method) && request.contains(part))
        };
        let (reported, given_up) = (find("POST", "/events"), find("PATCH", "/persistentvolumeclaims/"));
        assert!(reported.is_some() && reported < given_up, "{requests:?}");
        let discard = context.discards.next("uid-of-site").expect("an entry for the ledger");
        assert_eq!(discard.reason, "the disk burned");
        assert!(discard.spools.contains("zwembad-recorder-0"), "{}", discard.spools);
    }

    #[test]
    fn empty_spool_with_uploads_in_doubt_is_not_reported_as_lost() {
        let mut report = SpoolReport { in_doubt: vec!["r-0".into()], ..SpoolReport::default() };
        assert!(!report.is_empty(), "{report}");
        assert!(recordings_lost_event(&report.lost(), "why").is_empty());
        report.extend(SpoolReport { filled: vec!["r-0".into(), "r-1".into()], ..SpoolReport::default() });
        assert_eq!(report.filled, ["r-1"], "each pod once");
        let events = recordings_lost_event(&report.lost(), "why");
        assert_eq!(events.len(), 1);
        assert!(!events[0].note.as_ref().unwrap().contains("r-0"));
    }
}
