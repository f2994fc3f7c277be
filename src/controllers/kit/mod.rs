//! What all controllers share: applying, reporting, waiting, and who may write at all.

pub mod aftermath;
pub mod apply;
pub mod camera;
pub mod clock;
pub mod context;
pub mod error;
pub mod event;
pub mod fence;
pub mod lanes;
pub mod meta;
pub mod patience;
pub mod quantity;
pub mod reference;
pub mod requeue;
pub mod status;
pub mod subset;
