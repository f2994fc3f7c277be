use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use jiff::SignedDuration;

use super::*;
use crate::recorder::confirmed_clock::ConfirmedClock;
use crate::rules::Window;

fn second(n: i64) -> Timestamp {
    Timestamp::from_second(n).unwrap()
}

async fn spool(limit: u64) -> (tempfile::TempDir, Arc<Spool>) {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path().to_owned()).await.unwrap();
    spool.set_limit(limit);
    (folder, spool)
}

/// Ages by a confirmed time.
fn age_limit(ceiling: i64, confirmed: i64) -> AgeLimit {
    let (clock, now) = (ConfirmedClock::default(), Instant::now());
    clock.read_store(second(confirmed), now);
    AgeLimit {
        ceiling: SignedDuration::from_secs(ceiling),
        confirmed: clock.time_at(now),
        wall: second(confirmed),
        now,
    }
}

/// Returns the next segment, whatever its age.
fn take_next(spool: &Spool) -> Option<Closed> {
    spool.take_next(UploadLane::Oldest, &age_limit(i64::MAX, 0))
}

/// Returns the spool of the next recorder.
async fn reopen(folder: &tempfile::TempDir, spool: Arc<Spool>) -> Arc<Spool> {
    let limit = spool.status().limit;
    drop(spool);
    let spool = Spool::open(folder.path().to_owned()).await.unwrap();
    spool.set_limit(limit);
    spool
}

async fn write_segment(spool: &Arc<Spool>, start: i64, bytes: usize) -> Closed {
    write_segment_of(spool, "hal", start, bytes).await
}

async fn write_segment_of(spool: &Arc<Spool>, camera: &str, start: i64, bytes: usize) -> Closed {
    let mut writer =
        SegmentWriter::begin(Arc::clone(spool), camera, second(start), vec![1; bytes / 2]).await.unwrap();
    writer.append(vec![2; bytes - bytes / 2]).await.unwrap();
    writer.close(second(start), second(start + 10)).await.unwrap()
}

#[tokio::test]
async fn segment_waits_until_upload_is_confirmed() {
    let (_folder, spool) = spool(1000).await;
    let one = write_segment(&spool, 10, 100).await;
    let two = write_segment(&spool, 20, 50).await;
    assert_eq!(spool.status(), SpoolStatus { segments: 2, unrecovered: 0, bytes: 150, limit: 1000 });
    assert_eq!(take_next(&spool).as_ref(), Some(&one));
    assert_eq!(take_next(&spool).as_ref(), Some(&two));
    assert_eq!(take_next(&spool), None);
    spool.put_back(&one, None);
    assert_eq!(take_next(&spool).as_ref(), Some(&one));
    assert_eq!(fs::read(spool.path(&one)).unwrap().len(), 100);
    spool.remove(&one).await.unwrap();
    assert!(!spool.path(&one).exists());
    assert_eq!(spool.status(), SpoolStatus { segments: 1, unrecovered: 0, bytes: 50, limit: 1000 });
}

#[tokio::test]
async fn close_waits_for_its_turn_to_sync() {
    let (_folder, spool) = spool(1000).await;
    let blocked = spool.block_syncs().await;
    let closing: Vec<_> = (0..10)
        .map(|number| {
            let spool = Arc::clone(&spool);
            tokio::spawn(async move { write_segment(&spool, 10 * number, 10).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let waiting = spool.status();
    assert_eq!((waiting.segments, waiting.bytes), (0, 100), "files in progress count as the spool's content");
    drop(blocked);
    for closed in closing {
        closed.await.unwrap();
    }
    assert_eq!(spool.status(), SpoolStatus { segments: 10, bytes: 100, limit: 1000, unrecovered: 0 });
}

#[tokio::test]
async fn waiting_segment_survives_restart() {
    use sha2::{Digest, Sha256};
    let (folder, spool) = spool(1000).await;
    let one = write_segment(&spool, 10, 100).await;
    let again = reopen(&folder, spool).await;
    assert_eq!(take_next(&again).as_ref(), Some(&one));
    let bytes = fs::read(again.path(&one)).unwrap();
    assert_eq!(one.sha256, <[u8; 32]>::from(Sha256::digest(bytes)));
    assert_eq!(again.newest_end("hal"), Some(second(20)));
}

#[tokio::test]
async fn full_spool_evicts_oldest_and_reports_it() {
    let (_folder, spool) = spool(250).await;
    let one = write_segment(&spool, 10, 100).await;
    let two = write_segment(&spool, 20, 100).await;
    let three = write_segment(&spool, 30, 100).await;
    assert_eq!(spool.take_evicted(), std::slice::from_ref(&one));
    assert!(!spool.path(&one).exists() && spool.path(&two).exists() && spool.path(&three).exists());
    assert_eq!(spool.status().bytes, 200);
}

#[tokio::test]
async fn full_spool_rejects_writes_when_nothing_can_be_evicted() {
    let (_folder, spool) = spool(100).await;
    let mut writer = SegmentWriter::begin(Arc::clone(&spool), "hal", second(10), vec![0; 60]).await.unwrap();
    assert!(matches!(writer.append(vec![0; 60]).await, Err(SpoolError::Full)));
    assert!(!spool.has_room(60) && spool.has_room(40));
    // The earlier fragments stay.
    let closed = writer.close(second(10), second(11)).await.unwrap();
    assert_eq!(closed.bytes, 60);
    assert_eq!(fs::metadata(spool.path(&closed)).unwrap().len(), 60);
}

#[tokio::test]
async fn purge_removes_segment_past_ceiling() {
    let (folder, spool) = spool(1000).await;
    let one = write_segment(&spool, 10, 100).await;
    let two = write_segment(&spool, 50, 100).await;
    // This process recorded them just now, so the clock that gave their times was wrong.
    assert_eq!(spool.purge(&age_limit(60, 100)).await, []);
    let spool = reopen(&folder, spool).await;
    assert_eq!(spool.purge(&age_limit(60, 100)).await, std::slice::from_ref(&one));
    assert!(!spool.path(&one).exists() && spool.path(&two).exists());
}

#[tokio::test]
async fn wall_clock_alone_neither_purges_nor_uploads() {
    let (folder, spool) = spool(1000).await;
    let old = write_segment(&spool, 10, 100).await;
    let young = write_segment(&spool, 90, 100).await;
    let spool = reopen(&folder, spool).await;
    let unconfirmed = AgeLimit { confirmed: None, ..age_limit(60, 100) };
    assert_eq!(spool.purge(&unconfirmed).await, []);
    assert_eq!(spool.take_next(UploadLane::Newest, &unconfirmed).as_ref(), Some(&young));
    assert_eq!(spool.take_next(UploadLane::Newest, &unconfirmed), None);
    assert_eq!(spool.status().segments, 2, "the spool is not empty");
    // The clock was ahead: by the store's time, the segment is young.
    assert_eq!(spool.take_next(UploadLane::Held, &age_limit(60, 20)).as_ref(), Some(&old));
}

#[tokio::test]
async fn foreign_and_damaged_files_are_tolerated() {
    let folder = tempfile::tempdir().unwrap();
    let hal = folder.path().join("video/hal");
    fs::create_dir_all(hal.join("folder.part")).unwrap();
    fs::write(folder.path().join("video/file"), b"x").unwrap();
    fs::write(hal.join("0000000000001.part"), b"").unwrap();
    fs::write(hal.join("0000000000002.part"), b"garbage that is no MP4 file at all").unwrap();
    fs::write(hal.join("notes.txt"), b"x").unwrap();
    let spool = Spool::open(folder.path().to_owned()).await.unwrap();
    // Until they are recovered, the spool is not empty.
    assert_ne!(spool.status().bytes, 0);
    assert_eq!(spool.status().unrecovered, 2);
    for _ in 0..2 {
        assert_eq!(spool.recover_orphan().await, Some(OrphanRecovery::Empty));
    }
    assert_eq!(spool.recover_orphan().await, None);
    assert_eq!((spool.status().segments, spool.status().bytes, spool.status().unrecovered), (0, 0, 0));
    assert!(hal.join("notes.txt").exists());
    assert!(!hal.join("0000000000001.part").exists(), "it has no complete fragment");
}

/// Returns a spool with a file that could not be read, and is readable again. It is at the path.
async fn spool_with_unreadable_part(content: &[u8]) -> (tempfile::TempDir, Arc<Spool>, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let part = folder.path().join("video/hal/0000000000002.part");
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, content).unwrap();
    let spool = Spool::open(folder.path().to_owned()).await.unwrap();
    let aside = folder.path().join("aside");
    fs::rename(&part, &aside).unwrap();
    assert_eq!(spool.recover_orphan().await, Some(OrphanRecovery::Unreadable));
    assert_eq!(spool.recover_orphan().await, None, "not at once");
    fs::rename(&aside, &part).unwrap();
    (folder, spool, part)
}

#[tokio::test]
async fn unreadable_part_is_purged_past_ceiling() {
    let (_folder, spool, part) = spool_with_unreadable_part(b"garbage that is no MP4 file at all").await;
    assert_ne!(spool.status().bytes, 0, "nobody may remove it");
    assert_eq!(spool.status().unrecovered, 1);
    let (ceiling, now) = (24 * 3600, Timestamp::now().as_second());
    let purge = async |limit: &AgeLimit| spool.purge_unreadable(limit).await;
    assert_eq!(purge(&age_limit(ceiling, now)).await, [""; 0]);
    let written = std::time::SystemTime::now() - Duration::from_secs(24 * 3600 + 1);
    fs::File::options().write(true).open(&part).unwrap().set_modified(written).unwrap();
    assert_eq!(
        purge(&AgeLimit { confirmed: None, ..age_limit(ceiling, now) }).await,
        [""; 0],
        "no confirmed time"
    );
    // What the file has is unknown, so a hold of any time may cover it.
    let hold = |camera: &str| HoldScope {
        cameras: BTreeSet::from([camera.to_owned()]).into(),
        calls: false,
        window: Window::new(Timestamp::UNIX_EPOCH, None),
    };
    spool.set_holds([hold("deur"), hold("hal")].into());
    assert_eq!(purge(&age_limit(ceiling, now)).await, [""; 0], "it may be held");
    spool.set_holds([hold("deur")].into());
    assert_eq!(purge(&age_limit(ceiling, now)).await, ["hal"]);
    assert!(!part.exists());
    assert_eq!(spool.status().bytes, 0);
}

/// A disk that failed once, for as long as the process lives, kept an incomplete recording out of the bucket.
#[tokio::test]
async fn unreadable_part_is_tried_again() {
    let (_folder, spool, _part) = spool_with_unreadable_part(b"x").await;
    spool.retry_unreadable().await;
    assert_eq!((spool.status().bytes, spool.status().unrecovered), (1, 1));
    assert_eq!(spool.recover_orphan().await, Some(OrphanRecovery::Empty));
    assert_eq!(spool.status().unrecovered, 0);
}

#[tokio::test]
async fn segment_being_uploaded_is_not_evicted() {
    let (_folder, spool) = spool(250).await;
    let one = write_segment(&spool, 10, 100).await;
    let two = write_segment(&spool, 20, 100).await;
    assert_eq!(take_next(&spool).as_ref(), Some(&one));
    write_segment(&spool, 30, 100).await;
    assert_eq!(spool.take_evicted(), [two]);
    assert!(spool.path(&one).exists());
}

#[tokio::test]
async fn dropped_writer_leaves_complete_fragments() {
    let (_folder, spool) = spool(100_000).await;
    let files = super::super::segment::tests::complete_file(8);
    let (init, rest) = files.split_at(1);
    let mut writer =
        SegmentWriter::begin(Arc::clone(&spool), "hal", second(10), init[0].clone()).await.unwrap();
    for fragment in &rest[..3] {
        writer.append(fragment.clone()).await.unwrap();
    }
    drop(writer);
    let adopted = spool.recover_orphan().await;
    let closed = take_next(&spool).unwrap();
    assert_eq!(adopted, Some(OrphanRecovery::Recovered(closed.clone())));
    assert_eq!(spool.recover_orphan().await, None);
    assert_eq!(closed.duration_ms, 3000);
    assert_eq!(closed.bytes, files[..4].iter().map(Vec::len).sum::<usize>() as u64);
}

#[tokio::test]
async fn lanes_take_held_newest_and_oldest_segments() {
    use crate::rules::Window;
    use crate::rules::hold::scope::tests::video_scope;

    let (_folder, spool) = spool(1000).await;
    for (camera, start) in [("deur", 10), ("hal", 11), ("hal", 20), ("hal", 30), ("deur", 40), ("hal", 41)] {
        write_segment_of(&spool, camera, start, 10).await;
    }
    spool.set_holds([video_scope(&["hal"], Window::new(second(20), Some(second(21))))].into());
    write_segment_of(&spool, "hal", 15, 10).await;
    let limit = age_limit(i64::MAX, 0);
    let take = |lane| spool.take_next(lane, &limit).map(|closed| closed.start.as_second());
    // Of the cameras, each has its turn.
    for (lane, expected) in [
        (UploadLane::Newest, Some(40)),
        (UploadLane::Newest, Some(41)),
        (UploadLane::Newest, Some(10)),
        (UploadLane::Held, Some(11)),
        (UploadLane::Oldest, Some(15)),
        (UploadLane::Held, Some(20)),
        // Without a held one, the oldest.
        (UploadLane::Held, Some(30)),
        (UploadLane::Newest, None),
    ] {
        assert_eq!(take(lane), expected, "{lane:?}");
    }
}

#[tokio::test]
async fn held_segment_is_neither_evicted_nor_purged() {
    use crate::rules::Window;
    use crate::rules::hold::scope::tests::video_scope;

    let (folder, spool) = spool(100).await;
    let oldest = write_segment(&spool, 10, 40).await;
    let younger = write_segment(&spool, 100, 40).await;
    let holds = [video_scope(&["hal"], Window::new(second(15), Some(second(16))))];
    spool.set_holds(holds.clone().into());
    let third = write_segment(&spool, 200, 40).await;
    assert_eq!(spool.take_evicted(), [younger], "the held segment stays, although it is older");
    let spool = reopen(&folder, spool).await;
    spool.set_holds(holds.into());
    let later = age_limit(60, 100_000);
    assert_eq!(spool.purge(&later).await, [third]);
    assert!(spool.path(&oldest).exists());
    // Only the held segment is left. Recording stops, so that it is not lost.
    assert!(!spool.has_room(80));
    spool.set_holds([].into());
    assert!(spool.has_room(80));
    assert_eq!(spool.purge(&later).await, [oldest]);
}

/// Leaves a file without a writer, as a killed recorder does.
async fn write_orphan(spool: &Arc<Spool>, start: i64, contents: &[Vec<u8>]) {
    let first = contents[0].clone();
    let mut writer = SegmentWriter::begin(Arc::clone(spool), "hal", second(start), first).await.unwrap();
    for fragment in &contents[1..] {
        writer.append(fragment.clone()).await.unwrap();
    }
}

fn bytes_on_disk(folder: &tempfile::TempDir) -> u64 {
    let files = fs::read_dir(folder.path().join("video/hal")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[tokio::test]
async fn orphans_and_unreadable_files_count_against_the_limit() {
    let (folder, spool) = spool(400).await;
    let oldest = write_segment(&spool, 10, 100).await;
    let second_oldest = write_segment(&spool, 20, 100).await;
    write_orphan(&spool, 30, &[vec![0; 100]]).await;
    let spool = reopen(&folder, spool).await;
    write_segment(&spool, 40, 150).await;
    assert_eq!(spool.take_evicted(), [oldest]);
    assert_eq!((bytes_on_disk(&folder), spool.status().bytes), (350, 350));

    let part = folder.path().join("video/hal").join(name::part(second(30)));
    let aside = folder.path().join("aside");
    fs::rename(&part, &aside).unwrap();
    assert_eq!(spool.recover_orphan().await, Some(OrphanRecovery::Unreadable));
    fs::rename(&aside, &part).unwrap();
    write_segment(&spool, 50, 100).await;
    assert_eq!(spool.take_evicted(), [second_oldest]);
    assert_eq!((bytes_on_disk(&folder), spool.status().bytes), (350, 350));
}

#[tokio::test]
async fn orphans_beyond_the_limit_stop_recording_until_they_are_recovered() {
    use crate::rules::hold::scope::tests::video_scope;

    let (folder, spool) = spool(1 << 20).await;
    let held = write_segment(&spool, 10, 100).await;
    spool.set_holds([video_scope(&["hal"], Window::new(second(15), Some(second(16))))].into());
    let spare = write_segment(&spool, 100, 100).await;
    let contents = super::super::segment::tests::complete_file(8);
    for start in [200, 300] {
        write_orphan(&spool, start, &contents).await;
    }
    let orphan_bytes = contents.iter().map(Vec::len).sum::<usize>() as u64;
    spool.set_limit(orphan_bytes + 150);
    let begin = async |start| {
        let bytes = vec![0; 50];
        SegmentWriter::begin(Arc::clone(&spool), "hal", second(start), bytes).await.map(drop)
    };
    // Nothing that may be evicted makes enough room, so nothing is evicted.
    for start in [400, 401] {
        assert!(matches!(begin(start).await, Err(SpoolError::Full)));
    }
    assert!(!spool.has_room(50) && spool.take_evicted().is_empty());
    assert!([&held, &spare].iter().all(|closed| spool.path(closed).exists()));

    let Some(OrphanRecovery::Recovered(recovered)) = spool.recover_orphan().await else {
        panic!("the orphan is complete");
    };
    assert_eq!(spool.status().bytes, bytes_on_disk(&folder));
    begin(402).await.unwrap();
    let evicted = spool.take_evicted();
    assert!(evicted == [spare, recovered] && spool.path(&held).exists(), "{evicted:?}");
    assert_eq!(spool.status().bytes, bytes_on_disk(&folder));
}

async fn wait_for_segments(spool: &Spool, most: u64) {
    let wait = async {
        while spool.status().segments > most {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), wait).await.expect("segments leave the index");
}

#[test]
fn hanging_disk_stops_no_task() {
    // Of one worker and one thread for blocking calls, as with a CPU limit of 1 and a volume that hangs.
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).max_blocking_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let (folder, spool) = spool(250).await;
        let part = folder.path().join("video/deur/0000000000002.part");
        spool.abandon(Orphan { camera: "deur".into(), path: part, bytes: 0, recorded: Some(Instant::now()) });
        assert_eq!(spool.recover_orphan().await, Some(OrphanRecovery::Unreadable));
        let one = write_segment(&spool, 10, 100).await;
        let two = write_segment(&spool, 20, 60).await;
        let three = write_segment(&spool, 30, 40).await;
        let begin = SegmentWriter::begin(Arc::clone(&spool), "hal", second(40), vec![0; 40]);
        let mut writer = begin.await.unwrap();

        let (resume, hang) = std::sync::mpsc::channel::<()>();
        let hanging = tokio::task::spawn_blocking(move || hang.recv());
        let (removing, removed) = (Arc::clone(&spool), two.clone());
        let remove = tokio::spawn(async move { removing.remove(&removed).await });
        let evict = tokio::spawn(async move { writer.append(vec![0; 100]).await.map(|()| writer) });
        wait_for_segments(&spool, 1).await;
        let purging = Arc::clone(&spool);
        let limit = AgeLimit { now: Instant::now() + Duration::from_hours(1), ..age_limit(60, 0) };
        let purge = tokio::spawn(async move { purging.purge(&limit).await });
        wait_for_segments(&spool, 0).await;
        // The worker and the lock are free, and no file is deleted yet.
        assert!(spool.has_room(100) && spool.take_evicted() == [one.clone()]);
        assert!([&one, &two, &three].iter().all(|closed| spool.path(closed).exists()));
        assert_ne!(spool.status().bytes, 0, "the open file is in the spool");
        drop(resume);
        assert!(hanging.await.unwrap().is_err());
        remove.await.unwrap().unwrap();
        assert_eq!(purge.await.unwrap(), std::slice::from_ref(&three));
        let _writer = evict.await.unwrap().unwrap();
        assert!([&one, &two, &three].iter().all(|closed| !spool.path(closed).exists()));
    });
}

/// A new capacity reaches the configuration before the volume, and a volume may be larger than the capacity of the next recorder.
#[tokio::test]
async fn capacity_stays_and_has_room_for_what_is_found() {
    let (folder, spool) = spool(1000).await;
    let found = [write_segment(&spool, 10, 400).await, write_segment(&spool, 20, 400).await];
    for bytes in [100, 5000] {
        spool.set_initial_limit(bytes);
        assert_eq!(spool.status().limit, 1000);
    }
    drop(spool);
    let next = Spool::open(folder.path().to_owned()).await.unwrap();
    next.set_initial_limit(500);
    assert_eq!(next.status().limit, 800);
    write_segment(&next, 30, 100).await;
    assert_eq!(next.take_evicted(), found[..1], "no more than the new segment needs");
    drop(next);
    let next = Spool::open(folder.path().to_owned()).await.unwrap();
    next.set_initial_limit(1000);
    assert_eq!(next.status().limit, 1000);
}
