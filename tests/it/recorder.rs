//! The recorder as a process of its own, against real cameras and a real S3 server: killed, stopped, told
//! otherwise, cut off from camera and store. What it recorded is accounted for frame by frame.

mod bench;
mod cameras;
mod interrupted;
mod permitted;
mod reloaded;
mod served;
mod steady;
mod store;
