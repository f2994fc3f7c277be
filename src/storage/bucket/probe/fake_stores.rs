//! Servers that are no proper store: a table of one must show it. Each is a real HTTP server.

use axum::http::{Method, StatusCode, header};
use axum::response::IntoResponse;

use tokio_util::sync::CancellationToken;

use super::memory_store::{FakeRequest, MemoryStore, serve};
use super::request::{ProbeError, ProbeRequest};
use super::standalone::ProbeReport;
use super::*;
use crate::storage::s3::connection::BucketConnection;
use crate::wire::{Credentials, StorageTarget};

fn connection(endpoint: String) -> BucketConnection {
    let target = StorageTarget {
        endpoint: Some(endpoint),
        region: "us-east-1".into(),
        bucket: "tz-impostor".into(),
        path_style: true,
        ca_pem: None,
        credentials: Credentials::access_key("id", "secret"),
        proxy: None,
    };
    BucketConnection::new(&target).unwrap()
}

async fn table_with_policy(
    endpoint: String,
    policy: Result<ExistingPolicy<'_>, &UnknownReason>,
) -> Conformance {
    let connection = connection(endpoint);
    let (store, anonymous) = (connection.client(), connection.anonymous_client());
    let subject = ProbeTarget {
        operator: &store,
        recorder: Some(&store),
        anonymous: &anonymous,
        policy,
        lifecycle: &Verdict::Failed,
    };
    run(subject).await.0
}

async fn table_of(endpoint: String) -> Conformance {
    let why = UnknownReason::NotTried("no statement takes effect here");
    table_with_policy(endpoint, Err(&why)).await
}

/// What the command line makes of it.
async fn standalone_report(endpoint: String) -> Result<ProbeReport, ProbeError> {
    let connection = connection(endpoint);
    let survey = ProbeRequest {
        operator: connection.clone(),
        recorder: Some(connection),
        operator_principal: Some("operator".into()),
        recorder_principal: Some("recorder".into()),
        create: false,
    };
    standalone::probe(&survey, &CancellationToken::new()).await
}

fn holding_rows(table: &Conformance) -> Vec<&'static str> {
    let rows = table.rows().iter().filter(|row| row.verdict == Verdict::Passed);
    rows.map(|row| row.check.as_str()).collect()
}

#[tokio::test]
async fn constant_answers_hold_no_row() {
    let canned = "<ListVersionsResult><IsTruncated>false</IsTruncated><Version><Key>probe/x</Key>\
                  <VersionId>1</VersionId></Version></ListVersionsResult>";
    let held = "<LegalHold><Status>ON</Status></LegalHold>";
    let answers = [
        (StatusCode::OK, ""),
        (StatusCode::OK, canned),
        (StatusCode::OK, held),
        (StatusCode::OK, "<html>welcome</html>"),
        (StatusCode::NO_CONTENT, ""),
        (StatusCode::FORBIDDEN, "<Error><Code>AccessDenied</Code></Error>"),
        (StatusCode::NOT_FOUND, ""),
        (StatusCode::BAD_REQUEST, "<Error><Code>InvalidRequest</Code></Error>"),
    ];
    let asked = answers.map(async |(status, body)| {
        let endpoint = serve(move |_| (status, body).into_response()).await;
        let (table, report) = tokio::join!(table_of(endpoint.clone()), standalone_report(endpoint));
        for table in [Some(table), report.ok().map(|report| report.conformance)] {
            let Some(table) = table else { continue };
            assert_eq!(holding_rows(&table), Vec::<&str>::new(), "{status} {body}");
            assert!(table.rows().iter().any(Row::is_fatal), "{status} {body}");
        }
    });
    futures::future::join_all(asked).await;
}

#[tokio::test]
async fn unavailable_store_holds_no_row() {
    let endpoint = serve(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response()).await;
    assert_eq!(holding_rows(&table_of(endpoint).await), Vec::<&str>::new());
    let table = table_of("http://127.0.0.1:1".into()).await;
    assert_eq!(holding_rows(&table), Vec::<&str>::new());
    assert!(table.rows().iter().any(Row::is_fatal));
}

/// It has versions, tags and legal holds, and nobody is anybody: what is asked is done.
#[tokio::test]
async fn permissive_store_fails_protection_and_access_rows() {
    let table = table_of(MemoryStore::serve(false, false).await).await;
    assert_eq!(
        holding_rows(&table),
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

/// It takes a policy and heeds none: what a policy would do cannot be told.
#[tokio::test]
async fn ineffective_policy_is_inconclusive() {
    let exempt = Exemptions {
        others: EveryoneExcept::PrincipalArn,
        recorder: "recorder",
        auditor: None,
        readers: &[],
    };
    let standing = ExistingPolicy { statements: &[], operator: "operator", exemptions: Ok(exempt) };
    let table = table_with_policy(MemoryStore::serve(false, false).await, Ok(standing)).await;
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

/// The command line's table of a store without lifecycle that does whatever it is asked.
#[tokio::test]
async fn standalone_probe_reports_a_permissive_store() {
    let report = standalone_report(MemoryStore::serve(false, false).await).await.unwrap();
    assert_eq!(report.conformance.verdict(Check::LifecycleReadsBack), &Verdict::Failed);
    assert_eq!(report.conformance.verdict(Check::HeldSurvivesDelete), &Verdict::Failed);
    assert_eq!(report.conformance.verdict(Check::AnonymousCannotGet), &Verdict::Failed);
    assert_eq!(report.leftovers, Vec::<String>::new());
    assert_eq!(report.remarks.len(), 1, "{:?}", report.remarks);
}

/// The same, but that it keeps what is held and knows who is nobody: then those rows hold, and no others.
#[tokio::test]
async fn enforcing_store_holds_protection_and_anonymous_rows() {
    let (open, closed) = (
        table_of(MemoryStore::serve(false, false).await).await,
        table_of(MemoryStore::serve(true, true).await).await,
    );
    let (open, closed) = (holding_rows(&open), holding_rows(&closed));
    let more: Vec<_> = closed.iter().filter(|name| !open.contains(name)).copied().collect();
    let expected: Vec<_> = Check::ALL
        .iter()
        .map(|check| check.as_str())
        .filter(|name| name.starts_with("HeldSurvives") || name.starts_with("Anonymous"))
        .collect();
    assert_eq!(more, expected);
}

/// A refused batch is deleted one by one; a batch that is accepted and ignored would leave everything.
#[tokio::test]
async fn ignored_batches_are_fatal_and_rejected_batches_are_not() {
    let unfit = (StatusCode::BAD_REQUEST, "<Error><Code>MissingContentMD5</Code></Error>");
    for (answer, is_fatal) in [
        (unfit, false),
        ((StatusCode::NOT_IMPLEMENTED, ""), false),
        ((StatusCode::OK, "<DeleteResult/>"), true),
    ] {
        let but =
            move |request: &FakeRequest| (request.method == Method::POST).then(|| answer.into_response());
        let table = table_of(MemoryStore::serve_with_overrides(true, true, but).await).await;
        let rows = table.rows().iter();
        let row = rows.clone().find(|row| row.check == Check::HeldSurvivesBatchDelete).unwrap();
        assert!(matches!(row.verdict, Verdict::Unknown(UnknownReason::Inconclusive(_))), "{row:?}");
        assert_eq!(row.is_fatal(), is_fatal, "{answer:?}: {row:?}");
        let message = if is_fatal { "deletes nothing by them" } else { "one by one" };
        assert!(row.message().contains(message), "{row:?}");
    }
}

/// Without conditional puts, everything else is tried all the same.
#[tokio::test]
async fn probe_puts_unconditionally_without_conditional_puts() {
    for status in [StatusCode::NOT_IMPLEMENTED, StatusCode::BAD_REQUEST] {
        let but = move |request: &FakeRequest| {
            request.headers.contains_key(header::IF_NONE_MATCH).then(|| status.into_response())
        };
        let table = table_of(MemoryStore::serve_with_overrides(true, true, but).await).await;
        assert_eq!(table.verdict(Check::ConditionalPutIsEnforced), &Verdict::Failed);
        for check in [Check::LegalHoldReadsBack, Check::PutStoresTag, Check::RecorderCanPut] {
            assert_eq!(table.verdict(check), &Verdict::Passed, "{check:?}");
        }
    }
}

/// Without tags there is no retention class.
#[tokio::test]
async fn store_without_tags_fails_tag_row() {
    let but = |request: &FakeRequest| {
        let is_tagged = request.headers.contains_key("x-amz-tagging");
        is_tagged.then(|| StatusCode::NOT_IMPLEMENTED.into_response())
    };
    let table = table_of(MemoryStore::serve_with_overrides(true, true, but).await).await;
    assert_eq!(table.verdict(Check::PutStoresTag), &Verdict::Failed);
}
