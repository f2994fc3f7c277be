//! The cameras of this pod: one task each. A new configuration starts, ends and tells tasks; one that is as
//! before hears nothing of it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::camera::{Camera, Shared};
use crate::contract::{CameraConfig, CameraState, GapCause, RecorderConfig};

/// How long a task that failed inside waits before it is started again.
const AGAIN: Duration = Duration::from_secs(5);
/// How long a camera that was removed may take to complete its file before the rest goes on.
const LEAVE: Duration = Duration::from_secs(5);

struct Member {
    config: watch::Sender<CameraConfig>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// The cameras of this pod.
pub struct Fleet {
    shared: Shared,
    shard: u32,
    members: BTreeMap<String, Member>,
}

impl Fleet {
    /// No cameras yet.
    pub const fn new(common: Shared, shard: u32) -> Self {
        Self {
            shared: common,
            shard,
            members: BTreeMap::new(),
        }
    }

    /// Makes the cameras those of the configuration.
    pub async fn apply(&mut self, config: &RecorderConfig) {
        let wanted: BTreeMap<&str, &CameraConfig> = config
            .cameras
            .iter()
            .filter(|camera| camera.shard == self.shard)
            .map(|camera| (camera.name.as_str(), camera))
            .collect();
        // In two passes, so that the new ones do not wait for the files of the old ones.
        let gone: Vec<String> = self
            .members
            .keys()
            .filter(|name| !wanted.contains_key(name.as_str()))
            .cloned()
            .collect();
        let ended: Vec<(String, Member)> = gone
            .into_iter()
            .filter_map(|name| self.members.remove_entry(&name))
            .collect();
        for (_, member) in &ended {
            member.stop.cancel();
        }
        for (name, camera) in wanted {
            match self.members.get(name) {
                Some(member) => {
                    // Only what differs is news.
                    member.config.send_if_modified(|known| {
                        let differs = known != camera;
                        if differs {
                            known.clone_from(camera);
                        }
                        differs
                    });
                }
                None => self.start(camera).await,
            }
        }
        for (name, member) in ended {
            tracing::info!(camera = name, "camera removed");
            // A hung disk holds up what else is to be done no longer than this.
            if timeout(LEAVE, join(&name, member.task)).await.is_err() {
                tracing::error!(camera = name, "the camera's task does not end");
            }
            self.shared.board.remove(&name).await;
        }
    }

    /// Ends all cameras, their files completed.
    pub async fn stop(self) {
        self.members.values().for_each(|member| member.stop.cancel());
        for (name, member) in self.members {
            join(&name, member.task).await;
        }
    }

    async fn start(&mut self, camera: &CameraConfig) {
        let name = &camera.name;
        tracing::info!(camera = name, "camera added");
        self.shared
            .board
            .add(name, self.shared.spool.newest_end(name), Timestamp::now())
            .await;
        let (sender, receiver) = watch::channel(camera.clone());
        let stop = CancellationToken::new();
        let task = tokio::spawn(keep_alive(
            name.clone(),
            self.shared.clone(),
            receiver,
            stop.clone(),
        ));
        self.members.insert(
            name.clone(),
            Member {
                config: sender,
                stop,
                task,
            },
        );
    }
}

/// Runs a camera's task, again when it fails inside: no fault of ours in one camera's stream ends it for good,
/// or reaches another.
async fn keep_alive(
    name: String,
    shared: Shared,
    config: watch::Receiver<CameraConfig>,
    stop: CancellationToken,
) {
    loop {
        let camera = Camera {
            name: name.clone(),
            shared: shared.clone(),
            config: config.clone(),
            stop: stop.clone(),
        };
        if tokio::spawn(camera.run()).await.is_ok() {
            return;
        }
        let now = Timestamp::now();
        tracing::error!(camera = name, "the camera's task failed inside: started again");
        shared.metrics.failure(&name, "inside");
        shared.board.error(&name, "the recorder failed inside");
        shared.board.set_state(&name, CameraState::Disconnected, now);
        shared.board.gap(&name, GapCause::Disconnected, now);
        tokio::select! {
            () = sleep(AGAIN) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn join(name: &str, task: JoinHandle<()>) {
    if task.await.is_err() {
        tracing::error!(camera = name, "the camera's task ended badly");
    }
}
