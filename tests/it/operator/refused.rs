//! A version that the store refuses to hold keeps no other hold from being placed, nor what comes late from being held; its
//! own hold says how many there are and what the store answered, and is placed soon after the store gives in; nobody is
//! accused of it. The same for releasing.

use axum::http::Method;
use axum::http::request::Parts;
use jiff::{SignedDuration, Timestamp};
use toezicht::api::{IncidentHold, Placement, Site};

use super::drifted::verify;
use super::process::{Process, config_for_store, leads, with_chart_scaled_down};
use crate::storage::scene::Scene as BucketScene;
use crate::support::proxy::Proxy;
use crate::support::scene::{SITE, Scene};
use crate::support::settings::S3Server;
use crate::support::wait::{HANG, eventually};

const REFUSED: &str = "receptie";
const OTHER: &str = "deur";

fn is_legal_hold_put_for_rejected_camera(parts: &Parts) -> bool {
    let is_mark = parts.uri.query().is_some_and(|query| query.contains("legal-hold"));
    parts.method == Method::PUT && is_mark && parts.uri.path().contains(&format!("/{REFUSED}/"))
}

async fn placement(scene: &Scene, name: &str) -> Placement {
    let hold = scene.namespace.api::<IncidentHold>().get(name).await.unwrap();
    hold.status.and_then(|status| status.placement).unwrap()
}

/// Waits until a condition of a hold has this in its message.
async fn is_told(scene: &Scene, name: &str, condition: &str, part: &str) {
    eventually(&format!("{condition} of {name}: {part}"), HANG, || async {
        let hold = scene.namespace.api::<IncidentHold>().get(name).await;
        let conditions = hold.map_err(|e| e.to_string())?.status.unwrap_or_default().conditions;
        let told = conditions.iter().find(|told| told.type_ == condition);
        let message = told.map(|told| told.message.clone()).unwrap_or_default();
        message.contains(part).then_some(()).ok_or(message)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_version_does_not_block_other_holds() {
    with_chart_scaled_down("refused", async |namespace| {
        let server = S3Server::first();
        let proxy = Proxy::start(&server.endpoint, 28347).await;
        let config = config_for_store(&proxy.endpoint);
        let _operator = Process::with_config(&namespace, &namespace, "refused", config);
        leads(&namespace, "refused").await;
        let scene = Scene::within(namespace, server.clone(), |_, site| {
            site["spec"]["storage"]["endpoint"] = proxy.endpoint.as_str().into();
        })
        .await;
        scene.wait_for_site("StorageEnforced", "True", HANG).await;
        scene.is_settled(HANG).await;
        let bucket = BucketScene::of_bucket(server, &scene.bucket.name);
        let start = Timestamp::now() - SignedDuration::from_mins(30);
        let refused = bucket.record(REFUSED, start).await;
        let others = [
            bucket.record(OTHER, start).await,
            bucket.record(OTHER, start + SignedDuration::from_mins(2)).await,
        ];

        proxy.refuse(is_legal_hold_put_for_rejected_camera);
        scene.declare("of-both", &[REFUSED, OTHER], start, None).await;
        scene.declare("of-one", &[OTHER], start, None).await;
        scene.wait_for_hold("of-one", "Placed", "True", HANG).await;
        scene.wait_for_hold("of-both", "Placed", "False", HANG).await;
        let answer = "the store refused 1 of the versions, and the operator retries: PutObjectLegalHold was answered with AccessDenied (HTTP 403)";
        is_told(&scene, "of-both", "Placed", answer).await;
        let found = placement(&scene, "of-both").await;
        assert_eq!((found.verified, found.segments), (false, 2));
        assert_eq!(found.store_rejection.map(|refusal| refusal.versions), Some(1));
        let found = placement(&scene, "of-one").await;
        assert_eq!((found.verified, found.store_rejection), (true, None));
        for key in &others {
            assert_eq!(bucket.marks(key).await, Some((true, "sealed".into())), "{key}");
        }

        let late = bucket.record(OTHER, Timestamp::now() - SignedDuration::from_mins(2)).await;
        eventually("what comes late is held", HANG, || async {
            let marks = bucket.marks(&late).await;
            (marks == Some((true, "sealed".into())))
                .then_some(())
                .ok_or_else(|| format!("{marks:?}"))
        })
        .await;
        is_told(&scene, "of-both", "Placed", answer).await;

        proxy.mend();
        scene.wait_for_hold("of-both", "Placed", "True", HANG).await;
        let found = placement(&scene, "of-both").await;
        assert_eq!((found.store_rejection, found.segments), (None, 4));
        assert_eq!(bucket.marks(&refused).await, Some((true, "sealed".into())));

        // Of one that was placed, and that comes late.
        proxy.refuse(is_legal_hold_put_for_rejected_camera);
        let late = bucket
            .record(REFUSED, Timestamp::now() - SignedDuration::from_mins(2))
            .await;
        scene.wait_for_hold("of-both", "Placed", "Unknown", HANG).await;
        is_told(&scene, "of-both", "Placed", answer).await;
        scene.wait_for_hold("of-one", "Placed", "True", HANG).await;
        proxy.mend();
        verify(&scene).await;
        scene.wait_for_hold("of-both", "Placed", "True", HANG).await;
        assert_eq!(bucket.marks(&late).await, Some((true, "sealed".into())));
        assert_eq!(placement(&scene, "of-both").await.segments, 5);
        scene.wait_for_site("Intact", "True", HANG).await;
        let sites = scene.namespace.api::<Site>();
        eventually("the Site tells of nothing refused, nor changed", HANG, || async {
            let site = sites.get(SITE).await.map_err(|e| e.to_string())?;
            let retention = site.status.and_then(|status| status.retention).unwrap();
            let told = (retention.store_rejection, retention.drift);
            (told == (None, None)).then_some(()).ok_or_else(|| format!("{told:?}"))
        })
        .await;

        proxy.refuse(is_legal_hold_put_for_rejected_camera);
        scene.resolve("of-both").await;
        let answer = answer.replace("refused 1", "refused 2");
        is_told(&scene, "of-both", "Released", &answer).await;
        scene.wait_for_hold("of-both", "Released", "False", HANG).await;
        proxy.mend();
        scene.wait_for_hold("of-both", "Released", "True", HANG).await;
        for key in [&refused, &late] {
            assert_eq!(bucket.marks(key).await, Some((false, "video".into())), "{key}");
        }
        for key in &others {
            assert_eq!(bucket.marks(key).await, Some((true, "sealed".into())), "{key}");
        }
    })
    .await;
}
