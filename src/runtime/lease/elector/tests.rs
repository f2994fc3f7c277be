use std::collections::VecDeque;
use std::sync::Mutex;

use super::*;
use crate::controllers::kit::clock::mock::MockClock;
use crate::controllers::kit::fence::NotLeader;

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// Nothing.
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

    fn put(&self, record: &Record, expected: Option<u64>) -> Result<Versioned<u64>, LockError> {
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

impl Lock for FakeLock {
    type Version = u64;
    async fn get(&self) -> Result<Option<Versioned<u64>>, LockError> {
        self.fault()?;
        Ok(self.store.lock().unwrap().clone())
    }
    async fn create(&self, record: &Record) -> Result<Versioned<u64>, LockError> {
        self.put(record, None)
    }
    async fn replace(&self, record: &Record, version: &u64) -> Result<Versioned<u64>, LockError> {
        self.put(record, Some(*version))
    }
}

struct Bench {
    clock: Arc<MockClock>,
    lock: FakeLock,
}

impl Bench {
    /// With a Lease that its last leader has let go of.
    fn new() -> Self {
        let bench = Self::without_a_lease();
        let record = Record {
            holder: None,
            lease: Duration::from_secs(1),
            acquired: None,
            renewed: None,
            transitions: 0,
        };
        *bench.lock.store.lock().unwrap() = Some(Versioned { record, version: 0 });
        bench
    }

    fn without_a_lease() -> Self {
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
        Elector::new(self.lock.clone(), self.clock.clone(), fence, name.into(), Timing::default())
    }

    /// Somebody deletes the Lease by hand.
    fn delete(&self) {
        *self.lock.store.lock().unwrap() = None;
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

fn leading(attempt: Result<Attempt, LockError>) -> bool {
    matches!(attempt.unwrap(), Attempt::Leading { .. })
}

fn follows(attempt: Result<Attempt, LockError>, whom: &str) -> bool {
    attempt.unwrap() == Attempt::Following { leader: whom.into() }
}

#[tokio::test]
async fn the_second_follows_until_the_first_has_been_silent_for_a_lease() {
    let bench = Bench::new();
    let (mut a, mut b) = (bench.candidate("a"), bench.candidate("b"));
    assert!(leading(a.attempt().await));
    assert!(follows(b.attempt().await, "a"));
    for _ in 0..20 {
        bench.pass(2);
        assert!(leading(a.attempt().await));
        assert!(follows(b.attempt().await, "a"));
    }
    bench.pass(14);
    assert!(follows(b.attempt().await, "a"));
    bench.pass(1);
    assert!(leading(b.attempt().await));
    assert!(follows(a.attempt().await, "b"));
    assert_eq!(bench.lock.store.lock().unwrap().as_ref().unwrap().record.transitions, 2);
}

#[tokio::test]
async fn of_two_that_see_the_same_expired_record_one_wins() {
    let bench = Bench::new();
    let (mut a, mut b, mut c) = (bench.candidate("a"), bench.candidate("b"), bench.candidate("c"));
    assert!(leading(a.attempt().await));
    assert!(follows(b.attempt().await, "a") && follows(c.attempt().await, "a"));
    bench.pass(15);
    // Both read before either writes: c's view is older than b's write.
    let stale = bench.lock.get().await.unwrap().unwrap();
    assert!(leading(b.attempt().await));
    assert_eq!(c.take_or_outrun(Some(&stale)).await.unwrap(), Attempt::Outrun);
    assert!(follows(c.attempt().await, "b"));
    assert_eq!(bench.lock.holder().as_deref(), Some("b"));
}

#[tokio::test]
async fn the_leaders_wall_clock_is_not_believed() {
    let bench = Bench::new();
    let (mut a, mut b) = (bench.candidate("a"), bench.candidate("b"));
    assert!(leading(a.attempt().await));
    // As if a's clock were an hour slow: to whoever compares with its own clock, the lease ran out long ago.
    let hour_ago = Timestamp::now() - jiff::SignedDuration::from_hours(1);
    bench.lock.store.lock().unwrap().as_mut().unwrap().record.renewed = Some(hour_ago);
    assert!(follows(b.attempt().await, "a"));
    bench.pass(14);
    assert!(follows(b.attempt().await, "a"));
}

#[tokio::test]
async fn an_answer_that_is_lost_gives_no_leadership_and_takes_none() {
    let bench = Bench::new();
    let mut a = bench.candidate("a");
    bench.lock.fail_next(&[Fault::None, Fault::LostAnswer]);
    assert!(a.attempt().await.is_err());
    assert_eq!(a.fence.check(), Err(NotLeader));
    assert!(leading(a.attempt().await), "the record is ours: it is enough to renew it");
    bench.lock.fail_next(&[Fault::LostAnswer]);
    assert!(a.attempt().await.is_err());
    assert!(leading(a.attempt().await), "our own renewal is no conflict");
}

#[tokio::test]
async fn leadership_counts_from_before_the_request() {
    let bench = Bench::new();
    let mut a = bench.candidate("a");
    let stop = CancellationToken::new();
    // The first answer is older than the renew deadline when it comes: not good enough.
    bench.lock.fail_next(&[Fault::None, Fault::Slow(Duration::from_secs(11))]);
    assert!(a.acquire(&stop).await);
    assert_eq!(a.fence.check(), Ok(()));
    assert_eq!(*bench.lock.writes.lock().unwrap(), 2);
}

#[tokio::test]
async fn a_leader_that_stood_still_writes_nothing_more() {
    let bench = Bench::new();
    let mut a = bench.candidate("a");
    assert!(a.acquire(&CancellationToken::new()).await);
    bench.pass(3600);
    assert_eq!(a.fence.check(), Err(NotLeader), "without anybody having told the fence");
    let before = *bench.lock.writes.lock().unwrap();
    assert_eq!(a.keep().await, Lost::Deadline(Duration::from_secs(10)));
    assert_eq!(*bench.lock.writes.lock().unwrap(), before, "not even a renewal");
    assert!(!a.standing().borrow().leading);
}

#[tokio::test]
async fn a_leader_that_cannot_renew_stops_before_others_take_over() {
    let bench = Bench::new();
    let mut a = bench.candidate("a");
    assert!(a.acquire(&CancellationToken::new()).await);
    let began = bench.clock.now();
    bench.lock.fail_next(&[Fault::Unreachable; 50]);
    assert_eq!(a.keep().await, Lost::Deadline(Duration::from_secs(10)));
    assert_eq!(a.fence.check(), Err(NotLeader));
    assert!(began.until(bench.clock.now()) < Timing::default().lease());
}

#[tokio::test]
async fn a_leader_that_is_replaced_stops_at_once() {
    let bench = Bench::new();
    let mut a = bench.candidate("a");
    assert!(a.acquire(&CancellationToken::new()).await);
    {
        let mut store = bench.lock.store.lock().unwrap();
        let held = store.as_mut().unwrap();
        held.record.holder = Some("b".into());
        held.version += 100;
    }
    assert_eq!(a.keep().await, Lost::TakenBy("b".into()));
    assert_eq!(a.fence.check(), Err(NotLeader));
}

#[tokio::test]
async fn letting_go_shuts_the_fence_and_frees_the_lease_at_once() {
    let bench = Bench::new();
    let (mut a, mut b) = (bench.candidate("a"), bench.candidate("b"));
    assert!(a.acquire(&CancellationToken::new()).await);
    assert!(follows(b.attempt().await, "a"));
    a.release().await;
    assert_eq!(a.fence.check(), Err(NotLeader));
    assert_eq!(bench.lock.holder(), None);
    assert!(leading(b.attempt().await));
    // What is not ours any more is not let go of.
    a.release().await;
    assert_eq!(bench.lock.holder().as_deref(), Some("b"));
}

#[tokio::test]
async fn a_deleted_lease_is_not_taken_from_a_leader_that_may_not_know() {
    let bench = Bench::new();
    let (mut a, mut b) = (bench.candidate("a"), bench.candidate("b"));
    assert!(a.acquire(&CancellationToken::new()).await);
    assert!(follows(b.attempt().await, "a"));
    bench.delete();
    // b heard nothing for a lease: the leader may have renewed in the meantime, and not know yet.
    bench.clock.advance(Duration::from_secs(9));
    assert_eq!(b.attempt().await.unwrap(), Attempt::Absent);
    assert!(leading(a.attempt().await), "its leader makes it anew");
    assert!(follows(b.attempt().await, "a"));
    bench.delete();
    bench.pass(15);
    assert_eq!(b.attempt().await.unwrap(), Attempt::Absent);
    bench.pass(15);
    assert!(leading(b.attempt().await), "its leader is gone too");
    assert!(b.took_over());
}

#[tokio::test]
async fn a_standby_that_never_saw_the_lease_creates_none_beside_a_living_leader() {
    let bench = Bench::new();
    let (mut a, mut b) = (bench.candidate("a"), bench.candidate("b"));
    assert!(a.acquire(&CancellationToken::new()).await);
    bench.delete();
    assert_eq!(b.attempt().await.unwrap(), Attempt::Absent);
    bench.pass(2);
    assert!(leading(a.attempt().await));
    assert!(follows(b.attempt().await, "a"));
}

#[tokio::test]
async fn who_creates_the_lease_may_have_a_leader_before_it() {
    let bench = Bench::without_a_lease();
    let mut a = bench.candidate("a");
    let began = bench.clock.now();
    assert!(a.acquire(&CancellationToken::new()).await);
    assert!(began.until(bench.clock.now()) >= Timing::default().lease());
    assert!(a.took_over(), "a leader may have been lost before the Lease was deleted");
}

#[tokio::test]
async fn the_answer_that_was_lost_does_not_hide_a_leader_before_it() {
    let bench = Bench::without_a_lease();
    let mut a = bench.candidate("a");
    let _ = a.attempt().await;
    bench.pass(15);
    bench.lock.fail_next(&[Fault::None, Fault::LostAnswer]);
    assert!(a.attempt().await.is_err());
    assert!(leading(a.attempt().await));
    assert!(a.took_over());
}

#[tokio::test]
async fn who_takes_a_lease_that_was_let_go_of_has_nobody_before_it() {
    let bench = Bench::new();
    let (mut a, mut b, mut c) = (bench.candidate("a"), bench.candidate("b"), bench.candidate("c"));
    assert!(a.acquire(&CancellationToken::new()).await);
    assert!(!a.took_over());
    assert!(follows(b.attempt().await, "a") && follows(c.attempt().await, "a"));
    // c is outrun when it takes over, and takes the Lease in good order later.
    bench.pass(15);
    let stale = bench.lock.get().await.unwrap().unwrap();
    assert!(leading(b.attempt().await) && b.took_over());
    assert_eq!(c.take_or_outrun(Some(&stale)).await.unwrap(), Attempt::Outrun);
    c.took_over = true;
    b.release().await;
    assert!(leading(c.attempt().await) && !c.took_over());
}

#[tokio::test]
async fn stopping_ends_the_wait() {
    let bench = Bench::new();
    let (mut a, mut b) = (bench.candidate("a"), bench.candidate("b"));
    assert!(leading(a.attempt().await));
    let stop = CancellationToken::new();
    stop.cancel();
    assert!(!b.acquire(&stop).await);
}
