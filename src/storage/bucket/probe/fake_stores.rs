//! Servers with the faults of a bad store, which the table must show. Each is a real HTTP server.

use tokio_util::sync::CancellationToken;

use super::memory_store::MemoryStore;
use super::request::{ProbeError, ProbeRequest};
use super::standalone::ProbeReport;
use super::*;
use crate::storage::s3::BucketConnection;
use crate::storage::s3::stub::{ReceivedRequest, Stub, error_answer};

async fn table_with_policy(
    connection: &BucketConnection,
    policy: Result<ExistingPolicy<'_>, &UnknownReason>,
) -> Conformance {
    let (store, anonymous) = (connection.client(), connection.anonymous_client());
    let target = ProbeTarget {
        operator: &store,
        recorder: Some(&store),
        anonymous: &anonymous,
        policy,
        lifecycle: &Verdict::Failed,
    };
    run(target).await.0
}

async fn table_of(store: Stub) -> Conformance {
    let reason = UnknownReason::NotTried("no statement takes effect here");
    table_with_policy(&store.connection(), Err(&reason)).await
}

/// The report of the command line's probe.
async fn standalone_report(store: &Stub) -> Result<ProbeReport, ProbeError> {
    let request = ProbeRequest {
        operator: store.connection(),
        recorder: Some(store.connection()),
        operator_principal: Some("operator".into()),
        recorder_principal: Some("recorder".into()),
        create: false,
    };
    standalone::probe(&request, &CancellationToken::new()).await
}

fn passed_rows(table: &Conformance) -> Vec<&'static str> {
    let rows = table.rows().iter().filter(|row| row.verdict == Verdict::Passed);
    rows.map(|row| row.check.as_str()).collect()
}

#[tokio::test]
async fn constant_answers_pass_no_row() {
    let canned = "<ListVersionsResult><IsTruncated>false</IsTruncated><Version><Key>probe/x</Key>\
                  <VersionId>1</VersionId></Version></ListVersionsResult>";
    let held = "<LegalHold><Status>ON</Status></LegalHold>";
    let probes = [
        (200, ""),
        (200, canned),
        (200, held),
        (200, "<html>welcome</html>"),
        (204, ""),
        (403, "<Error><Code>AccessDenied</Code></Error>"),
        (404, ""),
        (400, "<Error><Code>InvalidRequest</Code></Error>"),
    ]
    .map(async |(status, body)| {
        let store = Stub::start(move |_| (status, body.to_owned())).await;
        let report = standalone_report(&store).await;
        for table in [Some(table_of(store).await), report.ok().map(|report| report.conformance)] {
            let Some(table) = table else { continue };
            assert_eq!(passed_rows(&table), Vec::<&str>::new(), "{status} {body}");
            assert!(table.rows().iter().any(Row::is_fatal), "{status} {body}");
        }
    });
    futures::future::join_all(probes).await;
}

#[tokio::test]
async fn unavailable_store_passes_no_row() {
    for endpoint in [None, Some("http://127.0.0.1:1")] {
        let mut store = Stub::start(|_| error_answer(500, "InternalError")).await;
        store.endpoint = endpoint.map_or(store.endpoint, str::to_owned);
        let table = table_of(store).await;
        assert_eq!(passed_rows(&table), Vec::<&str>::new());
        assert!(table.rows().iter().any(Row::is_fatal));
    }
}

/// A store with versions, tags and legal holds that executes every request of anybody.
#[tokio::test]
async fn permissive_store_fails_protection_and_access_rows() {
    let table = table_of(MemoryStore::serve(false, false).await).await;
    assert_eq!(
        passed_rows(&table),
        [
            "LegalHoldReadsBack",
            "PutStoresTag",
            "LastModifiedIsStable",
            "RecorderCanPut",
            "RecorderCanPutSealed"
        ]
    );
    for row in table.rows() {
        let is_tagged = row.message().starts_with("no statement");
        assert!(is_tagged || row.verdict.as_str() != "Unknown", "{row:?}");
    }
}

/// A store that accepts policies and ignores them.
#[tokio::test]
async fn ineffective_policy_is_inconclusive() {
    let exempt = Exemptions {
        others: EveryoneExcept::PrincipalArn,
        recorder: "recorder",
        auditor: None,
        readers: &[],
    };
    let standing = ExistingPolicy { statements: &[], operator: "operator", exemptions: Ok(exempt) };
    let store = MemoryStore::serve(false, false).await;
    let table = table_with_policy(&store.connection(), Ok(standing)).await;
    for check in [
        Check::HeldIsReadable,
        Check::SealedIsUnreadable,
        Check::VideoVersionIsUnreadable,
        Check::EveryoneElseIsDenied,
    ] {
        let verdict = table.verdict(check);
        assert!(
            matches!(verdict, Verdict::Unknown(UnknownReason::Inconclusive(_))),
            "{check:?}: {verdict:?}"
        );
    }
}

/// The command line's table of a permissive store without lifecycle.
#[tokio::test]
async fn standalone_probe_reports_a_permissive_store() {
    let report = standalone_report(&MemoryStore::serve(false, false).await).await.unwrap();
    assert_eq!(report.conformance.verdict(Check::LifecycleReadsBack), &Verdict::Failed);
    assert_eq!(report.conformance.verdict(Check::HeldSurvivesDelete), &Verdict::Failed);
    assert_eq!(report.conformance.verdict(Check::AnonymousCannotGet), &Verdict::Failed);
    assert_eq!(report.leftovers, Vec::<String>::new());
    assert_eq!(report.remarks.len(), 1, "{:?}", report.remarks);
}

/// A store that also enforces holds and rejects anonymous requests: those rows pass, and no others.
#[tokio::test]
async fn enforcing_store_passes_protection_and_anonymous_rows() {
    let (open, closed) = (
        table_of(MemoryStore::serve(false, false).await).await,
        table_of(MemoryStore::serve(true, true).await).await,
    );
    let (open, closed) = (passed_rows(&open), passed_rows(&closed));
    let more: Vec<_> = closed.iter().filter(|name| !open.contains(name)).copied().collect();
    let expected: Vec<_> = Check::ALL
        .iter()
        .map(|check| check.as_str())
        .filter(|name| name.starts_with("HeldSurvives") || name.starts_with("Anonymous"))
        .collect();
    assert_eq!(more, expected);
}

/// The sweep deletes one by one if the store rejects batches. If the store ignores them, the sweep would delete nothing.
#[tokio::test]
async fn ignored_batches_are_fatal_and_rejected_batches_are_not() {
    for (answer, is_fatal) in [
        (error_answer(400, "MissingContentMD5"), false),
        ((501, String::new()), false),
        ((200, "<DeleteResult/>".into()), true),
    ] {
        let batches = answer.clone();
        let overrides = move |request: &ReceivedRequest| (request.method == "POST").then(|| batches.clone());
        let table = table_of(MemoryStore::serve_with_overrides(true, true, overrides).await).await;
        let rows = table.rows().iter();
        let row = rows.clone().find(|row| row.check == Check::HeldSurvivesBatchDelete).unwrap();
        assert!(matches!(row.verdict, Verdict::Unknown(UnknownReason::Inconclusive(_))), "{row:?}");
        assert_eq!(row.is_fatal(), is_fatal, "{answer:?}: {row:?}");
        let message = if is_fatal { "deletes nothing by them" } else { "one by one" };
        assert!(row.message().contains(message), "{row:?}");
    }
}

/// A store without conditional puts gets all other attempts.
#[tokio::test]
async fn probe_puts_unconditionally_without_conditional_puts() {
    for status in [501, 400] {
        let overrides =
            move |request: &ReceivedRequest| request.header("if-none-match").map(|_| (status, String::new()));
        let table = table_of(MemoryStore::serve_with_overrides(true, true, overrides).await).await;
        assert_eq!(table.verdict(Check::ConditionalPutIsEnforced), &Verdict::Failed);
        for check in [Check::LegalHoldReadsBack, Check::PutStoresTag, Check::RecorderCanPut] {
            assert_eq!(table.verdict(check), &Verdict::Passed, "{check:?}");
        }
    }
}

/// A store without tags has no retention classes.
#[tokio::test]
async fn store_without_tags_fails_tag_row() {
    let overrides = |request: &ReceivedRequest| request.header("x-amz-tagging").map(|_| (501, String::new()));
    let table = table_of(MemoryStore::serve_with_overrides(true, true, overrides).await).await;
    assert_eq!(table.verdict(Check::PutStoresTag), &Verdict::Failed);
}
