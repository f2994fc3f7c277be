//! What the tests share: settings, waiting for conditions, namespaces, the operator, and tools of another
//! make to look at what was recorded.

pub mod audit;
pub mod cluster;
pub mod counted;
pub mod front;
pub mod looks;
pub mod operator;
pub mod pod;
pub mod port;
pub mod proxy;
pub mod recorded;
pub mod scene;
pub mod settings;
pub mod tinyproxy;
pub mod tools;
pub mod wait;
