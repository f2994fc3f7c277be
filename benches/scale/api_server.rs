//! Requests that the API server counted.

use std::collections::BTreeMap;

use kube::Client;

/// Resources that the operator reads or writes. Others belong to the API server itself.
const RESOURCES: [&str; 10] = [
    "recordingpolicies",
    "sites",
    "cameras",
    "incidentholds",
    "statefulsets",
    "services",
    "serviceaccounts",
    "secrets",
    "pods",
    "events",
];

/// Number of requests by verb and resource.
#[derive(Clone, Debug, Default)]
pub struct RequestCounts(BTreeMap<String, u64>);

impl RequestCounts {
    /// Returns the counts since the API server started.
    pub async fn read(client: &Client) -> Self {
        let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
        let text = client.request_text(request).await.unwrap();
        let mut counts = BTreeMap::new();
        for line in text.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
            let (labels, number) = line.rsplit_once("} ").unwrap();
            let label = |name: &str| {
                let rest = labels.split_once(&format!("{name}=\"")).map_or("", |(_, rest)| rest);
                rest.split_once('"').map_or("", |(value, _)| value)
            };
            let (resource, subresource) = (label(",resource"), label("subresource"));
            if RESOURCES.contains(&resource) {
                let slash = if subresource.is_empty() { "" } else { "/" };
                let key = format!("{} {resource}{slash}{subresource}", label("verb"));
                let number: f64 = number.parse().unwrap();
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let number = number as u64;
                *counts.entry(key).or_default() += number;
            }
        }
        Self(counts)
    }

    /// Returns the requests since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let new = self
            .0
            .iter()
            .map(|(key, number)| (key.clone(), number - earlier.0.get(key).copied().unwrap_or_default()));
        Self(new.filter(|(_, number)| *number > 0).collect())
    }

    /// Returns the requests for other resources than this one.
    pub fn without(mut self, resource: &str) -> Self {
        self.0.retain(|key, _| !key.ends_with(&format!(" {resource}")));
        self
    }

    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Returns the most frequent requests, such as `10000 PATCH cameras/status`.
    pub fn describe(&self) -> String {
        let mut all: Vec<(&String, &u64)> = self.0.iter().collect();
        all.sort_by(|one, other| other.1.cmp(one.1));
        let all: Vec<String> = all.iter().take(12).map(|(key, number)| format!("{number} {key}")).collect();
        all.join(", ")
    }
}
