//! Servers that are no proper store: a table of one must show it. Each is a real HTTP server.

use axum::http::{Method, StatusCode, header};
use axum::response::IntoResponse;

use tokio_util::sync::CancellationToken;

use super::files::{Files, Request, serve};
use super::standalone::{ProbeError, Report, Survey};
use super::*;
use crate::contract::{Credentials, StorageTarget};
use crate::storage::client::Purpose;

fn target(endpoint: String) -> StorageTarget {
    StorageTarget {
        endpoint: Some(endpoint),
        region: "us-east-1".into(),
        bucket: "tz-impostor".into(),
        path_style: true,
        ca_pem: None,
        credentials: Credentials::keys("id", "secret"),
        proxy: None,
    }
}

async fn table_with(endpoint: String, policy: Result<Standing<'_>, &Why>) -> Conformance {
    let target = target(endpoint);
    let store = Store::new(&target, Purpose::Configure).unwrap();
    let anonymous = Store::anonymous(&target).unwrap();
    let subject = Subject {
        operator: &store,
        recorder: Some(&store),
        anonymous: &anonymous,
        policy,
        lifecycle: &Verdict::Fails,
    };
    run(subject).await.0
}

async fn table_of(endpoint: String) -> Conformance {
    let why = Why::NotTried("no statement takes effect here");
    table_with(endpoint, Err(&why)).await
}

/// What the command line makes of it.
async fn surveyed(endpoint: String) -> Result<Report, ProbeError> {
    let target = target(endpoint);
    let survey = Survey {
        operator: target.clone(),
        recorder: Some(target),
        operator_principal: Some("operator".into()),
        recorder_principal: Some("recorder".into()),
        create: false,
    };
    standalone::probe(&survey, &CancellationToken::new()).await
}

fn holds(table: &Conformance) -> Vec<&'static str> {
    let rows = table.rows().iter().filter(|row| row.verdict == Verdict::Holds);
    rows.map(|row| row.check.as_str()).collect()
}

#[tokio::test]
async fn whoever_gives_one_answer_to_everything_keeps_nothing() {
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
        let (table, report) = tokio::join!(table_of(endpoint.clone()), surveyed(endpoint));
        for table in [Some(table), report.ok().map(|report| report.conformance)] {
            let Some(table) = table else { continue };
            assert_eq!(holds(&table), Vec::<&str>::new(), "{status} {body}");
            assert!(table.rows().iter().any(Row::is_fatal), "{status} {body}");
        }
    });
    futures::future::join_all(asked).await;
}

#[tokio::test]
async fn a_store_that_is_down_keeps_nothing() {
    let endpoint = serve(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response()).await;
    assert_eq!(holds(&table_of(endpoint).await), Vec::<&str>::new());
    let table = table_of("http://127.0.0.1:1".into()).await;
    assert_eq!(holds(&table), Vec::<&str>::new());
    assert!(table.rows().iter().any(Row::is_fatal));
}

/// It has versions, tags and legal holds, and nobody is anybody: what is asked is done.
#[tokio::test]
async fn a_store_that_does_whatever_it_is_asked_is_seen_through() {
    let table = table_of(Files::serve(false, false).await).await;
    assert_eq!(
        holds(&table),
        [
            "LegalHoldIsKept",
            "TagArrivesWithPut",
            "LastModifiedStays",
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
async fn a_policy_that_is_not_heeded_shows_nothing() {
    let exempt = Exempt { others: Others::PrincipalArn, recorder: "recorder", auditor: None, readers: &[] };
    let standing = Standing { statements: &[], operator: "operator", exempt: Ok(exempt) };
    let table = table_with(Files::serve(false, false).await, Ok(standing)).await;
    for check in [
        Check::HeldIsReadable,
        Check::SealedIsUnreadable,
        Check::VideoVersionIsUnreadable,
        Check::EveryoneElseIsDenied,
    ] {
        let verdict = table.verdict(check);
        assert!(matches!(verdict, Verdict::Unknown(Why::Untold(_))), "{check:?}: {verdict:?}");
    }
}

/// The command line's table of a store without lifecycle that does whatever it is asked.
#[tokio::test]
async fn the_command_line_sees_the_same() {
    let report = surveyed(Files::serve(false, false).await).await.unwrap();
    assert_eq!(report.conformance.verdict(Check::LifecycleIsKept), &Verdict::Fails);
    assert_eq!(report.conformance.verdict(Check::HeldSurvivesDelete), &Verdict::Fails);
    assert_eq!(report.conformance.verdict(Check::AnonymousCannotGet), &Verdict::Fails);
    assert_eq!(report.left, Vec::<String>::new());
    assert_eq!(report.remarks.len(), 1, "{:?}", report.remarks);
}

/// The same, but that it keeps what is held and knows who is nobody: then those rows hold, and no others.
#[tokio::test]
async fn what_it_does_keep_is_seen() {
    let (open, closed) =
        (table_of(Files::serve(false, false).await).await, table_of(Files::serve(true, true).await).await);
    let (open, closed) = (holds(&open), holds(&closed));
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
async fn batches_that_are_ignored_are_fatal_and_batches_that_are_refused_are_not() {
    let unfit = (StatusCode::BAD_REQUEST, "<Error><Code>MissingContentMD5</Code></Error>");
    for (answer, is_fatal) in [
        (unfit, false),
        ((StatusCode::NOT_IMPLEMENTED, ""), false),
        ((StatusCode::OK, "<DeleteResult/>"), true),
    ] {
        let but = move |request: &Request| (request.method == Method::POST).then(|| answer.into_response());
        let table = table_of(Files::serve_but(true, true, but).await).await;
        let rows = table.rows().iter();
        let row = rows.clone().find(|row| row.check == Check::HeldSurvivesBatchDelete).unwrap();
        assert!(matches!(row.verdict, Verdict::Unknown(Why::Untold(_))), "{row:?}");
        assert_eq!(row.is_fatal(), is_fatal, "{answer:?}: {row:?}");
        let message = if is_fatal { "deletes nothing by them" } else { "one by one" };
        assert!(row.message().contains(message), "{row:?}");
    }
}

/// Without conditional puts, everything else is tried all the same.
#[tokio::test]
async fn a_store_without_conditional_puts_is_tried_without_them() {
    for status in [StatusCode::NOT_IMPLEMENTED, StatusCode::BAD_REQUEST] {
        let but = move |request: &Request| {
            request.headers.contains_key(header::IF_NONE_MATCH).then(|| status.into_response())
        };
        let table = table_of(Files::serve_but(true, true, but).await).await;
        assert_eq!(table.verdict(Check::SecondPutIsRefused), &Verdict::Fails);
        for check in [Check::LegalHoldIsKept, Check::TagArrivesWithPut, Check::RecorderCanPut] {
            assert_eq!(table.verdict(check), &Verdict::Holds, "{check:?}");
        }
    }
}

/// Without tags there is no retention class.
#[tokio::test]
async fn a_store_without_tags_is_seen_through() {
    let but = |request: &Request| {
        let is_tagged = request.headers.contains_key("x-amz-tagging");
        is_tagged.then(|| StatusCode::NOT_IMPLEMENTED.into_response())
    };
    let table = table_of(Files::serve_but(true, true, but).await).await;
    assert_eq!(table.verdict(Check::TagArrivesWithPut), &Verdict::Fails);
}
