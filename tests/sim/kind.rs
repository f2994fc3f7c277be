//! How a store differs from S3 as it is documented, and how it fails.

use fastrand::Rng;

/// The order in which pages come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListingOrder {
    /// By the bytes of the keys, as S3 says.
    Bytes,
    /// Folder by folder, so that `hal/1` comes before `hal-2/1`, though the marker counts by bytes. Of folders it is the other way
    /// round: `hal-2/` comes before `hal/`, and a marker after the one is after the other, too (SeaweedFS).
    Tree,
}

/// What a store keeps of S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a thing in which stores differ")]
pub struct Kind {
    pub order: ListingOrder,
    /// A listing begins with the marker's own key (Ceph).
    pub inclusive_marker: bool,
    /// `LastModified` is when the legal hold was last changed (SeaweedFS).
    pub modified_moves: bool,
    /// Listings are never encoded as URL.
    pub ignores_encoding: bool,
    /// Characters that XML cannot have are listed as U+FFFD.
    pub mangles: bool,
    /// A put with `If-None-Match` is taken though there is one (Ceph).
    pub ignores_condition: bool,
    /// A version without tags is answered with 404.
    pub no_such_tag_set: bool,
    /// Policies know the tag of a put.
    pub knows_request_tag: bool,
    /// The most of a page.
    pub page: usize,
    /// How far the store's clock is ahead, in milliseconds.
    pub clock_ahead: i64,
    /// So long after its midnight its lifecycle runs, in hours.
    pub lifecycle_lag: i64,
}

impl Kind {
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
    /// As SeaweedFS does it.
    pub const SEAWEEDFS: Self = Self {
        order: ListingOrder::Tree,
        modified_moves: true,
        ignores_encoding: true,
        mangles: true,
        knows_request_tag: false,
        lifecycle_lag: 0,
        ..Self::AWS
    };
    /// As Ceph does it.
    pub const CEPH: Self = Self {
        inclusive_marker: true,
        ignores_condition: true,
        no_such_tag_set: true,
        lifecycle_lag: 6,
        ..Self::AWS
    };

    /// One of the three, with small pages, so that there are many.
    pub fn drawn(rng: &mut Rng) -> Self {
        let base = *rng.choice(&[Self::AWS, Self::SEAWEEDFS, Self::CEPH]).unwrap();
        Self {
            page: *rng.choice(&[3, 5, 11, 40, 1000]).unwrap(),
            clock_ahead: rng.i64(-20_000..20_000),
            ..base
        }
    }
}

/// What became of a request on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkFault {
    /// Nothing.
    None,
    /// It never arrived.
    Lost,
    /// It was applied, and the answer was lost.
    AnswerLost,
    /// 503, and not applied.
    SlowDown,
    /// 500, though it was applied.
    AppliedThenFailed,
    /// 400 from something in front of the store, and not applied.
    BadRequest,
    /// Half of the answer came.
    Truncated,
    /// It takes longer than anybody waits, and is applied.
    Slow,
}

impl NetworkFault {
    /// Of all, as often as they should be: each is drawn as often as it stands here.
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

/// What goes wrong, and how often in a thousand.
#[derive(Clone, Debug, Default)]
pub struct FaultRate {
    pub per_mille: u32,
    pub mishaps: Vec<NetworkFault>,
}

impl FaultRate {
    pub fn mishap(&self, rng: &mut Rng) -> NetworkFault {
        if rng.u32(0..1000) >= self.per_mille {
            return NetworkFault::None;
        }
        rng.choice(self.mishaps.iter()).copied().unwrap_or(NetworkFault::None)
    }
}
