//! Servers that are no proper store: a table of one must show it. Each is a real HTTP server.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use tokio_util::sync::CancellationToken;

use super::standalone::{ProbeError, Report, Survey};
use super::*;
use crate::contract::{Secret, StorageTarget};
use crate::storage::client::Purpose;

/// Serves every request with `answer`; where.
async fn serve<F>(answer: F) -> String
where
    F: Fn(Request) -> Response + Clone + Send + Sync + 'static,
{
    let app =
        axum::Router::new().fallback(move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let response = answer(Request {
                method,
                path: uri.path().to_owned(),
                query: url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
                    .into_owned()
                    .collect(),
                headers,
                body,
            });
            async move { response }
        });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    endpoint
}

struct Request {
    method: Method,
    path: String,
    query: BTreeMap<String, String>,
    headers: HeaderMap,
    body: Bytes,
}

fn target(endpoint: String) -> StorageTarget {
    StorageTarget {
        endpoint: Some(endpoint),
        region: "us-east-1".into(),
        bucket: "tz-impostor".into(),
        path_style: true,
        ca_pem: None,
        access_key_id: Secret::new("id"),
        secret_access_key: Secret::new("secret"),
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
        (
            StatusCode::BAD_REQUEST,
            "<Error><Code>InvalidRequest</Code></Error>",
        ),
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
    let exempt = Exempt {
        others: Others::PrincipalArn,
        recorder: "recorder",
        auditor: None,
        readers: &[],
    };
    let standing = Standing {
        statements: &[],
        operator: "operator",
        exempt: Ok(exempt),
    };
    let table = table_with(Files::serve(false, false).await, Ok(standing)).await;
    for check in [
        Check::HeldIsReadable,
        Check::SealedIsUnreadable,
        Check::VideoVersionIsUnreadable,
        Check::EveryoneElseIsDenied,
    ] {
        let verdict = table.verdict(check);
        assert!(
            matches!(verdict, Verdict::Unknown(Why::Untold(_))),
            "{check:?}: {verdict:?}"
        );
    }
}

/// The command line's table of a store without lifecycle that does whatever it is asked.
#[tokio::test]
async fn the_command_line_sees_the_same() {
    let report = surveyed(Files::serve(false, false).await).await.unwrap();
    assert_eq!(
        report.conformance.verdict(Check::LifecycleIsKept),
        &Verdict::Fails
    );
    assert_eq!(
        report.conformance.verdict(Check::HeldSurvivesDelete),
        &Verdict::Fails
    );
    assert_eq!(
        report.conformance.verdict(Check::AnonymousCannotGet),
        &Verdict::Fails
    );
    assert_eq!(report.left, Vec::<String>::new());
    assert_eq!(report.remarks.len(), 1, "{:?}", report.remarks);
}

/// The same, but that it keeps what is held and knows who is nobody: then those rows hold, and no others.
#[tokio::test]
async fn what_it_does_keep_is_seen() {
    let (open, closed) = (
        table_of(Files::serve(false, false).await).await,
        table_of(Files::serve(true, true).await).await,
    );
    let (open, closed) = (holds(&open), holds(&closed));
    let more: Vec<_> = closed
        .iter()
        .filter(|name| !open.contains(name))
        .copied()
        .collect();
    let expected: Vec<_> = Check::ALL
        .iter()
        .map(|check| check.as_str())
        .filter(|name| name.starts_with("HeldSurvives") || name.starts_with("Anonymous"))
        .collect();
    assert_eq!(more, expected);
}

/// A store in memory.
struct Files {
    keeps_held: bool,
    knows_nobody: bool,
    kept: Mutex<Vec<File>>,
}

#[derive(Clone)]
struct File {
    key: String,
    id: String,
    bytes: Bytes,
    tag: Option<String>,
    is_held: bool,
    is_retained: bool,
    is_marker: bool,
    at: jiff::Timestamp,
}

impl Files {
    async fn serve(keeps_held: bool, knows_nobody: bool) -> String {
        let files = Arc::new(Self {
            keeps_held,
            knows_nobody,
            kept: Mutex::default(),
        });
        serve(move |request| files.answer(&request)).await
    }

    fn answer(&self, request: &Request) -> Response {
        if self.knows_nobody && !request.headers.contains_key(header::AUTHORIZATION) {
            return (StatusCode::FORBIDDEN, "<Error><Code>AccessDenied</Code></Error>").into_response();
        }
        let asks = |part: &str| request.query.contains_key(part);
        let key = request.path.splitn(3, '/').nth(2).unwrap_or_default().to_owned();
        let mut files = self.kept.lock().unwrap();
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let wanted = request.query.get("versionId");
        let is_it = |file: &&mut File| file.key == key && wanted.is_none_or(|id| *id == file.id);
        match (request.method.as_str(), key.is_empty()) {
            ("PUT", true) if asks("policy") => StatusCode::NO_CONTENT.into_response(),
            ("GET" | "DELETE", true) if asks("policy") => StatusCode::NOT_FOUND.into_response(),
            ("GET", true) if asks("versions") || asks("list-type") => listing(&files, request),
            ("POST", true) => {
                let (key, id) = (element(&body, "Key"), element(&body, "VersionId"));
                files.retain(|file| file.key != key || file.id != id || self.keeps(file));
                "<DeleteResult/>".into_response()
            }
            ("PUT" | "GET" | "DELETE", false)
                if asks("tagging") || asks("legal-hold") || asks("retention") =>
            {
                let Some(file) = files.iter_mut().rev().find(is_it) else {
                    return StatusCode::NOT_FOUND.into_response();
                };
                about(file, request, &body)
            }
            ("PUT", false) => {
                files.push(File::put(key, request));
                StatusCode::OK.into_response()
            }
            ("GET", false) => match files.iter_mut().rev().find(is_it) {
                Some(file) if !file.is_marker => file.bytes.clone().into_response(),
                _ => StatusCode::NOT_FOUND.into_response(),
            },
            ("DELETE", false) => {
                match wanted {
                    Some(id) => files.retain(|file| file.key != key || file.id != *id || self.keeps(file)),
                    None => files.push(File {
                        is_marker: true,
                        ..File::put(key, request)
                    }),
                }
                StatusCode::NO_CONTENT.into_response()
            }
            _ => StatusCode::NOT_IMPLEMENTED.into_response(),
        }
    }

    fn keeps(&self, file: &File) -> bool {
        self.keeps_held && file.is_held
    }
}

impl File {
    fn put(key: String, request: &Request) -> Self {
        let header = |name: &str| {
            request
                .headers
                .get(name)
                .map(|it| it.to_str().unwrap().to_owned())
        };
        Self {
            key,
            id: canary::random_name(),
            bytes: request.body.clone(),
            tag: header("x-amz-tagging").map(|tag| tag.split_once('=').unwrap().1.to_owned()),
            is_held: header("x-amz-object-lock-legal-hold").is_some(),
            is_retained: header("x-amz-object-lock-mode").is_some(),
            is_marker: false,
            at: jiff::Timestamp::now(),
        }
    }
}

/// Tag, legal hold and retention of a version.
fn about(file: &mut File, request: &Request, body: &str) -> Response {
    let asks = |part: &str| request.query.contains_key(part);
    match (request.method.as_str(), asks("tagging"), asks("legal-hold")) {
        ("PUT", true, _) => file.tag = Some(element(body, "Value")),
        ("DELETE", true, _) => file.tag = None,
        ("PUT", _, true) => file.is_held = element(body, "Status") == "ON",
        ("PUT", ..) => file.is_retained = true,
        ("GET", true, _) => {
            let tag = file.tag.as_ref().map_or(String::new(), |tag| {
                format!("<Tag><Key>toezicht-retention</Key><Value>{tag}</Value></Tag>")
            });
            return format!("<Tagging><TagSet>{tag}</TagSet></Tagging>").into_response();
        }
        ("GET", _, true) => {
            let status = if file.is_held { "ON" } else { "OFF" };
            return format!("<LegalHold><Status>{status}</Status></LegalHold>").into_response();
        }
        _ if file.is_retained => {
            let until = "<RetainUntilDate>2040-01-01T00:00:00Z</RetainUntilDate>";
            return format!("<Retention><Mode>GOVERNANCE</Mode>{until}</Retention>").into_response();
        }
        _ => return StatusCode::NOT_FOUND.into_response(),
    }
    StatusCode::OK.into_response()
}

fn listing(files: &[File], request: &Request) -> Response {
    let prefix = request.query.get("prefix").cloned().unwrap_or_default();
    let mut listed = String::new();
    for file in files.iter().rev().filter(|file| file.key.starts_with(&prefix)) {
        let tag = match (request.query.contains_key("versions"), file.is_marker) {
            (true, true) => "DeleteMarker",
            (true, false) => "Version",
            (false, true) => continue,
            (false, false) => "Contents",
        };
        let File { key, id, at, .. } = file;
        let _ = write!(
            listed,
            "<{tag}><Key>{key}</Key><VersionId>{id}</VersionId><LastModified>{at:.3}</LastModified></{tag}>"
        );
    }
    let name = if request.query.contains_key("versions") {
        "ListVersionsResult"
    } else {
        "ListBucketResult"
    };
    format!("<{name}><IsTruncated>false</IsTruncated>{listed}</{name}>").into_response()
}

/// The text of an element.
fn element(body: &str, name: &str) -> String {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let rest = body.split_once(&open).map_or("", |(_, rest)| rest);
    rest.split_once(&close).map_or("", |(text, _)| text).to_owned()
}
