//! A leader that is frozen while it works on a bucket writes nothing more to the store when it is thawed.

use std::time::{Duration, Instant};

use super::process::{Process, leader, leads, recording_at, without_the_chart};
use crate::support::proxy::{Proxy, Seen};
use crate::support::scene::Scene;
use crate::support::settings::S3Server;
use crate::support::wait::{eventually, throughout};

const SOON: Duration = Duration::from_secs(60);
/// So long without a request, the store is left alone.
const QUIET: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_thawed_writes_nothing_to_the_store() {
    without_the_chart("leader-store", |namespace| async move {
        let proxy = Proxy::start(&S3Server::first().endpoint, 28340).await;
        let config = recording_at(&proxy.endpoint);
        let mut first = Process::with_config(&namespace, &namespace, "store-first", config.clone());
        leads(&namespace, "store-first", SOON).await;
        let second = Process::with_config(&namespace, &namespace, "store-second", config);
        first.is_ready().await;
        second.is_ready().await;
        let scene = Scene::within(namespace, S3Server::first(), |_, site| {
            site["spec"]["storage"]["endpoint"] = proxy.endpoint.as_str().into();
        })
        .await;
        // A new bucket takes some dozens of writes: it is in the midst of them.
        eventually("the leader writes to the store", SOON, || async {
            let requests = proxy.take();
            if requests.iter().any(Seen::is_write) {
                Ok(())
            } else {
                Err(format!("{requests:?}"))
            }
        })
        .await;
        first.signal("STOP").await;
        let stopped = Instant::now();

        scene.site_is("StorageEnforced", "True", SOON).await;
        assert_eq!(leader(&scene.namespace).await.unwrap(), "store-second");
        println!(
            "the other had the bucket as it must be after {:?}",
            stopped.elapsed()
        );
        let mut last = Instant::now();
        eventually("the store is left alone", SOON * 2, || {
            if !proxy.take().is_empty() {
                last = Instant::now();
            }
            let quiet = last.elapsed();
            async move {
                if quiet > QUIET {
                    Ok(())
                } else {
                    Err(format!("a request {quiet:?} ago"))
                }
            }
        })
        .await;

        first.signal("CONT").await;
        let ended = first.ends(Duration::from_secs(15)).await;
        assert_eq!(ended.code(), Some(3), "{}", first.said());
        throughout("nothing is written", QUIET, || async {
            let writes: Vec<Seen> = proxy.take().into_iter().filter(Seen::is_write).collect();
            if writes.is_empty() {
                Ok(())
            } else {
                Err(format!("{writes:?}"))
            }
        })
        .await;
    })
    .await;
}
