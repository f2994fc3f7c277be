//! A site's bucket on real stores of two makes: SeaweedFS and Ceph.

mod access;
mod adoption;
mod changes;
mod claims;
mod conformance;
mod discretion;
mod drift;
mod expected;
mod faults;
mod holds;
mod identities;
mod interrupted;
mod liar;
mod lies;
mod links;
mod many;
mod obstacles;
mod parts;
mod policies;
mod pretend;
mod principals;
mod refusals;
pub mod scene;
mod segments;
mod tampered;
mod temporary;
mod tls;
