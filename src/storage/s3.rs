//! S3 client: connections, credentials, listings, single objects, and checks of answers.

pub(crate) mod advice;
pub(crate) mod client;
pub mod connection;
pub(crate) mod content_md5;
pub(crate) mod credentials;
pub(crate) mod entry_cache;
pub mod error;
pub mod http_clients;
pub mod in_doubt_requests;
pub(crate) mod listing;
pub(crate) mod objects;
pub(crate) mod protection;
pub mod proxy;
pub mod request_counts;
pub(crate) mod request_each;
pub(crate) mod response_limit;
pub mod segments;
pub(crate) mod send;
#[doc(hidden)]
pub mod simulation;
pub(crate) mod store_clock;
#[cfg(test)]
pub(crate) mod stub;
pub(crate) mod target;
pub(crate) mod truncation;

pub(crate) use self::client::BucketClient;
pub use self::connection::{BucketConnection, verify_ca};
pub use self::error::StoreError;
pub use self::http_clients::HttpClients;
pub(crate) use self::in_doubt_requests::InDoubtRequests;
pub(crate) use self::listing::{ListQuery, list_page};
pub use self::store_clock::DecisionTime;
pub use self::target::TargetError;
