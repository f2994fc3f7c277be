//! The Heusden example on a real cluster: runs `make demo` and checks its result.

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use toezicht::api::{Camera, IncidentHold, Site};

use crate::support::cluster;
use crate::support::operator;
use crate::support::recorded::{Bucket, keys, segments_with_gaps};
use crate::support::scene::has;
use crate::support::settings::S3Server;
use crate::support::tools::run;
use crate::support::wait::{HANG, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn example_records_every_frame_once() {
    let _operator = operator::shared().await;
    println!("{}", run("env", &["-u", "TOEZICHT_TESTBED_UNFINISHED", "tests/testbed/demo/run"], None).await);
    let client = cluster::client().await;
    let sites: Api<Site> = Api::namespaced(client.clone(), "heusden");
    let cameras: Api<Camera> = Api::namespaced(client.clone(), "heusden");
    let sites = sites.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(sites.len(), 5, "the five sites of article 2");

    for site in &sites {
        let status = site.status.as_ref().expect("a status");
        for condition in ["Accepted", "Permitted", "StorageEnforced", "Ready"] {
            has(&status.conditions, condition, "True")
                .unwrap_or_else(|conditions| panic!("{}: {conditions}", site.name_any()));
        }
        // Excluding administrators needs encryption, which this version does not have. The Site must report that.
        has(&status.conditions, "AdministratorsExcluded", "False").unwrap();
    }
    for camera in cameras.list(&ListParams::default()).await.unwrap().items {
        let site = sites.iter().find(|s| s.name_any() == camera.spec.site_ref.name).expect("its site");
        let bucket = Bucket { server: S3Server::demo(), name: site.spec.storage.bucket.clone() };
        let name = camera.name_any();
        eventually(&format!("two segments of {name}"), HANG, || async {
            let count = keys(&bucket, &name).await.len();
            if count >= 2 { Ok(()) } else { Err(format!("{count}")) }
        })
        .await;
        let (recorded, gaps) = segments_with_gaps(&bucket, &name, 0).await;
        assert_eq!(gaps, [], "{name}: frames are missing");
        println!(
            "{name}: {} segments, {} frames",
            recorded.len(),
            recorded.iter().map(|s| s.frames.len()).sum::<usize>()
        );
    }
    example_hold_reports_no_recordings(&client).await;
    Api::<Namespace>::all(client).delete("heusden", &DeleteParams::default()).await.unwrap();
}

/// Applies the example's hold as a user would, and resolves it: an open hold cannot be deleted.
async fn example_hold_reports_no_recordings(client: &Client) {
    run("kubectl", &["-n", "heusden", "apply", "-f", "examples/heusden/hold.example.yaml"], None).await;
    let holds: Api<IncidentHold> = Api::namespaced(client.clone(), "heusden");
    let name = "2026-0412";
    eventually("the hold is reconciled", HANG, || async {
        let hold = holds.get(name).await.map_err(|e| e.to_string())?;
        let conditions = hold.status.unwrap_or_default().conditions;
        has(&conditions, "Accepted", "True")?;
        has(&conditions, "Placed", "False")
    })
    .await;
    let resolved = serde_json::json!({"spec": {"state": "Resolved", "resolution": {
        "time": jiff::Timestamp::now().to_string(), "by": "Gemeentesecretaris", "outcome": "NothingVisible",
    }}});
    holds.patch(name, &PatchParams::default(), &Patch::Merge(resolved)).await.unwrap();
}
