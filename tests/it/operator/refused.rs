//! If the store refuses a legal hold on one version, the operator still places other holds and holds late versions.
//! The hold reports the number of refused versions and the store's error, and is placed soon after the store accepts.
//! No drift is reported. The same applies to releasing.

use axum::http::Method;
use axum::http::request::Parts;
use jiff::{SignedDuration, Timestamp};
use toezicht::api::{IncidentHold, Placement, Site};

use super::drift::force_verification;
use super::process::{Process, config_for_store, wait_for_leader, with_chart_scaled_down};
use crate::storage::scene::Scene as BucketScene;
use crate::support::proxy::Proxy;
use crate::support::scene::{SITE, Scene};
use crate::support::settings::S3Server;
use crate::support::wait::{HANG, eventually};

const REFUSED_CAMERA: &str = "receptie";
const OTHER_CAMERA: &str = "deur";

fn is_legal_hold_put_of_refused_camera(parts: &Parts) -> bool {
    let is_legal_hold = parts.uri.query().is_some_and(|query| query.contains("legal-hold"));
    parts.method == Method::PUT && is_legal_hold && parts.uri.path().contains(&format!("/{REFUSED_CAMERA}/"))
}

async fn placement(scene: &Scene, name: &str) -> Placement {
    let hold = scene.namespace.api::<IncidentHold>().get(name).await.unwrap();
    hold.status.and_then(|status| status.placement).unwrap()
}

/// Waits until the message of a hold's condition contains `part`.
async fn wait_for_message(scene: &Scene, name: &str, condition: &str, part: &str) {
    eventually(&format!("{condition} of {name}: {part}"), HANG, || async {
        let hold = scene.namespace.api::<IncidentHold>().get(name).await;
        let conditions = hold.map_err(|e| e.to_string())?.status.unwrap_or_default().conditions;
        let found = conditions.iter().find(|found| found.type_ == condition);
        let message = found.map(|found| found.message.clone()).unwrap_or_default();
        message.contains(part).then_some(()).ok_or(message)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_version_does_not_block_other_holds() {
    with_chart_scaled_down("refused", async |namespace| {
        let server = S3Server::primary();
        let proxy = Proxy::start(&server.endpoint, 28347).await;
        let config = config_for_store(&proxy.endpoint);
        let _operator = Process::with_config(&namespace, &namespace, "refused", config);
        wait_for_leader(&namespace, "refused").await;
        let scene = Scene::within(namespace, server.clone(), |_, site| {
            site["spec"]["storage"]["endpoint"] = proxy.endpoint.as_str().into();
        })
        .await;
        scene.wait_for_site("StorageEnforced", "True", HANG).await;
        scene.wait_until_settled(HANG).await;
        let bucket = BucketScene::of_bucket(server, &scene.bucket.name);
        let start = Timestamp::now() - SignedDuration::from_mins(30);
        let refused = bucket.record(REFUSED_CAMERA, start).await;
        let others = [
            bucket.record(OTHER_CAMERA, start).await,
            bucket.record(OTHER_CAMERA, start + SignedDuration::from_mins(2)).await,
        ];

        proxy.deny(is_legal_hold_put_of_refused_camera);
        scene.declare("of-both", &[REFUSED_CAMERA, OTHER_CAMERA], start, None).await;
        scene.declare("of-one", &[OTHER_CAMERA], start, None).await;
        scene.wait_for_hold("of-one", "Placed", "True", HANG).await;
        scene.wait_for_hold("of-both", "Placed", "False", HANG).await;
        let message = "the store refused 1 of the versions, and the operator retries: PutObjectLegalHold was answered with AccessDenied (HTTP 403)";
        wait_for_message(&scene, "of-both", "Placed", message).await;
        let found = placement(&scene, "of-both").await;
        assert_eq!((found.verified, found.segments), (false, 2));
        assert_eq!(found.store_rejection.map(|refusal| refusal.versions), Some(1));
        let found = placement(&scene, "of-one").await;
        assert_eq!((found.verified, found.store_rejection), (true, None));
        for key in &others {
            assert_eq!(bucket.protection(key).await, Some((true, "sealed".into())), "{key}");
        }

        let late = bucket.record(OTHER_CAMERA, Timestamp::now() - SignedDuration::from_mins(2)).await;
        eventually("a late version is held", HANG, || async {
            let protection = bucket.protection(&late).await;
            (protection == Some((true, "sealed".into())))
                .then_some(())
                .ok_or_else(|| format!("{protection:?}"))
        })
        .await;
        wait_for_message(&scene, "of-both", "Placed", message).await;

        proxy.clear_faults();
        scene.wait_for_hold("of-both", "Placed", "True", HANG).await;
        let found = placement(&scene, "of-both").await;
        assert_eq!((found.store_rejection, found.segments), (None, 4));
        assert_eq!(bucket.protection(&refused).await, Some((true, "sealed".into())));

        // A late version of a hold that was placed.
        proxy.deny(is_legal_hold_put_of_refused_camera);
        let late = bucket
            .record(REFUSED_CAMERA, Timestamp::now() - SignedDuration::from_mins(2))
            .await;
        scene.wait_for_hold("of-both", "Placed", "Unknown", HANG).await;
        wait_for_message(&scene, "of-both", "Placed", message).await;
        scene.wait_for_hold("of-one", "Placed", "True", HANG).await;
        proxy.clear_faults();
        force_verification(&scene).await;
        scene.wait_for_hold("of-both", "Placed", "True", HANG).await;
        assert_eq!(bucket.protection(&late).await, Some((true, "sealed".into())));
        assert_eq!(placement(&scene, "of-both").await.segments, 5);
        scene.wait_for_site("Intact", "True", HANG).await;
        let sites = scene.namespace.api::<Site>();
        eventually("the Site reports no refusal and no drift", HANG, || async {
            let site = sites.get(SITE).await.map_err(|e| e.to_string())?;
            let retention = site.status.and_then(|status| status.retention).unwrap();
            let reported = (retention.store_rejection, retention.drift);
            (reported == (None, None)).then_some(()).ok_or_else(|| format!("{reported:?}"))
        })
        .await;

        proxy.deny(is_legal_hold_put_of_refused_camera);
        scene.resolve("of-both").await;
        let message = message.replace("refused 1", "refused 2");
        wait_for_message(&scene, "of-both", "Released", &message).await;
        scene.wait_for_hold("of-both", "Released", "False", HANG).await;
        proxy.clear_faults();
        scene.wait_for_hold("of-both", "Released", "True", HANG).await;
        for key in [&refused, &late] {
            assert_eq!(bucket.protection(key).await, Some((false, "video".into())), "{key}");
        }
        for key in &others {
            assert_eq!(bucket.protection(key).await, Some((true, "sealed".into())), "{key}");
        }
    })
    .await;
}
