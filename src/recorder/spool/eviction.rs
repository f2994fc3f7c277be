//! Selects segments to evict or purge. Pure.

use jiff::{SignedDuration, Timestamp};

use super::name::Closed;

/// Returns the first segments of `spare`, oldest first, whose eviction makes room for `needed` bytes; `None` if all of
/// them are not enough.
pub fn select_evictions<'a>(
    spare: impl IntoIterator<Item = &'a Closed>,
    used: u64,
    needed: u64,
    limit: u64,
) -> Option<Vec<Closed>> {
    let mut over = used.saturating_add(needed).saturating_sub(limit);
    let mut evicted = Vec::new();
    for segment in spare {
        if over == 0 {
            break;
        }
        over = over.saturating_sub(segment.bytes);
        evicted.push(segment.clone());
    }
    (over == 0).then_some(evicted)
}

/// Returns the segments past the ceiling at `now` (article 6).
pub fn over_age<'a>(
    closed: impl IntoIterator<Item = &'a Closed>,
    ceiling: SignedDuration,
    now: Timestamp,
) -> Vec<Closed> {
    let Ok(oldest) = now.checked_sub(ceiling) else {
        return Vec::new();
    };
    closed.into_iter().filter(|segment| segment.start < oldest).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(second: i64, bytes: u64) -> Closed {
        let start = Timestamp::from_second(second).unwrap();
        Closed { start, camera: "hal".into(), duration_ms: 1000, sha256: [0; 32], bytes }
    }

    #[test]
    fn oldest_is_evicted_first_and_no_more_than_needed() {
        let all = [closed(1, 10), closed(2, 10), closed(3, 10)];
        let evicted = |needed, limit| select_evictions(&all, 30, needed, limit);
        assert_eq!(evicted(10, 40), Some(vec![]));
        assert_eq!(evicted(11, 40), Some(all[..1].to_vec()));
        assert_eq!(evicted(25, 40), Some(all[..2].to_vec()));
        assert_eq!(evicted(41, 40), None);
    }

    #[test]
    fn only_spare_segments_are_evicted() {
        let all = [closed(1, 10), closed(2, 10)];
        assert_eq!(select_evictions(&all[1..], 20, 5, 20), Some(all[1..].to_vec()));
        assert_eq!(select_evictions(&all[..0], 20, 5, 20), None);
    }

    #[test]
    fn segment_past_ceiling_is_purged() {
        let all = [closed(10, 1), closed(20, 1)];
        let now = Timestamp::from_second(120).unwrap();
        assert_eq!(over_age(&all, SignedDuration::from_secs(100), now), [closed(10, 1)]);
        assert_eq!(over_age(&all, SignedDuration::from_secs(110), now), []);
    }
}
