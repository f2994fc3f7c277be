//! Links to held recordings from the manifest in the bucket, and who can open them.

use jiff::{SignedDuration, Timestamp, ToSpan};
use toezicht::rules::live_view::Embargo;
use toezicht::rules::retention::PROTOCOL_CEILINGS;
use toezicht::rules::retention::RetentionTerms;
use toezicht::storage::recordings::hold::manifest;
use toezicht::storage::recordings::hold::manifest::ManifestContent;
use toezicht::storage::recordings::hold::manifest_format::ManifestGap;
use toezicht::storage::recordings::hold::protection_cache::ProtectionCache;
use toezicht::storage::recordings::hold::{PlaceInput, place};

use super::holds::{
    hold_scope, ledger_entry, place_input, place_until_confirmed, prepared_bucket, record_half_an_hour,
};
use super::scene::target;
use crate::storage::scene::connect;
use crate::support::settings::S3Server;

/// Opens a link and returns the HTTP status.
async fn open_link(url: &str) -> u16 {
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new());
    let client = client.build_http::<axum::body::Body>();
    client.get(url.parse().unwrap()).await.unwrap().status().as_u16()
}

/// Readers of held recordings get links from the manifest; others, including the operator, do not. If the store
/// ignores the tag condition, as its conformance table shows, nobody can open the links.
async fn manifest_links_open_only_for_readers(server: S3Server, is_readable: bool) {
    let scene = prepared_bucket(server).await;
    let (start, _) = record_half_an_hour(&scene).await;
    let incident = [hold_scope(&["receptie"], start + 10.minutes(), Some(start + 20.minutes()))];
    place_until_confirmed(&scene.operator, &incident).await;
    let entry = ledger_entry("0".into(), &incident[0], Timestamp::now());
    let now = Timestamp::now();
    let missing = vec![ManifestGap {
        source: "receptie".into(),
        from: start + 10.minutes(),
        until: start + 11.minutes(),
        cause: "CameraUnreachable".into(),
    }];
    let cache = ProtectionCache::default();
    // Write the result of a placing pass into the manifest, as the retention controller does.
    let write = async |embargo, is_every_day| {
        let terms = RetentionTerms { ceilings: PROTOCOL_CEILINGS, embargo };
        let work = PlaceInput { terms: &terms, is_every_day, cache: &cache, ..place_input(&incident) };
        let placed = place(&connect(&scene.operator), &work, now).await.unwrap();
        let content = ManifestContent {
            entry: &entry,
            coverage: &placed.coverage[0],
            missing: &missing,
            terms: &terms,
        };
        manifest::write(&connect(&scene.operator), content, &cache, now).await.unwrap();
    };
    write(Embargo::After(SignedDuration::from_hours(1)), false).await;
    let as_identity = |name: &str| target(&scene.server, scene.server.identity(name), scene.bucket());
    let lifetime = std::time::Duration::from_secs(60);
    let links =
        async |name: &str| manifest::links(&connect(&as_identity(name)), &entry.name, lifetime, now).await;
    let sealed = links("manager").await.unwrap();
    assert!(
        sealed.segments.len() == 5 && sealed.segments.iter().all(|link| link.url.is_none()),
        "{sealed:?}"
    );

    write(Embargo::LiveView, false).await;
    assert_eq!(sealed.missing, missing);
    let open = links("manager").await.unwrap().segments;
    assert_eq!(open.len(), 5);
    for link in &open {
        let status = open_link(link.url.as_deref().unwrap()).await;
        assert_eq!(status, if is_readable { 200 } else { 403 }, "{}", link.segment.key);
    }
    for identity in ["recorder", "other"] {
        assert!(links(identity).await.is_err(), "{identity} reads the manifest");
    }
    let operator_links =
        manifest::links(&connect(&scene.operator), &entry.name, lifetime, now).await.unwrap();
    assert_eq!(
        open_link(operator_links.segments[0].url.as_deref().unwrap()).await,
        403,
        "the operator reads a recording"
    );

    // A recording with an implausible key may belong to the incident, although its key names another time.
    let implausible = scene.record("receptie", now + 48.hours()).await;
    write(Embargo::LiveView, true).await;
    let all = links("manager").await.unwrap().segments;
    assert_eq!(all.iter().filter(|link| link.segment.key == implausible).count(), 1, "{all:?}");

    manifest::remove(&connect(&scene.operator), &entry.name).await.unwrap();
    assert!(scene.versions("ledger/manifests/").await.is_empty());
}

#[tokio::test]
async fn seaweedfs_manifest_links_open_for_nobody() {
    manifest_links_open_only_for_readers(S3Server::primary(), false).await;
}

#[tokio::test]
async fn ceph_manifest_links_open_for_readers() {
    manifest_links_open_only_for_readers(S3Server::secondary(), true).await;
}
