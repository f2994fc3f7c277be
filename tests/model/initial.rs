//! The initial state of each scope.

use toezicht::rules::recording::tag::RetentionTag;

use super::state::{
    Declared, Entry, Hold, Instant, Leader, N, Object, Placement, ReconcileState, Recorder, RecorderAck,
    State, Version,
};
use super::values::{BEFORE_CLOCK, Beginning, SAME_DAY};
use super::world::World;

impl World {
    /// Returns the initial state.
    pub fn initial_state(&self) -> State {
        let is_old = self.scope.beginning == Beginning::Old;
        let hold = |is_placed: bool| Hold {
            declared: if is_placed { Declared::Open } else { Declared::NotYet },
            is_settled: is_placed,
            has_finalizer: is_placed,
            placement: if is_placed { Placement::Proved } else { Placement::Absent },
        };
        let second = if self.scope.has_recorder {
            Version::Absent
        } else {
            Version::Stored(Object {
                legal_hold: false,
                tag: RetentionTag::Video,
                hidden: None,
                uploaded_at: SAME_DAY,
            })
        };
        State {
            clock: self.scope.clock[0],
            versions: [
                Version::Stored(Object {
                    legal_hold: is_old,
                    tag: if is_old { RetentionTag::Held } else { RetentionTag::Video },
                    hidden: None,
                    uploaded_at: BEFORE_CLOCK,
                }),
                second,
            ],
            ledger: [if is_old { Entry::Open } else { Entry::Absent }, Entry::Absent],
            holds: [hold(is_old), hold(false)],
            config: is_old.into(),
            recorder: Recorder {
                applied: is_old.into(),
                is_confirmed: !self.scope.has_recorder,
                upload: None,
                in_doubt: None,
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
            has_false_claim: false,
        }
    }
}

impl Leader {
    /// Returns a leader without knowledge of recorders or holds.
    pub fn new(took_over_at: Option<Instant>) -> Self {
        Self { took_over_at, held: None, ack: RecorderAck::Unknown, reconcile: ReconcileState::Idle }
    }
}
