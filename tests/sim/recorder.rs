//! Recorders: what they have in their spool, which holds they follow, and what of their uploads nobody knows. They upload
//! by the real code, and acknowledge by the real rules.

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
use super::store::Who;
use super::temper::Theme;

/// So long a recorder waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A recording that waits.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub key: Key,
    pub body: Vec<u8>,
    pub sha256: [u8; 32],
}

/// One recorder.
#[derive(Debug, Default)]
pub struct Recorder {
    pub spool: Vec<Waiting>,
    pub follows: HoldScopes,
    pub unsure: InDoubtUploads,
    /// It answers nobody.
    pub is_silent: bool,
    /// How far its clock is ahead, in seconds.
    pub ahead: i64,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Recorders {
    /// By class and source.
    pub all: BTreeMap<(Class, String), Recorder>,
    /// What they are told to follow.
    pub config: HoldScopes,
}

pub fn revision(of: &HoldScopes) -> String {
    serde_json::to_string(of).unwrap()
}

impl Recorders {
    /// What all of them follow.
    pub fn follow(&self, are_uploads_forgotten: bool) -> HoldAck {
        let says = |recorder: &Recorder| {
            let revision = revision(&self.config);
            let is_sure = are_uploads_forgotten || all_use_revision(recorder.unsure.revisions(), &revision);
            !recorder.is_silent && recorder.follows == self.config && is_sure
        };
        match self.all.values().all(says) {
            true if self.all.is_empty() => HoldAck::NoRecorders,
            true => HoldAck::Acknowledged(self.config.clone()),
            false => HoldAck::Unknown,
        }
    }
}

impl Recorders {
    /// Those that do not follow, and why.
    pub fn behind(&self) -> String {
        let (revision, mut all) = (revision(&self.config), Vec::new());
        for ((_, name), recorder) in &self.all {
            let follows = recorder.follows == self.config;
            let is_sure = all_use_revision(recorder.unsure.revisions(), &revision);
            if recorder.is_silent || !follows || !is_sure {
                let waiting = recorder.spool.len();
                let silent = recorder.is_silent;
                all.push(format!(
                    "{name} (silent {silent}, has the holds {follows}, is sure {is_sure}, {waiting} wait)"
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

/// The bucket, as the operator.
pub fn bucket() -> BucketConnection {
    BucketConnection::new(&target()).unwrap()
}

fn path(key: &Key) -> PathBuf {
    PathBuf::from(key.to_string())
}

/// One source, for ever.
pub async fn record(world: Shared, class: Class, source: String) {
    let of = (class, source);
    let simulated = Simulation {
        http: client(&world, Who::Recorder, &Arc::new(ProcessLife::default())),
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
            let is_urgent = world.is_calm && !world.recorders.all[&of].spool.is_empty();
            // What waits is tried again soon, once nothing is in its way.
            let pause = if is_urgent { 60..600 } else { 2400..12_000 };
            (world.rng.u64(pause), world.rng.u64(60..3000))
        };
        sleep(Duration::from_secs(pause)).await;
        {
            let mut world = lock(&world);
            if world.is_over() {
                return;
            }
            let now = world.now();
            let recorder = world.recorders.all.get_mut(&of).unwrap();
            // As a recorder purges its spool.
            recorder.spool.retain(|one| one.key.start() + CEILING > now);
            let start = now + SignedDuration::from_secs(recorder.ahead - i64::try_from(length).unwrap());
            recorder.spool.push(recorded(&of, start, length * 1000));
        }
        run_within(simulated.clone(), upload_spool(&world, &of, &uploader)).await;
    }
}

/// A recording as a recorder makes it.
pub fn recorded(of: &(Class, String), start: Timestamp, millis: u64) -> Waiting {
    let body = format!("{:?} {} {start} {millis}", of.0, of.1).into_bytes();
    let sha256: [u8; 32] = Sha256::digest(&body).into();
    Waiting { key: Key::new(of.0, of.1.clone(), start, millis, &sha256).unwrap(), body, sha256 }
}

async fn upload_spool(world: &Shared, of: &(Class, String), uploader: &Uploader) {
    let waiting = lock(world).recorders.all[of].spool.clone();
    for one in waiting {
        let (tag, followed, forgets) = {
            let mut world = lock(world);
            let is_untagged = world.is_broken(Mutation::RecorderIgnoresHolds);
            let recorder = world.recorders.all.get_mut(of).unwrap();
            let covers: Vec<HoldScope> = recorder.follows.values().cloned().collect();
            let covers = if is_untagged { Vec::new() } else { covers };
            (
                retention_tag(&covers, &one.key),
                revision(&recorder.follows),
                world.is_broken(Mutation::UploadsForgotten),
            )
        };
        // Until its answer comes, nobody knows.
        let note = |is_known: bool| {
            let mut world = lock(world);
            let (now, recorder) = (Instant::now().into_std(), world.recorders.all.get_mut(of).unwrap());
            if is_known {
                recorder.unsure.record_confirmation(&path(&one.key));
                recorder.spool.retain(|other| other.key != one.key);
            } else if !forgets {
                recorder.unsure.record_failure(path(&one.key), followed.clone(), now);
            }
        };
        note(false);
        let put = uploader.put_bytes(&one.key, one.body.clone(), one.sha256, tag);
        if let Ok(Ok(_)) = timeout(PATIENCE, put).await {
            note(true);
        } else {
            note(false);
            return;
        }
    }
    let mut world = lock(world);
    let now = Instant::now().into_std();
    let recorder = world.recorders.all.get_mut(of).unwrap();
    let spool: HashSet<PathBuf> = recorder.spool.iter().map(|one| path(&one.key)).collect();
    recorder.unsure.prune(|| spool, now);
}

/// Takes up what is to be followed, after a while, and now and then dies.
pub async fn configure(world: Shared, of: (Class, String)) {
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
        let (dies, changes_voice) = (world.rng.u32(0..60) == 0, world.rng.u32(0..40) == 0);
        let is_deaf = matches!(world.temper.theme, Theme::UnreachableRecorder | Theme::Overdue)
            && world.recorders.all.keys().next() == Some(&of);
        let recorder = world.recorders.all.get_mut(&of).unwrap();
        if !recorder.is_silent {
            recorder.follows = config;
        }
        if is_calm {
            recorder.is_silent = false;
        } else if changes_voice {
            recorder.is_silent = is_deaf || !recorder.is_silent;
        }
        if dies && !is_calm {
            let waiting =
                if forgets { Vec::new() } else { recorder.spool.iter().map(|one| path(&one.key)).collect() };
            recorder.unsure = InDoubtUploads::from_previous_recorder(waiting, Instant::now().into_std());
            world.say(|| format!("the recorder of {of:?} dies and begins anew"));
        }
        // What was tried long ago, and is nowhere any more, cannot arrive.
        let recorder = world.recorders.all.get_mut(&of).unwrap();
        let spool: HashSet<PathBuf> = recorder.spool.iter().map(|one| path(&one.key)).collect();
        recorder.unsure.prune(|| spool, Instant::now().into_std());
    }
}
