use std::collections::VecDeque;
use std::sync::Mutex;

use super::*;
use crate::leader::clock::mock::MockClock;
use crate::leader::fence::NotLeader;

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// It never arrives.
    Unreachable,
    /// It takes effect, and the answer is lost.
    LostAnswer,
    /// It takes this long, by every clock.
    Slow(Duration),
}

/// A record that several candidates share, with the API server's semantics.
#[derive(Clone)]
struct FakeLock {
    clock: Arc<MockClock>,
    store: Arc<Mutex<Option<Versioned<u64>>>>,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    writes: Arc<Mutex<u64>>,
}

impl FakeLock {
    fn fault(&self) -> Result<bool, LockError> {
        match self.faults.lock().unwrap().pop_front().unwrap_or(Fault::None) {
            Fault::None => Ok(false),
            Fault::Unreachable => Err(LockError::Unreachable("fault".into())),
            Fault::LostAnswer => Ok(true),
            Fault::Slow(by) => {
                self.clock.advance(by);
                Ok(false)
            }
        }
    }

    fn put(&self, record: &ElectionRecord, expected: Option<u64>) -> Result<Versioned<u64>, LockError> {
        let lost = self.fault()?;
        let mut store = self.store.lock().unwrap();
        if store.as_ref().map(|held| held.version) != expected {
            return Err(LockError::Conflict);
        }
        let mut writes = self.writes.lock().unwrap();
        *writes += 1;
        let held = Versioned { record: record.clone(), version: *writes };
        *store = Some(held.clone());
        if lost { Err(LockError::Unreachable("answer lost".into())) } else { Ok(held) }
    }

    fn holder(&self) -> Option<String> {
        self.store.lock().unwrap().as_ref().and_then(|held| held.record.holder.clone())
    }

    fn fail_next(&self, faults: &[Fault]) {
        self.faults.lock().unwrap().extend(faults);
    }
}

impl ResourceLock for FakeLock {
    type Version = u64;
    async fn get(&self) -> Result<Option<Versioned<u64>>, LockError> {
        self.fault()?;
        Ok(self.store.lock().unwrap().clone())
    }
    async fn create(&self, record: &ElectionRecord) -> Result<Versioned<u64>, LockError> {
        self.put(record, None)
    }
    async fn replace(&self, record: &ElectionRecord, version: &u64) -> Result<Versioned<u64>, LockError> {
        self.put(record, Some(*version))
    }
}

struct ElectionFixture {
    clock: Arc<MockClock>,
    lock: FakeLock,
}

impl ElectionFixture {
    /// With a Lease that its last leader has let go of.
    fn new() -> Self {
        let bench = Self::without_lease();
        let record = ElectionRecord {
            holder: None,
            lease_duration: Duration::from_secs(1),
            acquire_time: None,
            renew_time: None,
            transitions: 0,
        };
        *bench.lock.store.lock().unwrap() = Some(Versioned { record, version: 0 });
        bench
    }

    fn without_lease() -> Self {
        let clock = Arc::new(MockClock::at(1000));
        let lock = FakeLock {
            clock: clock.clone(),
            store: Arc::default(),
            faults: Arc::default(),
            writes: Arc::default(),
        };
        Self { clock, lock }
    }

    fn candidate(&self, name: &str) -> Elector<FakeLock> {
        let fence = Fence::new(self.clock.clone());
        Elector::new(self.lock.clone(), self.clock.clone(), fence, name.into(), ElectionTiming::default())
    }

    /// Somebody deletes the Lease by hand.
    fn delete(&self) {
        *self.lock.store.lock().unwrap() = None;
    }

    fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

fn is_leading(attempt: Result<Attempt, LockError>) -> bool {
    matches!(attempt.unwrap(), Attempt::Leading { .. })
}

fn is_following(attempt: Result<Attempt, LockError>, whom: &str) -> bool {
    attempt.unwrap() == Attempt::Following { leader: whom.into() }
}

#[tokio::test]
async fn standby_takes_over_after_one_silent_lease_duration() {
    let bench = ElectionFixture::new();
    let (mut a, mut b) = (bench.candidate("a"), bench.candidate("b"));
    assert!(is_leading(a.attempt().await));
    assert!(is_following(b.attempt().await, "a"));
    for _ in 0..20 {
        bench.advance(2);
        assert!(is_leading(a.attempt().await));
        assert!(is_following(b.attempt().await, "a"));
    }
    bench.advance(14);
    assert!(is_following(b.attempt().await, "a"));
    bench.advance(1);
    assert!(is_leading(b.attempt().await));
    assert!(is_following(a.attempt().await, "b"));
    assert_eq!(bench.lock.store.lock().unwrap().as_ref().unwrap().record.transitions, 2);
}

#[tokio::test]
async fn one_of_two_candidates_takes_an_expired_lease() {
    let bench = ElectionFixture::new();
    let (mut a, mut b, mut c) = (bench.candidate("a"), bench.candidate("b"), bench.candidate("c"));
    assert!(is_leading(a.attempt().await));
    assert!(is_following(b.attempt().await, "a") && is_following(c.attempt().await, "a"));
    bench.advance(15);
    // Both read before either writes: c's view is older than b's write.
    let stale = bench.lock.get().await.unwrap().unwrap();
    assert!(is_leading(b.attempt().await));
    assert_eq!(c.try_take_lease(Some(&stale)).await.unwrap(), Attempt::Conflict);
    assert!(is_following(c.attempt().await, "b"));
    assert_eq!(bench.lock.holder().as_deref(), Some("b"));
}

#[tokio::test]
async fn candidate_ignores_leaders_wall_clock() {
    let bench = ElectionFixture::new();
    let (mut a, mut b) = (bench.candidate("a"), bench.candidate("b"));
    assert!(is_leading(a.attempt().await));
    // As if a's clock were an hour slow: to whoever compares with its own clock, the lease ran out long ago.
    let hour_ago = Timestamp::now() - jiff::SignedDuration::from_hours(1);
    bench.lock.store.lock().unwrap().as_mut().unwrap().record.renew_time = Some(hour_ago);
    assert!(is_following(b.attempt().await, "a"));
    bench.advance(14);
    assert!(is_following(b.attempt().await, "a"));
}

#[tokio::test]
async fn lost_answer_neither_grants_nor_revokes_leadership() {
    let bench = ElectionFixture::new();
    let mut a = bench.candidate("a");
    bench.lock.fail_next(&[Fault::None, Fault::LostAnswer]);
    assert!(a.attempt().await.is_err());
    assert_eq!(a.fence.check(), Err(NotLeader));
    assert!(is_leading(a.attempt().await), "the record is ours: it is enough to renew it");
    bench.lock.fail_next(&[Fault::LostAnswer]);
    assert!(a.attempt().await.is_err());
    assert!(is_leading(a.attempt().await), "our own renewal is no conflict");
}

#[tokio::test]
async fn leadership_is_measured_from_before_the_request() {
    let bench = ElectionFixture::new();
    let mut a = bench.candidate("a");
    let stop = CancellationToken::new();
    // The first answer is older than the renew deadline when it comes: not good enough.
    bench.lock.fail_next(&[Fault::None, Fault::Slow(Duration::from_secs(11))]);
    assert!(a.acquire(&stop).await);
    assert_eq!(a.fence.check(), Ok(()));
    assert_eq!(*bench.lock.writes.lock().unwrap(), 2);
}

#[tokio::test]
async fn stalled_leader_writes_nothing() {
    let bench = ElectionFixture::new();
    let mut a = bench.candidate("a");
    assert!(a.acquire(&CancellationToken::new()).await);
    bench.advance(3600);
    assert_eq!(a.fence.check(), Err(NotLeader), "without anybody having told the fence");
    let before = *bench.lock.writes.lock().unwrap();
    assert_eq!(a.renew_until_lost().await, LeadershipLost::RenewDeadline(Duration::from_secs(10)));
    assert_eq!(*bench.lock.writes.lock().unwrap(), before, "not even a renewal");
    assert!(!a.state().borrow().is_leading);
}

#[tokio::test]
async fn leader_that_cannot_renew_stops_before_takeover() {
    let bench = ElectionFixture::new();
    let mut a = bench.candidate("a");
    assert!(a.acquire(&CancellationToken::new()).await);
    let began = bench.clock.now();
    bench.lock.fail_next(&[Fault::Unreachable; 50]);
    assert_eq!(a.renew_until_lost().await, LeadershipLost::RenewDeadline(Duration::from_secs(10)));
    assert_eq!(a.fence.check(), Err(NotLeader));
    assert!(began.until(bench.clock.now()) < ElectionTiming::default().lease_duration());
}

#[tokio::test]
async fn replaced_leader_stops_immediately() {
    let bench = ElectionFixture::new();
    let mut a = bench.candidate("a");
    assert!(a.acquire(&CancellationToken::new()).await);
    {
        let mut store = bench.lock.store.lock().unwrap();
        let held = store.as_mut().unwrap();
        held.record.holder = Some("b".into());
        held.version += 100;
    }
    assert_eq!(a.renew_until_lost().await, LeadershipLost::TakenBy("b".into()));
    assert_eq!(a.fence.check(), Err(NotLeader));
}

#[tokio::test]
async fn release_closes_fence_and_frees_lease() {
    let bench = ElectionFixture::new();
    let (mut a, mut b) = (bench.candidate("a"), bench.candidate("b"));
    assert!(a.acquire(&CancellationToken::new()).await);
    assert!(is_following(b.attempt().await, "a"));
    a.release().await;
    assert_eq!(a.fence.check(), Err(NotLeader));
    assert_eq!(bench.lock.holder(), None);
    assert!(is_leading(b.attempt().await));
    // What is not ours any more is not let go of.
    a.release().await;
    assert_eq!(bench.lock.holder().as_deref(), Some("b"));
}

#[tokio::test]
async fn deleted_lease_is_not_taken_while_leader_may_live() {
    let bench = ElectionFixture::new();
    let (mut a, mut b) = (bench.candidate("a"), bench.candidate("b"));
    assert!(a.acquire(&CancellationToken::new()).await);
    assert!(is_following(b.attempt().await, "a"));
    bench.delete();
    // b heard nothing for a lease: the leader may have renewed in the meantime, and not know yet.
    bench.clock.advance(Duration::from_secs(9));
    assert_eq!(b.attempt().await.unwrap(), Attempt::Absent);
    assert!(is_leading(a.attempt().await), "its leader makes it anew");
    assert!(is_following(b.attempt().await, "a"));
    bench.delete();
    bench.advance(15);
    assert_eq!(b.attempt().await.unwrap(), Attempt::Absent);
    bench.advance(15);
    assert!(is_leading(b.attempt().await), "its leader is gone too");
    assert!(b.took_over());
}

#[tokio::test]
async fn standby_creates_no_lease_beside_live_leader() {
    let bench = ElectionFixture::new();
    let (mut a, mut b) = (bench.candidate("a"), bench.candidate("b"));
    assert!(a.acquire(&CancellationToken::new()).await);
    bench.delete();
    assert_eq!(b.attempt().await.unwrap(), Attempt::Absent);
    bench.advance(2);
    assert!(is_leading(a.attempt().await));
    assert!(is_following(b.attempt().await, "a"));
}

#[tokio::test]
async fn creating_the_lease_counts_as_takeover() {
    let bench = ElectionFixture::without_lease();
    let mut a = bench.candidate("a");
    let began = bench.clock.now();
    assert!(a.acquire(&CancellationToken::new()).await);
    assert!(began.until(bench.clock.now()) >= ElectionTiming::default().lease_duration());
    assert!(a.took_over(), "a leader may have been lost before the Lease was deleted");
}

#[tokio::test]
async fn lost_answer_does_not_hide_takeover() {
    let bench = ElectionFixture::without_lease();
    let mut a = bench.candidate("a");
    let _ = a.attempt().await;
    bench.advance(15);
    bench.lock.fail_next(&[Fault::None, Fault::LostAnswer]);
    assert!(a.attempt().await.is_err());
    assert!(is_leading(a.attempt().await));
    assert!(a.took_over());
}

#[tokio::test]
async fn taking_a_released_lease_is_no_takeover() {
    let bench = ElectionFixture::new();
    let (mut a, mut b, mut c) = (bench.candidate("a"), bench.candidate("b"), bench.candidate("c"));
    assert!(a.acquire(&CancellationToken::new()).await);
    assert!(!a.took_over());
    assert!(is_following(b.attempt().await, "a") && is_following(c.attempt().await, "a"));
    // c is outrun when it takes over, and takes the Lease in good order later.
    bench.advance(15);
    let stale = bench.lock.get().await.unwrap().unwrap();
    assert!(is_leading(b.attempt().await) && b.took_over());
    assert_eq!(c.try_take_lease(Some(&stale)).await.unwrap(), Attempt::Conflict);
    c.took_over = true;
    b.release().await;
    assert!(is_leading(c.attempt().await) && !c.took_over());
}

#[tokio::test]
async fn stop_ends_acquire() {
    let bench = ElectionFixture::new();
    let (mut a, mut b) = (bench.candidate("a"), bench.candidate("b"));
    assert!(is_leading(a.attempt().await));
    let stop = CancellationToken::new();
    stop.cancel();
    assert!(!b.acquire(&stop).await);
}
