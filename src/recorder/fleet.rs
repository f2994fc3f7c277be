//! The cameras of this pod: one task each. A new configuration starts, ends and tells tasks; one that is as
//! before hears nothing of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::camera::{Camera, Shared};
use crate::contract::{CameraConfig, CameraState, GapCause, RecorderConfig};

/// How long a task that failed inside waits before it is started again.
const AGAIN: Duration = Duration::from_secs(5);

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
    /// Cameras that were removed, as long as they complete their files. Only one of the same name waits for
    /// them, and the end: a disk that hangs holds up no other camera and no configuration.
    leaving: BTreeMap<String, JoinHandle<()>>,
    is_new: bool,
}

impl Fleet {
    /// No cameras yet.
    pub const fn new(common: Shared, shard: u32) -> Self {
        Self { shared: common, shard, members: BTreeMap::new(), leaving: BTreeMap::new(), is_new: true }
    }

    /// Makes the cameras those of the configuration. Waits for none of them.
    pub fn apply(&mut self, config: &RecorderConfig) {
        let wanted: BTreeMap<&str, &CameraConfig> = config
            .cameras
            .iter()
            .filter(|camera| camera.shard == self.shard)
            .map(|camera| (camera.name.as_str(), camera))
            .collect();
        if std::mem::take(&mut self.is_new) {
            // What is kept of cameras that went while no recorder ran.
            let (board, names) = (Arc::clone(&self.shared.board), wanted.keys());
            let names: BTreeSet<String> = names.map(|name| (*name).to_owned()).collect();
            tokio::spawn(async move { board.forget_all_but(&names).await });
        }
        self.leaving.retain(|_, task| !task.is_finished());
        let gone = |name: &String, _: &mut Member| !wanted.contains_key(name.as_str());
        for (name, member) in self.members.extract_if(.., gone) {
            tracing::info!(camera = name, "camera removed");
            member.stop.cancel();
            let (board, of) = (Arc::clone(&self.shared.board), name.clone());
            let leaves = async move {
                join(&of, member.task).await;
                board.remove(&of);
            };
            self.leaving.insert(name, tokio::spawn(leaves));
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
                None => self.start(camera),
            }
        }
    }

    /// Ends all cameras, their files completed.
    pub async fn stop(self) {
        self.members.values().for_each(|member| member.stop.cancel());
        let members = self.members.into_iter().map(|(name, member)| (name, member.task));
        for (name, task) in members.chain(self.leaving) {
            join(&name, task).await;
        }
    }

    fn start(&mut self, camera: &CameraConfig) {
        let name = camera.name.clone();
        tracing::info!(camera = name, "camera added");
        let (sender, receiver) = watch::channel(camera.clone());
        let stop = CancellationToken::new();
        let (shared, before) = (self.shared.clone(), self.leaving.remove(&name));
        let (of, stopped) = (name.clone(), stop.clone());
        let task = tokio::spawn(async move {
            // Two tasks of one camera would write over each other's files and reports.
            if let Some(before) = before {
                join(&of, before).await;
            }
            let recorded = shared.spool.newest_end(&of);
            shared.board.add(&of, recorded, Timestamp::now()).await;
            keep_alive(of, shared, receiver, stopped).await;
        });
        self.members.insert(name, Member { config: sender, stop, task });
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
        let camera =
            Camera { name: name.clone(), shared: shared.clone(), config: config.clone(), stop: stop.clone() };
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

#[cfg(test)]
#[path = "fleet_tests.rs"]
mod tests;
