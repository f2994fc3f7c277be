//! Which parts of a bucket to list: keys are in time order within a source, so what lies between two days of
//! interest is jumped over. Pure.

use jiff::civil::Date;

use super::key::Class;

/// Days, both included; `None`: without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Days {
    pub(crate) from: Option<Date>,
    pub(crate) to: Option<Date>,
}

impl Days {
    /// Every day.
    pub(crate) const ALL: Self = Self { from: None, to: None };

    /// Whether a day is one of them.
    pub(crate) fn has(self, day: Date) -> bool {
        self.contains(&text(day))
    }

    fn contains(self, day: &str) -> bool {
        !self.is_after(day) && self.to.is_none_or(|to| day <= text(to).as_str())
    }

    /// Whether all of it is after `day`.
    fn is_after(self, day: &str) -> bool {
        self.from.is_some_and(|from| day < text(from).as_str())
    }
}

/// A day as it stands in a key.
fn text(day: Date) -> String {
    format!("{:04}/{:02}/{:02}", day.year(), day.month(), day.day())
}

/// What to do about a key of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is of interest.
    Look,
    /// It is not, and neither is what comes before this text.
    JumpTo(String),
}

/// What to do about `key`, if of each source these days are of interest (ascending). What has not the form of
/// a recording's key is looked at: nobody can tell its day.
pub(crate) fn step(key: &str, days: &[Days]) -> Step {
    let Some((source, day)) = place(key) else {
        return Step::Look;
    };
    if days.iter().any(|some| some.contains(day)) {
        return Step::Look;
    }
    let next = days
        .iter()
        .find_map(|some| some.from.filter(|_| some.is_after(day)));
    // After the last day comes the next source: '0' is what sorts right after '/'.
    Step::JumpTo(next.map_or_else(|| format!("{source}0"), |next| format!("{source}/{}", text(next))))
}

/// `{class}/{source}` and `yyyy/mm/dd` of a key.
fn place(key: &str) -> Option<(&str, &str)> {
    let class = Class::ALL.iter().find(|class| key.starts_with(class.prefix()))?;
    let source = class.prefix().len() + key.get(class.prefix().len()..)?.find('/')?;
    let day = key.get(source + 1..source + 11)?;
    let is_day = day.bytes().enumerate().all(|(place, byte)| match place {
        4 | 7 => byte == b'/',
        _ => byte.is_ascii_digit(),
    });
    let place = (key.get(..source)?, day);
    (is_day && key.as_bytes().get(source + 11) == Some(&b'/')).then_some(place)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn days(from: Option<&str>, to: Option<&str>) -> Days {
        let date = |text: &str| text.parse().unwrap();
        Days {
            from: from.map(date),
            to: to.map(date),
        }
    }

    #[test]
    fn what_is_between_is_jumped_over() {
        let boundary = [days(None, Some("2026-01-31")), days(Some("2026-03-02"), None)];
        for (key, expected) in [
            ("video/a/2026/01/31/1.mp4", Step::Look),
            (
                "video/a/2026/02/01/1.mp4",
                Step::JumpTo("video/a/2026/03/02".into()),
            ),
            ("video/a/2026/03/02/1.mp4", Step::Look),
            ("video/a/notes.txt", Step::Look),
            ("video/loose", Step::Look),
            ("readme.txt", Step::Look),
        ] {
            assert_eq!(step(key, &boundary), expected, "{key}");
        }
        let past = [days(None, Some("2026-01-31"))];
        assert_eq!(
            step("calls/b/2026/02/01/1.mp4", &past),
            Step::JumpTo("calls/b0".into())
        );
    }

    proptest! {
        /// A jump goes forward, and over nothing of interest.
        #[test]
        fn jumps_miss_nothing(
            source in "[a-z0-9]([a-z0-9.-]{0,4}[a-z0-9])?", day in 0_i32..800, other in 0_i32..800,
            from in 0_i32..800, length in 0_i32..300,
        ) {
            let date = |n: i32| jiff::civil::date(2026, 1, 1) + jiff::Span::new().days(n);
            let some = [Days { from: Some(date(from)), to: Some(date(from + length)) }];
            let key = |n| format!("video/{source}/{}/x.mp4", text(date(n)));
            match step(&key(day), &some) {
                Step::Look => prop_assert!((from..=from + length).contains(&day)),
                Step::JumpTo(to) => {
                    prop_assert!(to > key(day));
                    let is_jumped = other > day && key(other) <= to;
                    prop_assert!(!is_jumped || !(from..=from + length).contains(&other));
                }
            }
        }
    }
}
