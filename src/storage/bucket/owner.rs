//! The owner of a bucket: `ledger/owner.json`. The first claim wins, which on a versioned bucket is the oldest version. So two
//! clusters agree even on a store without conditional puts.

use aws_sdk_s3::primitives::ByteStream;
use serde::{Deserialize, Serialize};

use crate::rules::VersionRef;
use crate::storage::s3::send::send;
use crate::storage::s3::{BucketClient, StoreError, objects};

const KEY: &str = "ledger/owner.json";

/// A Site's claim to a bucket.
///
/// Cluster, namespace and name identify the Site. A Site that was deleted (its bucket stays) and re-created has another UID and
/// the same claim: a namespace is one tenant, and grants name it. A cluster that replaces another one needs the old
/// `clusterId` in its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// By default the UID of the namespace `kube-system`.
    pub cluster_id: String,
    pub namespace: String,
    pub site: String,
    /// UID of the Site that claimed first, for people to read.
    pub uid: String,
}

impl Claim {
    /// Returns whether two claims are of one Site, even if it was re-created.
    pub fn is_of_same_site(&self, other: &Self) -> bool {
        let Self { cluster_id, namespace, site, uid: _ } = self;
        *cluster_id == other.cluster_id && *namespace == other.namespace && *site == other.site
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Unclaimed,
    ThisSite,
    OtherSite(Claimant),
}

/// Another Site that claimed a bucket, as far as this Site's tenant may know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimant {
    /// A Site of the same namespace, which is the same tenant.
    SameNamespace { site: String },
    /// A Site of another namespace. Its name is a secret of its tenant.
    SameCluster,
    /// A Site of another cluster, or of this one before its `clusterId` changed.
    OtherCluster,
    /// The claim is not readable, such as one of a later version.
    Unknown,
}

pub(crate) async fn read_owner(store: &BucketClient, claim: &Claim) -> Result<Owner, StoreError> {
    let versions = objects::list_versions(store, KEY).await?;
    // Every store lists the newest version of a key first. A delete marker is no claim, and does not undo one.
    let Some(first) = versions.iter().rfind(|version| version.key == KEY && !version.is_marker) else {
        return Ok(Owner::Unclaimed);
    };
    let owner = objects::read_json(store, KEY, Some(&first.id)).await?;
    Ok(evaluate(owner.as_ref(), claim))
}

/// Returns the owner by the first claim. An unreadable claim (`None`) counts as another Site's, so that no bucket is taken on a
/// guess.
fn evaluate(owner: Option<&Claim>, claim: &Claim) -> Owner {
    let Some(owner) = owner else {
        return Owner::OtherSite(Claimant::Unknown);
    };
    if owner.is_of_same_site(claim) {
        return Owner::ThisSite;
    }
    Owner::OtherSite(if owner.cluster_id != claim.cluster_id {
        Claimant::OtherCluster
    } else if owner.namespace == claim.namespace && is_object_name(&owner.site) {
        Claimant::SameNamespace { site: owner.site.clone() }
    } else {
        Claimant::SameCluster
    })
}

/// Returns whether the name can be that of an object, so that no other text of a bucket gets into a status.
fn is_object_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    (1..=253).contains(&name.len()) && name.bytes().all(is_allowed)
}

/// Claims the bucket, then reads its owner.
pub(crate) async fn claim(store: &BucketClient, claim: &Claim) -> Result<Owner, StoreError> {
    let written = match put_claim(store, claim, Some("*")).await {
        // The store has no conditional puts. The oldest version wins without them, too.
        Err(error) if error.rejects_form() => put_claim(store, claim, None).await?,
        Err(error) if error.has_status(412) => None,
        written => written?,
    };
    // Read even after a successful put: without conditions, another Site's older claim counts.
    let owner = read_owner(store, claim).await?;
    if let (Owner::OtherSite(_), Some(id)) = (&owner, written) {
        // Another Site was faster by a moment: remove the late claim from its bucket.
        objects::delete_version(store, &VersionRef { key: KEY.into(), id, is_marker: false }).await?;
    }
    Ok(owner)
}

/// Writes the claim. Returns the id of its version.
async fn put_claim(
    store: &BucketClient,
    claim: &Claim,
    if_none_match: Option<&str>,
) -> Result<Option<String>, StoreError> {
    let bytes = serde_json::to_vec_pretty(claim).unwrap_or_default();
    let (body, condition) = (ByteStream::from(bytes), if_none_match.map(str::to_owned));
    let answer = send!(
        store,
        "PutObject",
        put_object().key(KEY).content_type("application/json").set_if_none_match(condition).body(body)
    )?;
    Ok(answer.version_id().map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::s3::stub::{Stub, error_answer};

    fn claim() -> Claim {
        Claim { cluster_id: "c".into(), namespace: "heusden".into(), site: "pool".into(), uid: "1".into() }
    }

    #[test]
    fn recreated_site_keeps_its_bucket() {
        let again = Claim { uid: "2".into(), ..claim() };
        assert_eq!(evaluate(Some(&claim()), &again), Owner::ThisSite);
    }

    #[test]
    fn other_sites_are_not_the_owner() {
        for (other, claimant) in [
            (Claim { cluster_id: "d".into(), ..claim() }, Claimant::OtherCluster),
            // Also of another cluster: a Site of the same name is no Site of this namespace.
            (Claim { cluster_id: "d".into(), site: "hall".into(), ..claim() }, Claimant::OtherCluster),
            (Claim { namespace: "vlijmen".into(), ..claim() }, Claimant::SameCluster),
            (Claim { site: "hall".into(), ..claim() }, Claimant::SameNamespace { site: "hall".into() }),
            (Claim { site: "Not a\nname".into(), ..claim() }, Claimant::SameCluster),
            (Claim { site: "a".repeat(254), ..claim() }, Claimant::SameCluster),
        ] {
            assert_eq!(evaluate(Some(&other), &claim()), Owner::OtherSite(claimant), "{other:?}");
        }
        assert_eq!(evaluate(None, &claim()), Owner::OtherSite(Claimant::Unknown));
    }

    #[tokio::test]
    async fn claim_retries_unconditionally_without_conditional_puts() {
        let ours = serde_json::to_string(&claim()).unwrap();
        let stub = Stub::start(move |request| match (request.method.as_str(), request.query.contains("versions")) {
            ("PUT", _) if request.header("if-none-match").is_some() => error_answer(501, "NotImplemented"),
            ("GET", true) => {
                let version = format!("<Version><Key>{KEY}</Key><VersionId>1</VersionId><LastModified>2026-11-24T12:00:00.000Z</LastModified></Version>");
                (200, format!("<ListVersionsResult><IsTruncated>false</IsTruncated>{version}</ListVersionsResult>"))
            }
            ("GET", false) => (200, ours.clone()),
            _ => (200, String::new()),
        })
        .await;
        assert_eq!(super::claim(&stub.store(), &claim()).await.unwrap(), Owner::ThisSite);
        let puts = stub.take_requests().into_iter().filter(|request| request.method == "PUT");
        let conditions: Vec<bool> = puts.map(|request| request.header("if-none-match").is_some()).collect();
        assert_eq!(conditions, [true, false]);
    }
}
