//! The Heusden example on a real cluster: what `make demo` does, and what must then be true.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};
use toezicht::api::{Camera, IncidentHold, Site};

use crate::support::cluster;
use crate::support::operator;
use crate::support::recorded::{Bucket, account, keys, segments};
use crate::support::scene::has;
use crate::support::settings::S3Server;
use crate::support::tools::run;
use crate::support::wait::eventually;

const SOON: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn every_frame_of_every_camera_is_there_once() {
    let _operator = operator::present().await;
    println!(
        "{}",
        run(
            "env",
            &["-u", "TOEZICHT_TESTBED_UNFINISHED", "tests/testbed/demo/run"],
            None
        )
        .await
    );
    let client = cluster::client().await;
    let sites: Api<Site> = Api::namespaced(client.clone(), "heusden");
    let cameras: Api<Camera> = Api::namespaced(client.clone(), "heusden");
    let sites = sites.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(sites.len(), 5, "the five places of article 2");

    for site in &sites {
        let status = site.status.as_ref().expect("a status");
        for condition in ["Accepted", "Permitted", "StorageEnforced", "Ready"] {
            has(&status.conditions, condition, "True")
                .unwrap_or_else(|seen| panic!("{}: {seen}", site.name_any()));
        }
        // The administrators' exclusion needs encryption, which this version does not have: it must say so.
        has(&status.conditions, "AdministratorsExcluded", "False").unwrap();
    }
    for camera in cameras.list(&ListParams::default()).await.unwrap().items {
        let site = sites
            .iter()
            .find(|s| s.name_any() == camera.spec.site_ref.name)
            .expect("its site");
        let bucket = Bucket {
            server: S3Server::first(),
            name: site.spec.storage.bucket.clone(),
        };
        let name = camera.name_any();
        eventually(&format!("two segments of {name}"), SOON, || async {
            let found = keys(&bucket, &name).await.len();
            if found >= 2 {
                Ok(())
            } else {
                Err(format!("{found}"))
            }
        })
        .await;
        let recorded = segments(&bucket, &name).await;
        assert_eq!(account(&name, &recorded), [], "{name}: frames are missing");
        println!(
            "{name}: {} segments, {} frames",
            recorded.len(),
            recorded.iter().map(|s| s.frames.len()).sum::<usize>()
        );
    }
    let holds: Api<IncidentHold> = Api::namespaced(client.clone(), "heusden");
    for hold in holds.list(&ListParams::default()).await.unwrap() {
        has(&hold.status.unwrap_or_default().conditions, "Placed", "False").unwrap();
    }
    Api::<Namespace>::all(client)
        .delete("heusden", &DeleteParams::default())
        .await
        .unwrap();
}
