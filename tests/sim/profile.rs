//! The profile of a seed. If every run had all kinds of events, some would mask others. So most seeds have only a few
//! kinds, but often ("swarm testing", Groce et al., ISSTA 2012).

use fastrand::Rng;

use super::store_kind::{FaultRate, NetworkFault};

/// An event between a request of the operator and its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Declared,
    /// A hold is declared, and the API server becomes unavailable.
    DeclaredDuringOutage,
    Widened,
    Resolved,
    Reopened,
    /// A hold is lost in a restore.
    LostInRestore,
    /// A hold is lost in a restore and created again.
    LostAndRecreated,
    /// A hold's open window ends.
    Ends,
    ClockSteps,
    /// An administrator clears a legal hold.
    HoldCleared,
    /// An administrator hides a held version.
    Hidden,
    /// An administrator destroys a held version.
    Destroyed,
    /// A recorder becomes unreachable or reachable.
    RecorderReachability,
    /// The leader is frozen and thaws later.
    Stops,
}

const EVENTS: [Event; 14] = [
    Event::Declared,
    Event::DeclaredDuringOutage,
    Event::Widened,
    Event::Resolved,
    Event::Reopened,
    Event::LostInRestore,
    Event::LostAndRecreated,
    Event::Ends,
    Event::ClockSteps,
    Event::HoldCleared,
    Event::Hidden,
    Event::Destroyed,
    Event::RecorderReachability,
    Event::Stops,
];

/// Tampering by the store's administrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminTampering {
    Marks,
    Hides,
    TampersWithLedger,
}

/// An attack with a recorder's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    OddKeys,
    ManySources,
    FarFuture,
    ManyVersions,
    /// More than a page of versions of a recording's key followed by a space.
    Crowd,
    /// An object on each of many days.
    EachDay,
}

/// Main events of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// Any events.
    Any,
    /// Many recordings reach their ceiling, and holds are declared at that moment.
    Ceilings,
    /// Leaders are lost while their requests are delayed.
    Takeovers,
    /// Recorders are slow while holds are declared and widened.
    Uploads,
    /// Held versions are destroyed, and leaders crash at that moment.
    Losses,
    /// An unreachable recorder stays so until the quiet phase, longer than a release waits.
    UnreachableRecorder,
    Clocks,
    /// Responses are rejections or truncated.
    Rejections,
    Attacks,
    Restores,
    /// Responses are sometimes truncated.
    TruncatedResponses,
    /// An intermediary rejects requests about legal holds and tags.
    Marks,
    /// A leader's requests that set legal holds and tags are delayed while it is lost and the incident is resolved.
    LateProtection,
    /// A backup from before a resolution is restored.
    Backups,
    /// Recordings of resolved holds reach their ceiling before they are released.
    Overdue,
}

/// Themes to draw from, repeated by their weight. Reordering them changes the run of every seed.
const THEMES: [Theme; 34] = [
    Theme::Any,
    Theme::Any,
    Theme::Any,
    Theme::Any,
    Theme::Any,
    Theme::Any,
    Theme::Ceilings,
    Theme::Ceilings,
    Theme::Takeovers,
    Theme::UnreachableRecorder,
    Theme::Uploads,
    Theme::Takeovers,
    Theme::Uploads,
    Theme::Losses,
    Theme::UnreachableRecorder,
    Theme::Clocks,
    Theme::Rejections,
    Theme::Rejections,
    Theme::Losses,
    Theme::TruncatedResponses,
    Theme::Attacks,
    Theme::Attacks,
    Theme::TruncatedResponses,
    Theme::Restores,
    Theme::Clocks,
    Theme::Backups,
    Theme::Marks,
    Theme::Marks,
    Theme::LateProtection,
    Theme::LateProtection,
    Theme::Backups,
    Theme::Restores,
    Theme::Overdue,
    Theme::Overdue,
];

/// Kinds and rates of events of a seed.
#[derive(Clone, Debug)]
pub struct SeedProfile {
    pub theme: Theme,
    /// Number of events per thousand requests of an operator.
    pub event_rate: u32,
    /// Divisor of the pauses between reconciles.
    pub reconcile_speed: u64,
    /// Divisor of the pauses between people's actions.
    pub people_speed: u64,
    pub events: Vec<Event>,
    pub tampering: Vec<AdminTampering>,
    pub attacks: Vec<Attack>,
    pub fault_rates: FaultRates,
}

/// Draws all of the items, or a few.
fn draw_some<T: Copy>(rng: &mut Rng, all: &[T]) -> Vec<T> {
    let count = match rng.u32(0..4) {
        0 => all.len(),
        1 => all.len().min(4),
        _ => rng.usize(1..3),
    };
    rng.choose_multiple(all.iter().copied(), count)
}

impl SeedProfile {
    /// Draws the profile of a seed.
    pub fn random(rng: &mut Rng) -> Self {
        let theme = *rng.choice(&THEMES).unwrap();
        let any = Self {
            theme,
            event_rate: *rng.choice(&[0, 3, 10, 30, 60]).unwrap(),
            reconcile_speed: *rng.choice(&[1, 3, 10]).unwrap(),
            people_speed: *rng.choice(&[1, 1, 3]).unwrap(),
            events: draw_some(rng, &EVENTS),
            tampering: draw_some(
                rng,
                &[AdminTampering::Marks, AdminTampering::Hides, AdminTampering::TampersWithLedger],
            ),
            attacks: draw_some(
                rng,
                &[Attack::OddKeys, Attack::ManySources, Attack::FarFuture, Attack::ManyVersions],
            ),
            fault_rates: FaultRates {
                of_operators: random_fault_rate(rng, &[0, 0, 4, 20, 60]),
                of_recorders: random_fault_rate(rng, &[0, 50, 300]),
                ..FaultRates::default()
            },
        };
        any.for_theme(theme)
    }

    #[allow(clippy::too_many_lines, reason = "an arm for each theme")]
    fn for_theme(self, theme: Theme) -> Self {
        let only = |per_mille, faults: &[NetworkFault]| FaultRate { per_mille, faults: faults.to_vec() };
        let of_operators = |fault_rates| FaultRates { of_operators: fault_rates, ..FaultRates::default() };
        let of_marks = |fault_rates| FaultRates { marks: fault_rates, ..FaultRates::default() };
        match theme {
            Theme::Any => self,
            Theme::Ceilings => Self {
                event_rate: 100,
                reconcile_speed: 3,
                events: vec![Event::Declared, Event::DeclaredDuringOutage, Event::Resolved],
                fault_rates: FaultRates::default(),
                ..self
            },
            Theme::Takeovers => Self {
                event_rate: 30,
                reconcile_speed: 10,
                events: vec![Event::Resolved, Event::Stops, Event::Declared],
                tampering: vec![AdminTampering::Hides],
                fault_rates: of_operators(only(40, &[NetworkFault::Slow])),
                ..self
            },
            Theme::Uploads => Self {
                event_rate: 20,
                reconcile_speed: 10,
                events: vec![Event::Declared, Event::Widened, Event::Resolved],
                fault_rates: FaultRates {
                    of_recorders: only(500, &[NetworkFault::Slow]),
                    ..FaultRates::default()
                },
                ..self
            },
            Theme::Losses => Self {
                event_rate: 20,
                reconcile_speed: 10,
                events: vec![Event::Destroyed],
                tampering: vec![AdminTampering::Marks],
                ..self
            },
            Theme::UnreachableRecorder => Self {
                reconcile_speed: 1,
                events: vec![Event::Resolved, Event::Declared],
                tampering: vec![AdminTampering::Hides],
                ..self
            },
            Theme::Clocks => Self {
                event_rate: 30,
                reconcile_speed: 3,
                events: vec![Event::ClockSteps],
                fault_rates: FaultRates::default(),
                ..self
            },
            Theme::Rejections => Self {
                reconcile_speed: 3,
                fault_rates: of_operators(only(150, &[NetworkFault::BadRequest, NetworkFault::Truncated])),
                ..self
            },
            Theme::Attacks => Self {
                people_speed: 10,
                attacks: [self.attacks, vec![Attack::Crowd, Attack::EachDay]].concat(),
                ..self
            },
            Theme::Restores => Self {
                event_rate: 60,
                reconcile_speed: 3,
                events: vec![Event::LostAndRecreated, Event::Reopened, Event::LostInRestore, Event::Declared],
                ..self
            },
            Theme::TruncatedResponses => Self {
                event_rate: 10,
                reconcile_speed: 3,
                events: vec![Event::Resolved, Event::Declared],
                fault_rates: of_operators(only(30, &[NetworkFault::Truncated])),
                ..self
            },
            Theme::Marks => Self {
                event_rate: 10,
                reconcile_speed: 10,
                events: vec![Event::Resolved, Event::Declared],
                tampering: vec![AdminTampering::Hides],
                fault_rates: of_marks(only(200, &[NetworkFault::BadRequest])),
                ..self
            },
            Theme::LateProtection => Self {
                event_rate: 30,
                reconcile_speed: 10,
                events: vec![Event::Resolved, Event::Stops, Event::Declared],
                tampering: vec![AdminTampering::Hides],
                fault_rates: of_marks(only(150, &[NetworkFault::Slow])),
                ..self
            },
            Theme::Backups => Self {
                event_rate: 60,
                reconcile_speed: 10,
                events: vec![Event::Resolved, Event::Reopened],
                ..self
            },
            Theme::Overdue => Self {
                event_rate: 60,
                reconcile_speed: 1,
                events: vec![Event::Resolved, Event::Declared],
                fault_rates: FaultRates::default(),
                ..self
            },
        }
    }

    /// Removes all events and faults for the quiet phase.
    pub fn make_calm(&mut self) {
        (self.event_rate, self.reconcile_speed, self.people_speed) = (0, 1, 1);
        self.fault_rates = FaultRates::default();
    }
}

/// Draws the faults of a network with one of these rates.
fn random_fault_rate(rng: &mut Rng, per_mille: &[u32]) -> FaultRate {
    FaultRate { per_mille: *rng.choice(per_mille).unwrap(), faults: draw_some(rng, &NetworkFault::ALL) }
}

/// Fault rates by kind of request.
#[derive(Clone, Debug, Default)]
pub struct FaultRates {
    pub of_operators: FaultRate,
    pub of_recorders: FaultRate,
    /// Operators' requests about legal holds and tags; replaces `of_operators` for these if not zero.
    pub marks: FaultRate,
}
