//! What goes when the spool is full, or too old: pure.

use jiff::{SignedDuration, Timestamp};

use super::name::Closed;

/// Those of `spare`, oldest first, that have to go so that `needed` more bytes fit; `None` when that cannot be reached.
pub fn select_evictions<'a>(
    spare: impl IntoIterator<Item = &'a Closed>,
    used: u64,
    needed: u64,
    limit: u64,
) -> Option<Vec<Closed>> {
    let mut over = used.saturating_add(needed).saturating_sub(limit);
    let mut go = Vec::new();
    for one in spare {
        if over == 0 {
            break;
        }
        over = over.saturating_sub(one.bytes);
        go.push(one.clone());
    }
    (over == 0).then_some(go)
}

/// The recordings that are older than the ceiling at `now`: purged, never uploaded (article 6).
pub fn over_age<'a>(
    closed: impl IntoIterator<Item = &'a Closed>,
    ceiling: SignedDuration,
    now: Timestamp,
) -> Vec<Closed> {
    let Ok(oldest) = now.checked_sub(ceiling) else {
        return Vec::new();
    };
    closed.into_iter().filter(|one| one.start < oldest).cloned().collect()
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
        let go = |needed, limit| select_evictions(&all, 30, needed, limit);
        assert_eq!(go(10, 40), Some(vec![]));
        assert_eq!(go(11, 40), Some(all[..1].to_vec()));
        assert_eq!(go(25, 40), Some(all[..2].to_vec()));
        assert_eq!(go(41, 40), None);
    }

    #[test]
    fn only_spare_segments_are_evicted() {
        let all = [closed(1, 10), closed(2, 10)];
        assert_eq!(select_evictions(&all[1..], 20, 5, 20), Some(all[1..].to_vec()));
        assert_eq!(select_evictions(&all[..0], 20, 5, 20), None);
    }

    #[test]
    fn older_than_the_ceiling_is_purged() {
        let all = [closed(10, 1), closed(20, 1)];
        let now = Timestamp::from_second(120).unwrap();
        assert_eq!(over_age(&all, SignedDuration::from_secs(100), now), [closed(10, 1)]);
        assert_eq!(over_age(&all, SignedDuration::from_secs(110), now), []);
    }
}
