use std::sync::Mutex;
use std::time::Duration;

use kube::Client;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::*;
use crate::controllers::site::fixtures::{context, fixture};
use crate::controllers::testing::{self, error_response, list_response};
use crate::controllers::watch_cache::WatchCache;
use crate::wire::RecorderConfig;

/// Longer than every request, and shorter than the pause before a watch lists again.
const SETTLED: Duration = Duration::from_millis(300);
/// Longer than that pause, and than the first delays after a failure.
const RELISTED: Duration = Duration::from_mins(1);

/// What an API server has of one Site, and what it was asked about a namespace.
struct ApiServer {
    /// Sites that it lists.
    listed_sites: Vec<Value>,
    /// Its answer to a read of the Site.
    site: (u16, Value),
    listed_config: Option<Value>,
    config: Option<Value>,
    workload: Option<Value>,
    requests: Vec<(String, Value)>,
}

impl ApiServer {
    /// Returns the server of a Site that is gone, although its recorders record.
    fn with_orphans() -> Self {
        let plan = fixture().plan();
        let of = |object: Value, kind: &str, uid: &str| {
            let mut object = object;
            object["kind"] = kind.into();
            object["metadata"]["uid"] = uid.into();
            object["metadata"]["resourceVersion"] = "7".into();
            object
        };
        let config = of(serde_json::to_value(plan.config_secret).unwrap(), "Secret", "s");
        let workload = of(serde_json::to_value(plan.workload).unwrap(), "StatefulSet", "w");
        Self {
            listed_sites: Vec::new(),
            site: error_response(404, &json!({})),
            listed_config: Some(config.clone()),
            config: Some(config),
            workload: Some(workload),
            requests: Vec::new(),
        }
    }

    fn answer(&mut self, method: &str, uri: &http::Uri, body: Value) -> (u16, Value) {
        let (path, query) = (uri.path(), uri.query().unwrap_or_default());
        let kind = path.rsplit('/').find(|part| part.ends_with('s')).unwrap();
        let get = |found: &Option<Value>| match found {
            Some(found) => (200, found.clone()),
            None => error_response(404, &json!({})),
        };
        if !path.contains("/namespaces/") {
            // A watch: it lists, and fails then.
            let listed = match kind {
                "sites" => self.listed_sites.clone(),
                "statefulsets" => self.workload.clone().into_iter().collect(),
                "secrets" if query.contains("recorder-config") => {
                    self.listed_config.clone().into_iter().collect()
                }
                _ => Vec::new(),
            };
            if query.contains("watch=") {
                return error_response(500, &json!({}));
            }
            let (code, mut list) = list_response(&listed);
            list["metadata"]["resourceVersion"] = "8".into();
            return (code, list);
        }
        self.requests.push((format!("{method} {path}"), body.clone()));
        let pod = json!({"metadata": {"name": names().pod(0), "uid": "p", "labels": names().labels(), "ownerReferences": [{
            "apiVersion": "apps/v1", "kind": "StatefulSet", "name": names().recorder, "uid": "w", "controller": true,
        }]}});
        match (method, kind) {
            ("GET", "sites") => self.site.clone(),
            ("GET", "secrets") => get(&self.config),
            ("GET", "statefulsets") => get(&self.workload),
            ("GET", "pods") => list_response(&[pod]),
            ("PATCH", "pods") => (200, pod),
            ("PATCH", "secrets") => {
                self.config = Some(body.clone());
                (200, body)
            }
            _ => (200, body),
        }
    }
}

fn names() -> ChildNames {
    ChildNames::of(&testing::site())
}

struct Run {
    server: Arc<Mutex<ApiServer>>,
    context: Context,
    running: BoxStream<'static, ()>,
}

impl Run {
    /// Starts the controller of `server`, and waits until it has nothing to do.
    async fn new(server: ApiServer) -> Self {
        let server = Arc::new(Mutex::new(server));
        let answers = Arc::clone(&server);
        let client: Client =
            testing::api_server(move |method, uri, body| answers.lock().unwrap().answer(method, uri, body));
        let (cache, watches) = WatchCache::new(&client, None);
        let context = Context { cache, ..context(client) };
        let running = controller(&context, CancellationToken::new());
        for (_, watch) in watches {
            tokio::spawn(watch);
        }
        context.cache.wait_until_ready().await;
        let running = futures::stream::once(running).boxed();
        let mut run = Self { server, context, running };
        run.wait(SETTLED).await;
        run
    }

    async fn wait(&mut self, time: Duration) {
        assert!(timeout(time, self.running.next()).await.is_err(), "the controller ended");
    }

    /// Returns the requests since the last call.
    fn take_requests(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.server.lock().unwrap().requests)
    }

    fn is_orphan_in_metrics(&self) -> bool {
        let text = self.context.telemetry.encode().unwrap();
        text.contains(r#"toezicht_orphaned_recorders{namespace="gemeente",site="zwembad"} 1"#)
    }
}

fn bodies<'a>(requests: &'a [(String, Value)], method: &str, part: &str) -> Vec<&'a Value> {
    let is_selected = |(request, _): &&(String, Value)| request.starts_with(method) && request.contains(part);
    requests.iter().filter(is_selected).map(|(_, body)| body).collect()
}

fn config_in(secret: &Value) -> RecorderConfig {
    read_config(&serde_json::from_value(secret.clone()).unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn recorders_of_a_site_that_is_gone_stop_and_keep_everything_else() {
    let server = ApiServer::with_orphans();
    let before = config_in(server.config.as_ref().unwrap());
    assert!(before.cameras.iter().all(|camera| !camera.permitted.is_empty()));
    let mut run = Run::new(server).await;
    let requests = run.take_requests();
    assert!(bodies(&requests, "DELETE", "").is_empty(), "{requests:?}");
    let secrets = bodies(&requests, "PATCH", "/secrets/");
    assert_eq!((secrets.len(), &secrets[0]["metadata"]["uid"]), (1, &json!("s")), "{requests:?}");
    let closed = config_in(secrets[0]);
    for (camera, before) in closed.cameras.iter().zip(&before.cameras) {
        assert!(camera.permitted.is_empty(), "{}", camera.name);
        assert_eq!(camera.denial, Some(GapCause::SiteNotReady), "the gap has a cause");
        assert_eq!((&camera.name, camera.shard), (&before.name, before.shard));
    }
    assert_eq!(closed.cameras.len(), before.cameras.len(), "recorders keep their gaps");
    assert_eq!((&closed.holds, &closed.status_api), (&before.holds, &before.status_api));
    let touched = bodies(&requests, "PATCH", "/pods/");
    assert!(!touched.is_empty(), "{requests:?}");
    assert!(touched[0].to_string().contains(&closed.revision), "{touched:?}");
    let events = bodies(&requests, "POST", "/events");
    assert_eq!(events.len(), 1, "{requests:?}");
    assert!(events[0]["note"].as_str().unwrap().contains("create the Site again"), "{events:?}");
    assert!(run.is_orphan_in_metrics());
    run.wait(SETTLED).await;
    assert!(run.take_requests().is_empty(), "nothing changed");

    // It is created again.
    let site = serde_json::to_value(testing::site()).unwrap();
    run.server.lock().unwrap().listed_sites = vec![site];
    run.wait(RELISTED).await;
    let requests = run.take_requests();
    assert!(bodies(&requests, "PATCH", "").is_empty(), "{requests:?}");
    assert!(!run.is_orphan_in_metrics());
}

#[tokio::test(start_paused = true)]
async fn closed_recorders_of_a_site_that_is_gone_are_reported_and_not_written_again() {
    let mut server = ApiServer::with_orphans();
    let config = config_in(server.config.as_ref().unwrap());
    let closed = closing_config(&config, Some(&config), GapCause::SiteNotReady);
    let mut secret = serde_json::to_value(objects::config_secret(&names(), &closed)).unwrap();
    secret["metadata"]["uid"] = "s".into();
    server.config = Some(secret);
    let run = Run::new(server).await;
    let requests = run.take_requests();
    assert!(bodies(&requests, "PATCH", "/secrets/").is_empty(), "{requests:?}");
    assert_eq!(bodies(&requests, "POST", "/events").len(), 1, "{requests:?}");
    assert!(run.is_orphan_in_metrics());
}

#[tokio::test(start_paused = true)]
async fn recorders_of_a_site_that_exists_cost_no_read() {
    let site = serde_json::to_value(testing::site()).unwrap();
    let run = Run::new(ApiServer { listed_sites: vec![site], ..ApiServer::with_orphans() }).await;
    let requests = run.take_requests();
    assert!(requests.is_empty(), "{requests:?}");
}

/// The watch does not have it yet, or nobody knows.
#[tokio::test(start_paused = true)]
async fn recorders_of_a_site_that_may_exist_record_on() {
    let site = serde_json::to_value(testing::site()).unwrap();
    for site in [(200, site), error_response(403, &json!({})), error_response(500, &json!({}))] {
        let mut run = Run::new(ApiServer { site, ..ApiServer::with_orphans() }).await;
        run.wait(RELISTED).await;
        let requests = run.take_requests();
        assert!(!requests.is_empty());
        assert!(requests.iter().all(|(request, _)| request.starts_with("GET")), "{requests:?}");
        assert!(!run.is_orphan_in_metrics());
    }
}

#[tokio::test(start_paused = true)]
async fn failed_stop_is_repeated_and_counts_as_orphan() {
    let mut run =
        Run::new(ApiServer { site: error_response(500, &json!({})), ..ApiServer::with_orphans() }).await;
    assert!(bodies(&run.take_requests(), "PATCH", "").is_empty());
    run.server.lock().unwrap().site = error_response(404, &json!({}));
    run.wait(RELISTED).await;
    assert!(!bodies(&run.take_requests(), "PATCH", "/secrets/").is_empty());
    assert!(run.is_orphan_in_metrics());
}

#[tokio::test(start_paused = true)]
async fn recorders_without_site_and_configuration_are_reported() {
    let server = ApiServer { listed_config: None, config: None, ..ApiServer::with_orphans() };
    let run = Run::new(server).await;
    let requests = run.take_requests();
    assert!(bodies(&requests, "PATCH", "").is_empty(), "{requests:?}");
    let events = bodies(&requests, "POST", "/events");
    assert_eq!(events.len(), 1, "{requests:?}");
    assert!(events[0]["note"].as_str().unwrap().contains("nothing can stop them"), "{events:?}");
    assert!(run.is_orphan_in_metrics());
}

/// The watch of Sites may be ahead of the watch of Secrets.
#[tokio::test(start_paused = true)]
async fn deletion_of_a_site_is_no_orphan() {
    let server = ApiServer { config: None, workload: None, ..ApiServer::with_orphans() };
    let run = Run::new(server).await;
    let requests = run.take_requests();
    assert!(requests.iter().all(|(request, _)| request.starts_with("GET")), "{requests:?}");
    assert!(!run.is_orphan_in_metrics());
}

#[tokio::test(start_paused = true)]
async fn recorder_config_of_another_party_is_not_read() {
    let mut server = ApiServer::with_orphans();
    let owner =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "theirs", "uid": "t", "controller": true}]);
    for object in [&mut server.listed_config, &mut server.config, &mut server.workload] {
        object.as_mut().unwrap()["metadata"]["ownerReferences"] = owner.clone();
    }
    let requests = Run::new(server).await.take_requests();
    assert!(requests.is_empty(), "{requests:?}");
}
