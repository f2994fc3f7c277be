//! The recorder as a process, with real RTSP cameras and a real S3 server: killed, stopped, reconfigured, cut off
//! from camera and store. Its recordings are checked frame by frame.

pub mod cameras;
mod fixture;
mod interrupted;
mod permitted;
mod reloaded;
mod served;
mod store_outage;
mod undisturbed;
