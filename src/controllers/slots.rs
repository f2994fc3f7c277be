//! Values that concurrent callers share for a short time, so that one request serves them all.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::sync::lock;

type Slot<V> = Arc<tokio::sync::Mutex<Option<(Instant, V)>>>;

/// Values by key, each used up to a maximum age.
#[derive(Debug)]
pub struct Slots<K, V> {
    max_age: Duration,
    idle_age: Duration,
    inner: Mutex<Inner<K, V>>,
}

#[derive(Debug)]
struct Inner<K, V> {
    slots: HashMap<K, Slot<V>>,
    swept_at: Instant,
}

impl<K: Eq + Hash, V: Clone> Slots<K, V> {
    /// Values that nobody asked for during `idle_age` are dropped: their Sites and pods may be gone.
    pub fn new(max_age: Duration, idle_age: Duration) -> Self {
        Self {
            max_age,
            idle_age,
            inner: Mutex::new(Inner { slots: HashMap::new(), swept_at: Instant::now() }),
        }
    }

    /// Returns the value of `key`, and whether `fetch` made it, of the value before it. Concurrent callers wait for the same `fetch`. An
    /// error is not kept.
    pub async fn get_or_fetch<E, F: Future<Output = Result<V, E>>>(
        &self,
        key: K,
        is_usable: impl Fn(&V) -> bool,
        fetch: impl FnOnce(Option<V>) -> F,
    ) -> Result<(V, bool), E> {
        let slot = self.slot(key);
        let mut slot = slot.lock().await;
        if let Some((fetched_at, value)) = &*slot
            && fetched_at.elapsed() < self.max_age
            && is_usable(value)
        {
            return Ok((value.clone(), false));
        }
        let before = slot.as_ref().map(|(_, value)| value.clone());
        let value = fetch(before).await?;
        *slot = Some((Instant::now(), value.clone()));
        Ok((value, true))
    }

    fn slot(&self, key: K) -> Slot<V> {
        let mut inner = lock(&self.inner);
        let idle_age = self.idle_age;
        if inner.swept_at.elapsed() > idle_age {
            // A slot that is locked is in use.
            let is_idle = |slot: &Slot<V>| {
                slot.try_lock().is_ok_and(|slot| slot.as_ref().is_none_or(|(at, _)| at.elapsed() > idle_age))
            };
            inner.slots.retain(|_, slot| Arc::strong_count(slot) > 1 || !is_idle(slot));
            inner.swept_at = Instant::now();
        }
        inner.slots.entry(key).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::{Ready, ready};

    use super::*;

    fn value(number: u32) -> impl FnOnce(Option<u32>) -> Ready<Result<u32, Infallible>> {
        move |_| ready(Ok(number))
    }

    #[tokio::test]
    async fn value_is_used_until_it_is_old_or_unusable() {
        let slots = Slots::new(Duration::from_hours(1), Duration::from_hours(2));
        let any = |_: &u32| true;
        assert_eq!(slots.get_or_fetch("a", any, value(1)).await, Ok((1, true)));
        assert_eq!(slots.get_or_fetch("a", any, value(2)).await, Ok((1, false)));
        assert_eq!(slots.get_or_fetch("b", any, value(3)).await, Ok((3, true)));
        assert_eq!(slots.get_or_fetch("a", |kept| *kept > 1, value(4)).await, Ok((4, true)));
        let failed: Result<(u32, bool), &str> =
            slots.get_or_fetch("a", |_| false, |before| ready(before.map_or(Ok(0), |_| Err("down")))).await;
        assert_eq!(failed, Err("down"));
        assert_eq!(slots.get_or_fetch("a", any, value(5)).await, Ok((4, false)), "an error replaces nothing");
    }

    #[tokio::test]
    async fn idle_values_are_dropped() {
        let slots = Slots::new(Duration::from_millis(1), Duration::from_millis(10));
        for number in 0..100 {
            slots.get_or_fetch(number, |_| true, value(number)).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        slots.get_or_fetch(1000, |_| true, value(0)).await.unwrap();
        assert_eq!(lock(&slots.inner).slots.len(), 1);
    }
}
