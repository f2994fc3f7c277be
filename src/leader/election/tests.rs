use std::collections::VecDeque;
use std::sync::Mutex;

use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

use super::*;
use crate::leader::clock::mock::MockClock;
use crate::leader::fence::NotLeader;

/// Fault of one request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// The request never arrives.
    Unreachable,
    /// The request takes effect, but its answer is lost.
    LostAnswer,
    /// The request takes this long, by every clock.
    Slow(Duration),
    /// The request never arrives, and its connection stays open.
    Silent,
}

/// A Lease that several candidates share, with the API server's semantics.
#[derive(Clone)]
struct FakeLock {
    clock: Arc<MockClock>,
    store: Arc<Mutex<Option<Lease>>>,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    writes: Arc<Mutex<u64>>,
}

fn version(lease: &Lease) -> Option<String> {
    lease.metadata.resource_version.clone()
}

fn lease_of(version: u64, spec: LeaseSpec) -> Lease {
    let metadata = ObjectMeta { resource_version: Some(version.to_string()), ..ObjectMeta::default() };
    Lease { metadata, spec: Some(spec) }
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
            Fault::Silent => unreachable!("`wait` never returns"),
        }
    }

    async fn wait(&self) {
        if self.faults.lock().unwrap().pop_front_if(|fault| *fault == Fault::Silent).is_some() {
            std::future::pending::<()>().await;
        }
    }

    fn put(&self, spec: LeaseSpec, expected: Option<String>) -> Result<Lease, LockError> {
        let is_answer_lost = self.fault()?;
        let mut store = self.store.lock().unwrap();
        if store.as_ref().and_then(version) != expected {
            return Err(LockError::Conflict);
        }
        let mut writes = self.writes.lock().unwrap();
        *writes += 1;
        let lease = lease_of(*writes, spec);
        *store = Some(lease.clone());
        if is_answer_lost { Err(LockError::Unreachable("answer lost".into())) } else { Ok(lease) }
    }

    fn holder(&self) -> Option<String> {
        self.store.lock().unwrap().as_ref().and_then(lease::holder).map(str::to_owned)
    }

    /// Changes the Lease behind the candidates' backs.
    fn change(&self, change: impl FnOnce(&mut LeaseSpec)) {
        let mut store = self.store.lock().unwrap();
        change(store.as_mut().unwrap().spec.as_mut().unwrap());
    }

    fn writes(&self) -> u64 {
        *self.writes.lock().unwrap()
    }

    fn fail_next(&self, faults: &[Fault]) {
        self.faults.lock().unwrap().extend(faults);
    }
}

impl ResourceLock for FakeLock {
    async fn get(&self) -> Result<Option<Lease>, LockError> {
        self.wait().await;
        self.fault()?;
        Ok(self.store.lock().unwrap().clone())
    }
    async fn create(&self, spec: LeaseSpec) -> Result<Lease, LockError> {
        self.wait().await;
        self.put(spec, None)
    }
    async fn replace(&self, before: &Lease, spec: LeaseSpec) -> Result<Lease, LockError> {
        self.wait().await;
        self.put(spec, version(before))
    }
}

struct ElectionFixture {
    clock: Arc<MockClock>,
    lock: FakeLock,
}

impl ElectionFixture {
    /// With a Lease that its last leader has released.
    fn new() -> Self {
        let bench = Self::without_lease();
        let spec = lease::released(&Lease::default(), Timestamp::UNIX_EPOCH);
        *bench.lock.store.lock().unwrap() = Some(lease_of(0, spec));
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
        Elector::new(self.lock.clone(), self.clock.clone(), fence, name.into())
    }

    /// A candidate that leads.
    async fn leader(&self, name: &str) -> Elector<FakeLock> {
        let mut leader = self.candidate(name);
        assert!(leader.acquire(&CancellationToken::new()).await);
        leader
    }

    /// Deletes the Lease, as a person would.
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

fn is_following(attempt: Result<Attempt, LockError>, leader: &str) -> bool {
    attempt.unwrap() == Attempt::Following { leader: leader.into() }
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
    bench.lock.change(|spec| assert_eq!(spec.lease_transitions, Some(2)));
}

#[tokio::test]
async fn one_of_two_candidates_takes_an_expired_lease() {
    let bench = ElectionFixture::new();
    let (mut a, mut b, mut c) = (bench.candidate("a"), bench.candidate("b"), bench.candidate("c"));
    assert!(is_leading(a.attempt().await));
    assert!(is_following(b.attempt().await, "a") && is_following(c.attempt().await, "a"));
    bench.advance(15);
    // Both read before either writes: c replaces the version from before b's write.
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
    // As if a's clock were an hour slow: by b's wall clock, the Lease expired long ago.
    let hour_ago = Timestamp::now() - jiff::SignedDuration::from_hours(1);
    bench.lock.change(|spec| spec.renew_time = Some(MicroTime(hour_ago)));
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
    assert!(is_leading(a.attempt().await), "the Lease names a: a renewal is enough");
    bench.lock.fail_next(&[Fault::LostAnswer]);
    assert!(a.attempt().await.is_err());
    assert!(is_leading(a.attempt().await), "its own renewal is no conflict");
}

#[tokio::test]
async fn leadership_is_measured_from_before_the_request() {
    let bench = ElectionFixture::new();
    let mut a = bench.candidate("a");
    let stop = CancellationToken::new();
    // The first answer arrives after the renew deadline, so it proves nothing.
    bench.lock.fail_next(&[Fault::None, Fault::Slow(Duration::from_secs(11))]);
    assert!(a.acquire(&stop).await);
    assert_eq!(a.fence.check(), Ok(()));
    assert_eq!(bench.lock.writes(), 2);
}

#[tokio::test]
async fn stalled_leader_writes_nothing() {
    let bench = ElectionFixture::new();
    let mut a = bench.leader("a").await;
    bench.advance(3600);
    assert_eq!(a.fence.check(), Err(NotLeader), "the fence closes without a message");
    let before = bench.lock.writes();
    assert_eq!(a.renew_until_lost().await, LeadershipLost::RenewDeadline);
    assert_eq!(bench.lock.writes(), before, "not even a renewal");
    assert!(!a.state().borrow().is_leading);
}

#[tokio::test]
async fn leader_that_cannot_renew_stops_before_takeover() {
    let bench = ElectionFixture::new();
    let mut a = bench.leader("a").await;
    let began = bench.clock.now();
    bench.lock.fail_next(&[Fault::Unreachable; 50]);
    assert_eq!(a.renew_until_lost().await, LeadershipLost::RenewDeadline);
    assert_eq!(a.fence.check(), Err(NotLeader));
    assert!(began.until(bench.clock.now()) < LEASE_DURATION);
}

#[tokio::test]
async fn one_silent_connection_does_not_cost_leadership() {
    let bench = ElectionFixture::new();
    let mut a = bench.leader("a").await;
    let began = bench.clock.now();
    for _ in 0..20 {
        bench.lock.fail_next(&[Fault::Silent, Fault::None, Fault::None]);
    }
    bench.lock.fail_next(&[Fault::Unreachable; 50]);
    assert_eq!(a.renew_until_lost().await, LeadershipLost::RenewDeadline);
    assert!(began.until(bench.clock.now()) > LEASE_DURATION * 4);
}

#[tokio::test]
async fn replaced_leader_stops_immediately() {
    let bench = ElectionFixture::new();
    let mut a = bench.leader("a").await;
    let taken = lease::taken_by("b", None, Timestamp::now());
    *bench.lock.store.lock().unwrap() = Some(lease_of(100, taken));
    assert_eq!(a.renew_until_lost().await, LeadershipLost::TakenBy("b".into()));
    assert_eq!(a.fence.check(), Err(NotLeader));
}

#[tokio::test]
async fn release_closes_fence_and_frees_lease() {
    let bench = ElectionFixture::new();
    let (mut a, mut b) = (bench.leader("a").await, bench.candidate("b"));
    assert!(is_following(b.attempt().await, "a"));
    a.release().await;
    assert_eq!(a.fence.check(), Err(NotLeader));
    assert_eq!(bench.lock.holder(), None);
    assert!(is_leading(b.attempt().await));
    // A second release does not touch the Lease of another leader.
    a.release().await;
    assert_eq!(bench.lock.holder().as_deref(), Some("b"));
}

#[tokio::test]
async fn deleted_lease_is_not_taken_while_leader_may_live() {
    let bench = ElectionFixture::new();
    let (mut a, mut b) = (bench.leader("a").await, bench.candidate("b"));
    assert!(is_following(b.attempt().await, "a"));
    bench.delete();
    // The leader may have renewed just before the deletion, and not know of it yet.
    bench.clock.advance(Duration::from_secs(9));
    assert_eq!(b.attempt().await.unwrap(), Attempt::Absent);
    assert!(is_leading(a.attempt().await), "the leader re-creates its Lease");
    assert!(is_following(b.attempt().await, "a"));
    bench.delete();
    bench.advance(15);
    assert_eq!(b.attempt().await.unwrap(), Attempt::Absent);
    bench.advance(15);
    assert!(is_leading(b.attempt().await), "the leader is gone too");
    assert!(b.took_over());
}

#[tokio::test]
async fn standby_creates_no_lease_beside_live_leader() {
    let bench = ElectionFixture::new();
    let (mut a, mut b) = (bench.leader("a").await, bench.candidate("b"));
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
    assert!(began.until(bench.clock.now()) >= LEASE_DURATION);
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
    let (a, mut b, mut c) = (bench.leader("a").await, bench.candidate("b"), bench.candidate("c"));
    assert!(!a.took_over());
    assert!(is_following(b.attempt().await, "a") && is_following(c.attempt().await, "a"));
    // c loses the race for the expired Lease, and later takes a released one.
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
