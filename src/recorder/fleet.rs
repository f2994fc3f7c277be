//! The cameras of this pod, one task each. A new configuration starts, ends and updates tasks. Tasks of unchanged cameras
//! continue undisturbed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::camera::task::CameraTask;
use super::context::RecorderContext;
use crate::wire::{CameraConfig, CameraFailure, RecorderConfig};

/// Wait before a task that panicked restarts.
const TASK_RESTART_DELAY: Duration = Duration::from_secs(5);

struct CameraHandle {
    config: watch::Sender<CameraConfig>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

pub struct Fleet {
    context: RecorderContext,
    shard: u32,
    members: BTreeMap<String, CameraHandle>,
    /// Removed cameras that still complete their files. Only a new camera of the same name and the end of the recorder wait
    /// for them, so a slow disk delays no other camera and no configuration.
    stopping: BTreeMap<String, JoinHandle<()>>,
    is_first_apply: bool,
}

impl Fleet {
    pub const fn new(context: RecorderContext, shard: u32) -> Self {
        Self { context, shard, members: BTreeMap::new(), stopping: BTreeMap::new(), is_first_apply: true }
    }

    /// Starts, updates and ends tasks as the configuration says, without waiting for any of them.
    pub fn apply(&mut self, config: &RecorderConfig) {
        let wanted: BTreeMap<&str, &CameraConfig> = config
            .cameras
            .iter()
            .filter(|camera| camera.shard == self.shard)
            .map(|camera| (camera.name.as_str(), camera))
            .collect();
        if std::mem::take(&mut self.is_first_apply) {
            // Cameras may have been removed while no recorder ran.
            let (state, names) = (Arc::clone(&self.context.state), wanted.keys());
            let names: BTreeSet<String> = names.map(|name| (*name).to_owned()).collect();
            tokio::spawn(async move { state.remove_all_except(&names).await });
        }
        self.stopping.retain(|_, task| !task.is_finished());
        let is_removed = |name: &String, _: &mut CameraHandle| !wanted.contains_key(name.as_str());
        for (name, member) in self.members.extract_if(.., is_removed) {
            tracing::info!(camera = name, "camera removed");
            member.stop.cancel();
            let (state, camera_name) = (Arc::clone(&self.context.state), name.clone());
            let removal = async move {
                join(&camera_name, member.task).await;
                state.remove(&camera_name);
            };
            self.stopping.insert(name, tokio::spawn(removal));
        }
        for (name, camera) in wanted {
            match self.members.get(name) {
                Some(member) => {
                    // An equal configuration must not wake the task: it would end its wait after a failure, and reset
                    // its backoff.
                    let is_changed = *member.config.borrow() != *camera;
                    if is_changed {
                        member.config.send_replace(camera.clone());
                    }
                }
                None => self.start(camera),
            }
        }
    }

    /// Ends all tasks after their files are complete.
    pub async fn stop(self) {
        // All before the first wait, so that the cameras complete their files at the same time.
        self.members.values().for_each(|member| member.stop.cancel());
        let members = self.members.into_iter().map(|(name, member)| (name, member.task));
        for (name, task) in members.chain(self.stopping) {
            join(&name, task).await;
        }
    }

    fn start(&mut self, camera: &CameraConfig) {
        let name = camera.name.clone();
        tracing::info!(camera = name, "camera added");
        let (sender, receiver) = watch::channel(camera.clone());
        let stop = CancellationToken::new();
        let (context, previous_task) = (self.context.clone(), self.stopping.remove(&name));
        let (camera_name, stopped) = (name.clone(), stop.clone());
        let task = tokio::spawn(async move {
            // Two tasks of one camera would overwrite each other's files and reports.
            if let Some(previous_task) = previous_task {
                join(&camera_name, previous_task).await;
            }
            // The stored gaps may be older than the newest segment: progress alone is stored every 30 s.
            let recorded = context.spool.newest_end(&camera_name);
            context.state.add(&camera_name, recorded, Timestamp::now()).await;
            supervise(camera_name, context, receiver, stopped).await;
        });
        self.members.insert(name, CameraHandle { config: sender, stop, task });
    }
}

/// Runs a camera's task and restarts it after a panic, so that a defect on one camera's stream neither ends its recording
/// nor reaches another camera.
async fn supervise(
    name: String,
    context: RecorderContext,
    config: watch::Receiver<CameraConfig>,
    stop: CancellationToken,
) {
    loop {
        let camera = CameraTask {
            name: name.clone(),
            context: context.clone(),
            config: config.clone(),
            stop: stop.clone(),
        };
        if tokio::spawn(camera.run()).await.is_ok() {
            return;
        }
        tracing::error!(camera = name, "the camera's task panicked: restarting it");
        context.report_failure(
            &name,
            CameraFailure::RecorderFailed,
            "internal",
            "internal error of the recorder",
        );
        tokio::select! {
            () = sleep(TASK_RESTART_DELAY) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn join(name: &str, task: JoinHandle<()>) {
    if task.await.is_err() {
        tracing::error!(camera = name, "the camera's task panicked");
    }
}

#[cfg(test)]
mod tests;
