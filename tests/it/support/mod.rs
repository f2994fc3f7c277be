//! Shared test support: settings, waiting for conditions, namespaces, the operator, and third-party tools that
//! inspect recordings.

pub mod api_gateway;
pub mod api_proxy;
pub mod audit;
pub mod cluster;
pub mod operator;
pub mod packet_counters;
pub mod pod;
pub mod port;
pub mod proxy;
pub mod reconciles;
pub mod recorded;
pub mod scene;
pub mod second_node;
pub mod settings;
pub mod silence;
pub mod tinyproxy;
pub mod tls_frontend;
pub mod tools;
pub mod volumes;
pub mod wait;
