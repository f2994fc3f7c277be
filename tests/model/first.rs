//! How it begins.

use toezicht::rules::recording::tag::RetentionTag;

use super::facts::{BEFORE_CLOCK, Beginning, SAME_DAY};
use super::state::{
    Declared, Entry, Follow, Hold, Instant, Leader, Look, N, Object, Placement, Recorder, State, Version,
};
use super::world::World;

impl World {
    /// The first state.
    pub fn first(&self) -> State {
        let is_old = self.scope.beginning == Beginning::Old;
        let hold = |is_placed: bool| Hold {
            declared: if is_placed { Declared::Open } else { Declared::NotYet },
            is_settled: is_placed,
            has_counted: is_placed,
            placement: if is_placed { Placement::Proved } else { Placement::Absent },
        };
        let second = if self.scope.has_recorder {
            Version::Absent
        } else {
            Version::Stored(Object {
                legal_hold: false,
                tag: RetentionTag::Video,
                hidden: None,
                taken: SAME_DAY,
            })
        };
        State {
            clock: self.scope.clock[0],
            versions: [
                Version::Stored(Object {
                    legal_hold: is_old,
                    tag: if is_old { RetentionTag::Held } else { RetentionTag::Video },
                    hidden: None,
                    taken: BEFORE_CLOCK,
                }),
                second,
            ],
            ledger: [if is_old { Entry::Open } else { Entry::Absent }, Entry::Absent],
            holds: [hold(is_old), hold(false)],
            config: is_old.into(),
            recorder: Recorder {
                follows: is_old.into(),
                is_confirmed: !self.scope.has_recorder,
                upload: None,
                unsure: None,
                stray: None,
                failures: self.scope.failures,
            },
            leader: Some(Leader::new(None)),
            terms: 1,
            stopped: None,
            late: [None; N],
            thawed: None,
            is_disturbed: false,
            is_lost: false,
            has_lied: false,
        }
    }
}

impl Leader {
    /// It knows nothing yet.
    pub fn new(took_over: Option<Instant>) -> Self {
        Self { took_over, held: None, follow: Follow::Unknown, look: Look::Idle }
    }
}
