//! Periods of a run, in seconds since its cameras' first frame.

use jiff::{SignedDuration, Timestamp};

/// Beginning and end in seconds.
pub type Span = [f64; 2];

/// Returns a time in seconds since `epoch`.
pub fn seconds(time: Timestamp, epoch: Timestamp) -> f64 {
    time.duration_since(epoch).as_secs_f64()
}

/// Returns a span of two times.
pub fn span(times: [Timestamp; 2], epoch: Timestamp) -> Span {
    times.map(|time| seconds(time, epoch))
}

/// Returns the time of a second.
pub fn time(second: f64, epoch: Timestamp) -> Timestamp {
    epoch + SignedDuration::try_from_secs_f64(second).unwrap()
}

/// Returns a span that begins `before` earlier and ends `after` later.
pub const fn widened(span: Span, before: f64, after: f64) -> Span {
    [span[0] - before, span[1] + after]
}

pub fn is_overlapping(one: Span, other: Span) -> bool {
    one[0] < other[1] && other[0] < one[1]
}

/// Returns the parts of `span` that are in one of `others`.
pub fn within(span: Span, others: &[Span]) -> Vec<Span> {
    let parts = others.iter().map(|other| [span[0].max(other[0]), span[1].min(other[1])]);
    parts.filter(|part| part[0] < part[1]).collect()
}

/// Returns the parts of `span` that are in none of `others`.
pub fn outside(span: Span, others: &[Span]) -> Vec<Span> {
    let mut left = vec![span];
    for other in others {
        left = left
            .into_iter()
            .flat_map(|part| [[part[0], part[1].min(other[0])], [part[0].max(other[1]), part[1]]])
            .filter(|part| part[0] < part[1])
            .collect();
    }
    left
}

/// Returns the periods in which at least one of `spans` lasts, in order.
pub fn joined(spans: impl Iterator<Item = Span>) -> Vec<Span> {
    let mut spans: Vec<Span> = spans.collect();
    spans.sort_by(|one, other| one[0].total_cmp(&other[0]));
    let mut joined: Vec<Span> = Vec::new();
    for span in spans {
        match joined.last_mut().filter(|last| span[0] <= last[1]) {
            Some(last) => last[1] = last[1].max(span[1]),
            None => joined.push(span),
        }
    }
    joined
}

/// Returns the end of `length` seconds from `start` on that are in none of `delays`.
pub fn end_of(start: f64, length: f64, delays: &[Span]) -> f64 {
    let mut delays = delays.to_vec();
    delays.sort_by(|one, other| one[0].total_cmp(&other[0]));
    let (mut at, mut left) = (start, length);
    for [from, until] in delays {
        let free = (from - at).clamp(0.0, left);
        left -= free;
        at += free;
        if left <= 0.0 {
            return at;
        }
        at = at.max(until);
    }
    at + left
}

/// Returns the seconds of `span` that are in none of `delays`.
pub fn undisturbed(span: Span, delays: &[Span]) -> f64 {
    if span[0] >= span[1] {
        return 0.0;
    }
    outside(span, delays).iter().map(|part| part[1] - part[0]).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_outside_and_within_are_the_whole() {
        let others = [[2.0, 4.0], [3.0, 5.0], [8.0, 20.0]];
        assert_eq!(outside([0.0, 10.0], &others), [[0.0, 2.0], [5.0, 8.0]]);
        assert_eq!(within([0.0, 10.0], &others), [[2.0, 4.0], [3.0, 5.0], [8.0, 10.0]]);
        assert_eq!(outside([3.0, 4.5], &others), Vec::<Span>::new());
    }

    #[test]
    fn spans_that_touch_are_joined() {
        let spans = [[8.0, 9.0], [1.0, 3.0], [3.0, 5.0], [2.0, 4.0]];
        assert_eq!(joined(spans.into_iter()), [[1.0, 5.0], [8.0, 9.0]]);
        assert_eq!(joined(std::iter::empty()), Vec::<Span>::new());
    }

    #[test]
    fn delays_extend_a_limit_once() {
        let delays = [[8.0, 20.0], [2.0, 4.0], [3.0, 5.0], [30.0, 31.0]];
        let ends =
            [(0.0, 1.0), (0.0, 4.0), (3.5, 4.0), (50.0, 4.0)].map(|(at, length)| end_of(at, length, &delays));
        assert_eq!(ends.to_vec(), [1.0, 7.0, 21.0, 54.0]);
        let seconds = [[0.0, 21.0], [21.0, 0.0]].map(|span| undisturbed(span, &delays));
        assert_eq!(seconds.to_vec(), [6.0, 0.0], "nothing before it began");
    }
}
