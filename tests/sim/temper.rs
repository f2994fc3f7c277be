//! What a seed is inclined to. Where everything happens in every run, much is masked by something else; so most seeds know
//! only a few of the things that can happen, and these often ("swarm testing", Groce et al., ISSTA 2012).

use fastrand::Rng;

use super::kind::{FaultRate, NetworkFault};

/// What happens at the worst moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Declared,
    /// Declared where nobody can be asked any more.
    DeclaredDuringOutage,
    Widened,
    Resolved,
    Reopened,
    /// Lost in a restore.
    LostInRestore,
    /// Lost in a restore, and made anew.
    LostAndRecreated,
    /// The window ends.
    Ends,
    ClockSteps,
    /// Somebody takes a legal hold off.
    HoldCleared,
    /// Somebody hides what is held.
    Hidden,
    /// Somebody destroys what is held.
    Destroyed,
    /// A recorder answers nobody any more, or does again.
    RecorderReachability,
    /// The leader is stopped, and thaws later.
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

/// What somebody does who administers the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminTampering {
    Marks,
    Hides,
    TampersWithLedger,
}

/// What somebody does with a recorder's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    OddKeys,
    ManySources,
    FarFuture,
    ManyVersions,
    /// More versions than a page of a name that is a recording's and a space.
    Crowd,
    /// Something in each of many days.
    EachDay,
}

/// What a day is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// Anything, or any few things.
    Any,
    /// Much comes to its ceiling, and just then it is held.
    Ceilings,
    /// Leaders are lost while requests lie somewhere.
    Takeovers,
    /// Recorders are slow, while holds come and grow.
    Uploads,
    /// Held versions are destroyed, and leaders with them.
    Losses,
    /// A recorder that fell silent stays so until all is calm: for longer than anybody waits.
    UnreachableRecorder,
    Clocks,
    /// Answers are refusals, or halves.
    Rejections,
    Attacks,
    Restores,
    /// Answers are halves, now and then.
    TruncatedResponses,
    /// Something in front of the store refuses what is asked of legal holds and tags.
    Marks,
    /// Legal holds and tags that a leader sets lie somewhere, while it is lost and the incident is over.
    LateProtection,
    /// A backup is restored of before an incident was over.
    Backups,
    /// What was resolved comes to its ceiling, and is not released.
    Overdue,
}

/// As often as they stand here. Another order makes another story of each seed.
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

/// See the module.
#[derive(Clone, Debug)]
pub struct SeedProfile {
    pub theme: Theme,
    /// How often, in a thousand requests of an operator, something happens meanwhile.
    pub keenness: u32,
    /// How often operators look: pauses are divided by it.
    pub haste: u64,
    /// How often people do something: the same.
    pub pace: u64,
    pub events: Vec<Event>,
    pub betrayals: Vec<AdminTampering>,
    pub attacks: Vec<Attack>,
    pub weather: FaultRates,
}

/// All of them, or a few.
fn some<T: Copy>(rng: &mut Rng, all: &[T]) -> Vec<T> {
    let count = match rng.u32(0..4) {
        0 => all.len(),
        1 => all.len().min(4),
        _ => rng.usize(1..3),
    };
    rng.choose_multiple(all.iter().copied(), count)
}

impl SeedProfile {
    /// What a seed is inclined to.
    pub fn drawn(rng: &mut Rng) -> Self {
        let theme = *rng.choice(&THEMES).unwrap();
        let any = Self {
            theme,
            keenness: *rng.choice(&[0, 3, 10, 30, 60]).unwrap(),
            haste: *rng.choice(&[1, 3, 10]).unwrap(),
            pace: *rng.choice(&[1, 1, 3]).unwrap(),
            events: some(rng, &EVENTS),
            betrayals: some(
                rng,
                &[AdminTampering::Marks, AdminTampering::Hides, AdminTampering::TampersWithLedger],
            ),
            attacks: some(
                rng,
                &[Attack::OddKeys, Attack::ManySources, Attack::FarFuture, Attack::ManyVersions],
            ),
            weather: FaultRates {
                of_operators: weather(rng, &[0, 0, 4, 20, 60]),
                of_recorders: weather(rng, &[0, 50, 300]),
                ..FaultRates::default()
            },
        };
        any.about(theme)
    }

    #[allow(clippy::too_many_lines, reason = "an arm for each theme")]
    fn about(self, theme: Theme) -> Self {
        let only = |per_mille, mishaps: &[NetworkFault]| FaultRate { per_mille, mishaps: mishaps.to_vec() };
        let of_operators = |weather| FaultRates { of_operators: weather, ..FaultRates::default() };
        let of_marks = |weather| FaultRates { marks: weather, ..FaultRates::default() };
        match theme {
            Theme::Any => self,
            Theme::Ceilings => Self {
                keenness: 100,
                haste: 3,
                events: vec![Event::Declared, Event::DeclaredDuringOutage, Event::Resolved],
                weather: FaultRates::default(),
                ..self
            },
            Theme::Takeovers => Self {
                keenness: 30,
                haste: 10,
                events: vec![Event::Resolved, Event::Stops, Event::Declared],
                betrayals: vec![AdminTampering::Hides],
                weather: of_operators(only(40, &[NetworkFault::Slow])),
                ..self
            },
            Theme::Uploads => Self {
                keenness: 20,
                haste: 10,
                events: vec![Event::Declared, Event::Widened, Event::Resolved],
                weather: FaultRates {
                    of_recorders: only(500, &[NetworkFault::Slow]),
                    ..FaultRates::default()
                },
                ..self
            },
            Theme::Losses => Self {
                keenness: 20,
                haste: 10,
                events: vec![Event::Destroyed],
                betrayals: vec![AdminTampering::Marks],
                ..self
            },
            Theme::UnreachableRecorder => Self {
                haste: 1,
                events: vec![Event::Resolved, Event::Declared],
                betrayals: vec![AdminTampering::Hides],
                ..self
            },
            Theme::Clocks => Self {
                keenness: 30,
                haste: 3,
                events: vec![Event::ClockSteps],
                weather: FaultRates::default(),
                ..self
            },
            Theme::Rejections => Self {
                haste: 3,
                weather: of_operators(only(150, &[NetworkFault::BadRequest, NetworkFault::Truncated])),
                ..self
            },
            Theme::Attacks => Self {
                pace: 10,
                attacks: [self.attacks, vec![Attack::Crowd, Attack::EachDay]].concat(),
                ..self
            },
            Theme::Restores => Self {
                keenness: 60,
                haste: 3,
                events: vec![Event::LostAndRecreated, Event::Reopened, Event::LostInRestore, Event::Declared],
                ..self
            },
            Theme::TruncatedResponses => Self {
                keenness: 10,
                haste: 3,
                events: vec![Event::Resolved, Event::Declared],
                weather: of_operators(only(30, &[NetworkFault::Truncated])),
                ..self
            },
            Theme::Marks => Self {
                keenness: 10,
                haste: 10,
                events: vec![Event::Resolved, Event::Declared],
                betrayals: vec![AdminTampering::Hides],
                weather: of_marks(only(200, &[NetworkFault::BadRequest])),
                ..self
            },
            Theme::LateProtection => Self {
                keenness: 30,
                haste: 10,
                events: vec![Event::Resolved, Event::Stops, Event::Declared],
                betrayals: vec![AdminTampering::Hides],
                weather: of_marks(only(150, &[NetworkFault::Slow])),
                ..self
            },
            Theme::Backups => {
                Self { keenness: 60, haste: 10, events: vec![Event::Resolved, Event::Reopened], ..self }
            }
            Theme::Overdue => Self {
                keenness: 60,
                haste: 1,
                events: vec![Event::Resolved, Event::Declared],
                weather: FaultRates::default(),
                ..self
            },
        }
    }

    /// Once all is calm.
    pub fn calm(&mut self) {
        (self.keenness, self.haste, self.pace) = (0, 1, 1);
        self.weather = FaultRates::default();
    }
}

/// How the network is to those who have this much of it.
fn weather(rng: &mut Rng, per_mille: &[u32]) -> FaultRate {
    FaultRate { per_mille: *rng.choice(per_mille).unwrap(), mishaps: some(rng, &NetworkFault::ALL) }
}

/// How bad things are.
#[derive(Clone, Debug, Default)]
pub struct FaultRates {
    pub of_operators: FaultRate,
    pub of_recorders: FaultRate,
    /// Where operators ask for legal holds and tags, or set them: beside the first.
    pub marks: FaultRate,
}
