//! Who may read what is held, and by what: links from the manifest in the bucket.

use jiff::{SignedDuration, Timestamp, ToSpan};
use toezicht::rules::live_view::Embargo;
use toezicht::rules::retention::PROTOCOL_CEILINGS;
use toezicht::rules::retention::RetentionTerms;
use toezicht::storage::recordings::hold::manifest;
use toezicht::storage::recordings::hold::manifest::ManifestContent;
use toezicht::storage::recordings::hold::manifest_format::ManifestGap;
use toezicht::storage::recordings::hold::protection_cache::ProtectionCache;
use toezicht::storage::recordings::hold::{PlaceInput, place};

use super::holds::{cover, ledger_entry, placed, prepared, record_half_an_hour, task};
use super::scene::target;
use crate::storage::scene::connect;
use crate::support::settings::S3Server;

/// What a link gives: the status.
async fn followed(url: &str) -> u16 {
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new());
    let client = client.build_http::<axum::body::Body>();
    client.get(url.parse().unwrap()).await.unwrap().status().as_u16()
}

/// Who may read what is held gets links to it from the manifest; nobody else does, the operator included. Whether a store
/// heeds the tag is in its conformance table: where it does not, nobody reads.
async fn manifest_links_open_only_for_readers(server: S3Server, is_readable: bool) {
    let scene = prepared(server).await;
    let (start, _) = record_half_an_hour(&scene).await;
    let incident = [cover(&["receptie"], start + 10.minutes(), Some(start + 20.minutes()))];
    placed(&scene.operator, &incident).await;
    let entry = ledger_entry("0".into(), &incident[0], Timestamp::now());
    let now = Timestamp::now();
    let missing = vec![ManifestGap {
        source: "receptie".into(),
        from: start + 10.minutes(),
        until: start + 11.minutes(),
        cause: "CameraUnreachable".into(),
    }];
    let memory = ProtectionCache::default();
    // As the retention controller does: what the pass found goes into the manifest.
    let write = async |embargo, everywhere| {
        let terms = RetentionTerms { ceilings: PROTOCOL_CEILINGS, embargo };
        let work = PlaceInput { terms: &terms, is_every_day: everywhere, cache: &memory, ..task(&incident) };
        let placed = place(&connect(&scene.operator), &work, now).await.unwrap();
        let kept = ManifestContent {
            entry: &entry,
            coverage: &placed.coverage[0],
            missing: &missing,
            terms: &terms,
        };
        manifest::write(&connect(&scene.operator), kept, &memory, now).await.unwrap();
    };
    write(Embargo::After(SignedDuration::from_hours(1)), false).await;
    let as_identity = |name: &str| target(&scene.server, scene.server.identity(name), scene.bucket());
    let lives = std::time::Duration::from_secs(60);
    let links =
        async |name: &str| manifest::links(&connect(&as_identity(name)), &entry.name, lives, now).await;
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
        let status = followed(link.url.as_deref().unwrap()).await;
        assert_eq!(status, if is_readable { 200 } else { 403 }, "{}", link.segment.key);
    }
    for nobody in ["recorder", "other"] {
        assert!(links(nobody).await.is_err(), "{nobody} reads the manifest");
    }
    let own = manifest::links(&connect(&scene.operator), &entry.name, lives, now).await.unwrap();
    assert_eq!(
        followed(own.segments[0].url.as_deref().unwrap()).await,
        403,
        "the operator reads a recording"
    );

    // What has a key that cannot be true may be of the incident, and is where nobody would look.
    let untrue = scene.record("receptie", now + 48.hours()).await;
    write(Embargo::LiveView, true).await;
    let all = links("manager").await.unwrap().segments;
    assert_eq!(all.iter().filter(|link| link.segment.key == untrue).count(), 1, "{all:?}");

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
