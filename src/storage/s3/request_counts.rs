//! Requests to stores, counted by operation and by what came of them: each attempt, whoever retries.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::FinalizerInterceptorContextRef;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

/// Of this process, since it began: what Prometheus asks for.
static REQUEST_COUNTS: Mutex<BTreeMap<(String, &str), u64>> = Mutex::new(BTreeMap::new());

/// How many requests there were, by S3 operation and outcome: `ok`, `denied`, `not_found`, `throttled`, `rejected`, `server_error`,
/// `no_answer`.
pub fn snapshot() -> BTreeMap<(String, &'static str), u64> {
    REQUEST_COUNTS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Counts the attempts of the client that it is given to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RequestCounter;

impl Intercept for RequestCounter {
    fn name(&self) -> &'static str {
        "Counted"
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let operation = config.load::<Metadata>().map_or("", Metadata::name);
        let status = context.response().map(|response| response.status().as_u16());
        let mut counts = REQUEST_COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((operation.to_owned(), outcome_label(status))).or_default() += 1;
        Ok(())
    }
}

fn outcome_label(status: Option<u16>) -> &'static str {
    match status {
        None => "no_answer",
        Some(..300) => "ok",
        Some(403) => "denied",
        Some(404) => "not_found",
        Some(429 | 503) => "throttled",
        Some(500..) => "server_error",
        Some(_) => "rejected",
    }
}
