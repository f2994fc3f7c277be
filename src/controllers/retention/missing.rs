//! Reasons that a hold's recordings are missing. Pure.

use jiff::Timestamp;

use crate::api::CameraGap;
use crate::rules::{Window, Windows};
use crate::storage::recordings::hold::coverage::GAP_TOLERANCE;

/// Part of a stretch without recordings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingPart<'a> {
    pub from: Timestamp,
    pub until: Timestamp,
    /// Reason of the reported gap that covers it; `None`: no gap does.
    pub reason: Option<&'a str>,
}

/// Divides a stretch without recordings at the edges of the camera's `gaps`. The parts are in order and leave nothing out. Of gaps
/// that overlap, the first counts.
///
/// A rest of [`GAP_TOLERANCE`] or less joins the part beside it: a status has whole seconds, and keys are exact within half a
/// second.
pub fn split<'a>(stretch: &Window, gaps: &'a [CameraGap]) -> Vec<MissingPart<'a>> {
    let part = |window: Window, reason| MissingPart {
        from: window.from,
        until: window.until.unwrap_or(window.from),
        reason,
    };
    let (mut rest, mut parts) = (Windows::union([*stretch]), Vec::new());
    for gap in gaps {
        let covered = Windows::union(covered_window(gap, gaps, stretch));
        let windows = rest.intersect(&covered).into_vec();
        parts.extend(windows.into_iter().map(|window| part(window, Some(gap.reason.as_str()))));
        rest = rest.subtract(&covered);
    }
    for window in rest.into_vec() {
        let hole = part(window, None);
        let is_short = hole.until.duration_since(hole.from) <= GAP_TOLERANCE;
        // Holes do not touch each other, so a part beside one has a reason.
        let mut beside = parts.iter_mut().filter(|part| part.until == hole.from || part.from == hole.until);
        match beside.next().filter(|_| is_short) {
            Some(part) => {
                part.from = part.from.min(hole.from);
                part.until = part.until.max(hole.until);
            }
            None => parts.push(hole),
        }
    }
    parts.sort_by_key(|part| part.from);
    parts
}

/// Returns the time that `gap` covers, as far as it can be in `stretch`; `None`: it cannot.
///
/// Nobody may know where a gap begins, such as that of a lost spool. A recording before its end shows that it began later, and so
/// does the end of an earlier gap. So it begins within the stretch in which it ends, or it explains nothing.
fn covered_window(gap: &CameraGap, gaps: &[CameraGap], stretch: &Window) -> Option<Window> {
    let end = |gap: &CameraGap| gap.until.as_ref().map(|until| until.0);
    let until = end(gap);
    if let Some(from) = &gap.from {
        return Some(Window::new(from.0, until));
    }
    let until = until?;
    let is_later = |end: Timestamp| until.duration_since(end) > GAP_TOLERANCE;
    if until <= stretch.from || stretch.until.is_some_and(is_later) {
        return None;
    }
    let earlier = gaps.iter().filter_map(end).filter(|end| *end < until);
    Some(Window::new(earlier.fold(stretch.from, Timestamp::max), Some(until)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use proptest::prelude::*;

    use super::*;
    use crate::rules::hold::scope::tests::video_scope;
    use crate::rules::{Class, Recording};
    use crate::storage::recordings::hold::coverage::Coverage;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn window(from: i64, until: i64) -> Window {
        Window::new(at(from), Some(at(until)))
    }

    fn gap(reason: &str, from: Option<i64>, until: Option<i64>) -> CameraGap {
        let time = |second| Time(at(second));
        CameraGap { reason: reason.into(), from: from.map(time), until: until.map(time) }
    }

    fn rows(parts: &[MissingPart<'_>]) -> Vec<(i64, i64, String)> {
        let row = |part: &MissingPart<'_>| {
            let reason = part.reason.unwrap_or("-").to_owned();
            (part.from.as_second(), part.until.as_second(), reason)
        };
        parts.iter().map(row).collect()
    }

    fn split_rows(stretch: (i64, i64), gaps: &[CameraGap]) -> Vec<(i64, i64, String)> {
        rows(&split(&window(stretch.0, stretch.1), gaps))
    }

    fn row(from: i64, until: i64, reason: &str) -> (i64, i64, String) {
        (from, until, reason.to_owned())
    }

    #[test]
    fn gap_explains_only_what_it_covers() {
        let gaps = [
            gap("Disconnected", Some(100), Some(160)),
            gap("Suspended", Some(300), Some(400)),
            gap("SpoolFull", Some(380), Some(500)),
            gap("NotPermitted", Some(900), None),
        ];
        for (stretch, expected) in [
            ((100, 160), vec![row(100, 160, "Disconnected")]),
            ((100, 260), vec![row(100, 160, "Disconnected"), row(160, 260, "-")]),
            ((60, 120), vec![row(60, 100, "-"), row(100, 120, "Disconnected")]),
            ((170, 290), vec![row(170, 290, "-")]),
            (
                (290, 600),
                vec![
                    row(290, 300, "-"),
                    row(300, 400, "Suspended"),
                    row(400, 500, "SpoolFull"),
                    row(500, 600, "-"),
                ],
            ),
            ((850, 1000), vec![row(850, 900, "-"), row(900, 1000, "NotPermitted")]),
        ] {
            assert_eq!(split_rows(stretch, &gaps), expected, "{stretch:?}");
        }
    }

    #[test]
    fn short_rest_joins_the_part_beside_it() {
        let gaps =
            [gap("Disconnected", Some(100), Some(160)), gap("RecorderRestarted", Some(162), Some(200))];
        let expected = [row(98, 162, "Disconnected"), row(162, 202, "RecorderRestarted")];
        assert_eq!(split_rows((98, 202), &gaps), expected);
        let expected = [
            row(97, 100, "-"),
            row(100, 162, "Disconnected"),
            row(162, 200, "RecorderRestarted"),
            row(200, 203, "-"),
        ];
        assert_eq!(split_rows((97, 203), &gaps), expected);
    }

    #[test]
    fn gap_of_unknown_beginning_explains_only_the_stretch_in_which_it_ends() {
        let restarted = [gap("RecorderRestarted", None, Some(500))];
        assert_eq!(split_rows((400, 501), &restarted), [row(400, 501, "RecorderRestarted")]);
        assert_eq!(
            split_rows((400, 600), &restarted),
            [row(400, 500, "RecorderRestarted"), row(500, 600, "-")]
        );
        // A recording followed before the gap ended.
        assert_eq!(split_rows((100, 200), &restarted), [row(100, 200, "-")]);
        assert_eq!(split_rows((500, 600), &restarted), [row(500, 600, "-")]);
        // Something arrived when the earlier gap ended.
        let both = [gap("Disconnected", Some(400), Some(420)), restarted[0].clone()];
        let expected =
            [row(380, 400, "-"), row(400, 420, "Disconnected"), row(420, 500, "RecorderRestarted")];
        assert_eq!(split_rows((380, 500), &both), expected);
        // It lasts: another cause follows within seconds.
        assert_eq!(split_rows((400, 600), &[gap("RecorderRestarted", None, None)]), [row(400, 600, "-")]);
    }

    /// Returns the stretches without recordings from second 0 to 1000.
    fn stretches(segments: &[(i64, i64)]) -> Vec<Window> {
        let cover = video_scope(&["hal"], window(0, 1000));
        let mut coverage = Coverage::new(&cover, &BTreeMap::new(), at(10_000));
        for (start, duration) in segments {
            let (start, end) = (at(*start), at(start + duration));
            coverage.add(&Recording { class: Class::Video, source: "hal", start, end }, 1, false);
        }
        coverage.finish().sources[&(Class::Video, "hal".to_owned())].gaps.clone()
    }

    const REASONS: [&str; 3] = ["Disconnected", "Suspended", "RecorderRestarted"];

    fn any_gap() -> impl Strategy<Value = CameraGap> {
        let (reason, from) = (0_usize..3, proptest::option::of(0_i64..1000));
        let length = proptest::option::of(0_i64..200);
        (reason, from, 0_i64..1000, length).prop_map(|(reason, from, end, length)| {
            let until = length.map(|length| from.map_or(end, |from| from + length));
            gap(REASONS[reason], from, until)
        })
    }

    /// Whether `gap` covers the second that begins at `second`, which no recording has.
    fn may_cover(gap: &CameraGap, second: i64, segments: &[(i64, i64)], slack: i64) -> bool {
        let until = gap.until.as_ref().map(|until| until.0.as_second());
        let is_before_end = until.is_none_or(|until| second < until + slack);
        let is_after_start = match &gap.from {
            Some(from) => from.0.as_second() - slack <= second,
            // No recording between the second and the end of the gap.
            None => until.is_some_and(|until| {
                segments.iter().all(|(start, duration)| start + duration <= second || until - slack <= *start)
            }),
        };
        is_before_end && is_after_start
    }

    proptest! {
        #[test]
        fn every_missing_second_is_in_one_part_with_the_reason_of_a_gap_that_covers_it(
            // So few that coverage reports all stretches.
            mut segments in proptest::collection::vec((0_i64..1000, 3_i64..120), 0..9),
            gaps in proptest::collection::vec(any_gap(), 0..8),
        ) {
            segments.sort_unstable();
            let segments = segments.as_slice();
            let stretches = stretches(segments);
            let parts: Vec<MissingPart<'_>> =
                stretches.iter().flat_map(|stretch| split(stretch, &gaps)).collect();
            for second in 0..1000 {
                let is_missing = stretches.iter().any(|stretch| stretch.contains(at(second)));
                let found: Vec<_> =
                    parts.iter().filter(|part| part.from <= at(second) && at(second) < part.until).collect();
                prop_assert_eq!(found.len(), usize::from(is_missing), "{} {:?}", second, parts);
                let covers = |slack| move |gap: &&CameraGap| may_cover(gap, second, segments, slack);
                match found.first().map(|part| part.reason) {
                    None => {}
                    Some(Some(reason)) => {
                        let mut of_reason = gaps.iter().filter(covers(2)).map(|gap| gap.reason.as_str());
                        prop_assert!(of_reason.any(|of| of == reason), "{} {:?}", second, parts);
                    }
                    Some(None) => {
                        let mut known = gaps.iter().filter(|gap| gap.from.is_some()).filter(covers(0));
                        prop_assert_eq!(known.next(), None, "{} {:?}", second, parts);
                    }
                }
            }
        }
    }
}
