//! Differences of a store from documented S3, and network faults.

use fastrand::Rng;

/// Order of entries in listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListingOrder {
    /// By the bytes of the keys, as documented for S3.
    Bytes,
    /// Folder by folder (SeaweedFS): `hal/1` comes before `hal-2/1`, although markers compare by bytes. Common
    /// prefixes come in the opposite order: `hal-2/` before `hal/`, and a marker past the first is past the second
    /// too.
    Tree,
}

/// Behaviour of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a difference between stores")]
pub struct StoreKind {
    pub order: ListingOrder,
    /// Whether a listing includes the marker's own key (Ceph).
    pub inclusive_marker: bool,
    /// Whether setting a legal hold changes `LastModified` (SeaweedFS).
    pub modified_moves: bool,
    /// Whether listings ignore `encoding-type=url`.
    pub ignores_encoding: bool,
    /// Whether listings replace characters that are invalid in XML by U+FFFD.
    pub mangles: bool,
    /// Whether puts ignore `If-None-Match` (Ceph).
    pub ignores_condition: bool,
    /// Whether the tags of an untagged version are answered with 404.
    pub no_such_tag_set: bool,
    /// Whether policies can match the tags of a put.
    pub knows_request_tag: bool,
    /// Maximum number of entries on a page.
    pub page: usize,
    /// Offset of the store's clock in milliseconds.
    pub clock_ahead: i64,
    /// Hours after midnight at which the lifecycle runs.
    pub lifecycle_lag: i64,
}

impl StoreKind {
    /// S3 as AWS documents it.
    pub const AWS: Self = Self {
        order: ListingOrder::Bytes,
        inclusive_marker: false,
        modified_moves: false,
        ignores_encoding: false,
        mangles: false,
        ignores_condition: false,
        no_such_tag_set: false,
        knows_request_tag: true,
        page: 1000,
        clock_ahead: 0,
        lifecycle_lag: 3,
    };
    /// Behaviour of SeaweedFS.
    pub const SEAWEEDFS: Self = Self {
        order: ListingOrder::Tree,
        modified_moves: true,
        ignores_encoding: true,
        mangles: true,
        knows_request_tag: false,
        lifecycle_lag: 0,
        ..Self::AWS
    };
    /// Behaviour of Ceph.
    pub const CEPH: Self = Self {
        inclusive_marker: true,
        ignores_condition: true,
        no_such_tag_set: true,
        lifecycle_lag: 6,
        ..Self::AWS
    };

    /// Draws one of the three, with small pages so that listings have many.
    pub fn random(rng: &mut Rng) -> Self {
        let base = *rng.choice(&[Self::AWS, Self::SEAWEEDFS, Self::CEPH]).unwrap();
        Self {
            page: *rng.choice(&[3, 5, 11, 40, 1000]).unwrap(),
            clock_ahead: rng.i64(-20_000..20_000),
            ..base
        }
    }
}

/// A fault of the network, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkFault {
    /// Nothing.
    None,
    /// The request is lost.
    Lost,
    /// The request is applied, and the response is lost.
    AnswerLost,
    /// Answered with 503 and not applied.
    SlowDown,
    /// Applied, but answered with 500.
    AppliedThenFailed,
    /// Answered with 400 by an intermediary and not applied.
    BadRequest,
    /// Half of the response arrives.
    Truncated,
    /// Applied after the client's timeout.
    Slow,
}

impl NetworkFault {
    /// Faults to draw from, repeated by their weight.
    pub const ALL: [Self; 9] = [
        Self::Lost,
        Self::AnswerLost,
        Self::AnswerLost,
        Self::SlowDown,
        Self::AppliedThenFailed,
        Self::BadRequest,
        Self::Truncated,
        Self::Slow,
        Self::Slow,
    ];
}

/// Faults, and how many of a thousand requests have one.
#[derive(Clone, Debug, Default)]
pub struct FaultRate {
    pub per_mille: u32,
    pub faults: Vec<NetworkFault>,
}

impl FaultRate {
    pub fn fault(&self, rng: &mut Rng) -> NetworkFault {
        if rng.u32(0..1000) >= self.per_mille {
            return NetworkFault::None;
        }
        rng.choice(self.faults.iter()).copied().unwrap_or(NetworkFault::None)
    }
}
