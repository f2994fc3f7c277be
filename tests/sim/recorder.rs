//! Recorders with their spool, their applied holds, and their in-doubt uploads. They upload by the real code and
//! acknowledge by the real rules.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use toezicht::controllers::handoff::{HoldAck, HoldScopes};
use toezicht::recorder::in_doubt::{InDoubtUploads, all_use_revision};
use toezicht::recorder::upload::retention_tag;
use toezicht::rules::hold::scope::HoldScope;
use toezicht::rules::recording::key::{Class, Key};
use toezicht::storage::BucketConnection;
use toezicht::storage::s3::segments::Uploader;
use toezicht::storage::s3::simulation::{Simulation, run_within};
use toezicht::wire::{Credentials, StorageTarget};
use tokio::time::{Instant, sleep, timeout};

use super::checks::CEILING;
use super::http::{ProcessLife, Shared, client, lock};
use super::mutations::Mutation;
use super::profile::Theme;
use super::store::Actor;

/// Timeout of an upload.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A recording in the spool.
#[derive(Clone, Debug)]
pub struct SpooledSegment {
    pub key: Key,
    pub body: Vec<u8>,
    pub sha256: [u8; 32],
}

/// One recorder.
#[derive(Debug, Default)]
pub struct Recorder {
    pub spool: Vec<SpooledSegment>,
    pub applied: HoldScopes,
    pub in_doubt: InDoubtUploads,
    /// Whether it answers no request.
    pub is_silent: bool,
    /// Offset of its clock in seconds.
    pub ahead: i64,
}

/// All recorders.
#[derive(Debug, Default)]
pub struct Recorders {
    /// By class and source.
    pub all: BTreeMap<(Class, String), Recorder>,
    /// Holds in their configuration.
    pub config: HoldScopes,
}

pub fn revision(scopes: &HoldScopes) -> String {
    serde_json::to_string(scopes).unwrap()
}

impl Recorders {
    /// Returns what all recorders together acknowledge.
    pub fn acknowledgement(&self, are_uploads_forgotten: bool) -> HoldAck {
        let acknowledges = |recorder: &Recorder| {
            let revision = revision(&self.config);
            let is_sure = are_uploads_forgotten || all_use_revision(recorder.in_doubt.revisions(), &revision);
            !recorder.is_silent && recorder.applied == self.config && is_sure
        };
        match self.all.values().all(acknowledges) {
            true if self.all.is_empty() => HoldAck::NoRecorders,
            true => HoldAck::Acknowledged(self.config.clone()),
            false => HoldAck::Unknown,
        }
    }
}

impl Recorders {
    /// Describes the recorders without an acknowledgement, for the trace.
    pub fn describe_unacknowledged(&self) -> String {
        let (revision, mut all) = (revision(&self.config), Vec::new());
        for ((_, name), recorder) in &self.all {
            let applied = recorder.applied == self.config;
            let is_sure = all_use_revision(recorder.in_doubt.revisions(), &revision);
            if recorder.is_silent || !applied || !is_sure {
                let spooled = recorder.spool.len();
                let silent = recorder.is_silent;
                all.push(format!(
                    "{name} (silent {silent}, has applied {applied}, is sure {is_sure}, {spooled} in the spool)"
                ));
            }
        }
        all.join(", ")
    }
}

pub fn target() -> StorageTarget {
    StorageTarget {
        endpoint: Some("http://store.example.nl:9000".into()),
        region: "nl-1".into(),
        bucket: "bucket".into(),
        path_style: true,
        ca_pem: None,
        credentials: Credentials::access_key("id", "secret"),
        proxy: None,
    }
}

/// Connects to the bucket as the operator.
pub fn bucket() -> BucketConnection {
    BucketConnection::new(&target()).unwrap()
}

fn path(key: &Key) -> PathBuf {
    PathBuf::from(key.to_string())
}

/// Records and uploads one source until the simulation ends.
pub async fn record(world: Shared, class: Class, source: String) {
    let source_key = (class, source);
    let simulated = Simulation {
        http: client(&world, Actor::Recorder, &Arc::new(ProcessLife::default())),
        now: {
            let world = world.clone();
            Arc::new(move || lock(&world).now())
        },
        seed: lock(&world).seed,
    };
    let uploader = run_within(simulated.clone(), async { Uploader::new(&target()).unwrap() }).await;
    loop {
        let (pause, length) = {
            let world = &mut *lock(&world);
            let is_urgent = world.is_calm && !world.recorders.all[&source_key].spool.is_empty();
            // In the quiet phase the spool is uploaded soon.
            let pause = if is_urgent { 60..600 } else { 2400..12_000 };
            (world.rng.u64(pause), world.rng.u64(60..3000))
        };
        sleep(Duration::from_secs(pause)).await;
        {
            let mut world = lock(&world);
            if world.has_violations() {
                return;
            }
            let now = world.now();
            let recorder = world.recorders.all.get_mut(&source_key).unwrap();
            // Purge the spool as a recorder does.
            recorder.spool.retain(|segment| segment.key.start() + CEILING > now);
            let start = now + SignedDuration::from_secs(recorder.ahead - i64::try_from(length).unwrap());
            recorder.spool.push(make_recording(&source_key, start, length * 1000));
        }
        run_within(simulated.clone(), upload_spool(&world, &source_key, &uploader)).await;
    }
}

/// Makes a recording of a source.
pub fn make_recording(source_key: &(Class, String), start: Timestamp, millis: u64) -> SpooledSegment {
    let body = format!("{:?} {} {start} {millis}", source_key.0, source_key.1).into_bytes();
    let sha256: [u8; 32] = Sha256::digest(&body).into();
    SpooledSegment {
        key: Key::new(source_key.0, source_key.1.clone(), start, millis, &sha256).unwrap(),
        body,
        sha256,
    }
}

async fn upload_spool(world: &Shared, source_key: &(Class, String), uploader: &Uploader) {
    let spooled = lock(world).recorders.all[source_key].spool.clone();
    for segment in spooled {
        let (tag, followed, forgets) = {
            let mut world = lock(world);
            let is_untagged = world.is_broken(Mutation::RecorderIgnoresHolds);
            let recorder = world.recorders.all.get_mut(source_key).unwrap();
            let scopes: Vec<HoldScope> = recorder.applied.values().cloned().collect();
            let scopes = if is_untagged { Vec::new() } else { scopes };
            (
                retention_tag(&scopes, &segment.key),
                revision(&recorder.applied),
                world.is_broken(Mutation::UploadsForgotten),
            )
        };
        // The upload is in doubt until its response arrives.
        let note = |is_known: bool| {
            let mut world = lock(world);
            let (now, recorder) =
                (Instant::now().into_std(), world.recorders.all.get_mut(source_key).unwrap());
            if is_known {
                recorder.in_doubt.record_confirmation(&path(&segment.key));
                recorder.spool.retain(|other| other.key != segment.key);
            } else if !forgets {
                let lead = Some(SignedDuration::from_secs(recorder.ahead));
                recorder.in_doubt.record_failure(path(&segment.key), followed.clone(), now, lead);
            }
        };
        note(false);
        let put = uploader.put_bytes(&segment.key, segment.body.clone(), segment.sha256, tag);
        if let Ok(Ok(_)) = timeout(UPLOAD_TIMEOUT, put).await {
            note(true);
        } else {
            note(false);
            return;
        }
    }
    let mut world = lock(world);
    let now = Instant::now().into_std();
    let recorder = world.recorders.all.get_mut(source_key).unwrap();
    let spool: HashSet<PathBuf> = recorder.spool.iter().map(|segment| path(&segment.key)).collect();
    recorder.in_doubt.prune(|| spool, now);
}

/// Applies the configuration after a pause, and sometimes crashes.
pub async fn configure(world: Shared, source_key: (Class, String)) {
    loop {
        let pause = {
            let world = &mut *lock(&world);
            match (world.is_calm, world.rng.u32(0..4)) {
                (true, _) => world.rng.u64(5..40),
                (_, 0) => world.rng.u64(60..4000),
                _ => world.rng.u64(5..60),
            }
        };
        sleep(Duration::from_secs(pause)).await;
        let mut world = lock(&world);
        let world = &mut *world;
        let (config, is_calm) = (world.recorders.config.clone(), world.is_calm);
        let forgets = world.is_broken(Mutation::SpoolForgotten);
        let (crashes, changes_reachability) = (world.rng.u32(0..60) == 0, world.rng.u32(0..40) == 0);
        let is_unreachable = matches!(world.profile.theme, Theme::UnreachableRecorder | Theme::Overdue)
            && world.recorders.all.keys().next() == Some(&source_key);
        let recorder = world.recorders.all.get_mut(&source_key).unwrap();
        if !recorder.is_silent {
            recorder.applied = config;
        }
        if is_calm {
            recorder.is_silent = false;
        } else if changes_reachability {
            recorder.is_silent = is_unreachable || !recorder.is_silent;
        }
        if crashes && !is_calm {
            let spooled = if forgets {
                Vec::new()
            } else {
                recorder.spool.iter().map(|segment| path(&segment.key)).collect()
            };
            recorder.in_doubt = InDoubtUploads::from_previous_recorder(spooled, Instant::now().into_std());
            world.log_trace(|| format!("the recorder of {source_key:?} crashes and restarts"));
        }
        // An old upload that is no longer in the spool cannot arrive any more.
        let recorder = world.recorders.all.get_mut(&source_key).unwrap();
        let spool: HashSet<PathBuf> = recorder.spool.iter().map(|segment| path(&segment.key)).collect();
        recorder.in_doubt.prune(|| spool, Instant::now().into_std());
    }
}
