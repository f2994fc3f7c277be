//! Counts of requests to stores by operation and outcome. Each attempt counts.

use std::collections::BTreeMap;
use std::sync::Mutex;

use aws_sdk_s3::config::interceptors::FinalizerInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::Metadata;

use super::error::failure_label;

use crate::sync::lock;

/// Totals since the start of the process, as Prometheus expects.
static REQUEST_COUNTS: Mutex<BTreeMap<(String, &str), u64>> = Mutex::new(BTreeMap::new());

/// Returns the number of requests by S3 operation and outcome: `ok`, `denied`, `not_found`, `throttled`, `rejected`,
/// `server_error`, `no_answer`.
pub fn snapshot() -> BTreeMap<(String, &'static str), u64> {
    lock(&REQUEST_COUNTS).clone()
}

/// Counts the attempts of a client.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RequestCounter;

impl Intercept for RequestCounter {
    fn name(&self) -> &'static str {
        "RequestCounter"
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let operation = config.load::<Metadata>().map_or("", Metadata::name);
        let status = context.response().map(|response| response.status().as_u16());
        let outcome = if matches!(status, Some(..300)) { "ok" } else { failure_label(status) };
        let mut counts = lock(&REQUEST_COUNTS);
        *counts.entry((operation.to_owned(), outcome)).or_default() += 1;
        Ok(())
    }
}
