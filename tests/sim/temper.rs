//! What a seed is inclined to. Where everything happens in every run, much is masked by something else; so most seeds know
//! only a few of the things that can happen, and these often ("swarm testing", Groce et al., ISSTA 2012).

use fastrand::Rng;

use super::kind::{Mishap, Weather};

/// What happens at the worst moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Declared,
    /// Declared where nobody can be asked any more.
    Unasked,
    Widened,
    Resolved,
    Reopened,
    /// Lost in a restore.
    Forgotten,
    /// Lost in a restore, and made anew.
    Remade,
    /// The window ends.
    Ends,
    ClockSteps,
    /// Somebody takes a legal hold off.
    TakenOff,
    /// Somebody hides what is held.
    Hidden,
    /// Somebody destroys what is held.
    Destroyed,
    /// A recorder answers nobody any more, or does again.
    Voice,
    /// The leader is stopped, and thaws later.
    Stops,
}

const EVENTS: [Event; 14] = [
    Event::Declared,
    Event::Unasked,
    Event::Widened,
    Event::Resolved,
    Event::Reopened,
    Event::Forgotten,
    Event::Remade,
    Event::Ends,
    Event::ClockSteps,
    Event::TakenOff,
    Event::Hidden,
    Event::Destroyed,
    Event::Voice,
    Event::Stops,
];

/// What somebody does who administers the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Betrayal {
    Marks,
    Hides,
    SpoilsLedger,
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
    Deaf,
    Clocks,
    /// Answers are refusals, or halves.
    Refusals,
    Attacks,
    Restores,
    /// Answers are halves, now and then.
    Halves,
    /// Something in front of the store refuses what is asked of legal holds and tags.
    Marks,
    /// Legal holds and tags that a leader sets lie somewhere, while it is lost and the incident is over.
    LateMarks,
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
    Theme::Deaf,
    Theme::Uploads,
    Theme::Takeovers,
    Theme::Uploads,
    Theme::Losses,
    Theme::Deaf,
    Theme::Clocks,
    Theme::Refusals,
    Theme::Refusals,
    Theme::Losses,
    Theme::Halves,
    Theme::Attacks,
    Theme::Attacks,
    Theme::Halves,
    Theme::Restores,
    Theme::Clocks,
    Theme::Backups,
    Theme::Marks,
    Theme::Marks,
    Theme::LateMarks,
    Theme::LateMarks,
    Theme::Backups,
    Theme::Restores,
    Theme::Overdue,
    Theme::Overdue,
];

/// See the module.
#[derive(Clone, Debug)]
pub struct Temper {
    pub theme: Theme,
    /// How often, in a thousand requests of an operator, something happens meanwhile.
    pub keenness: u32,
    /// How often operators look: pauses are divided by it.
    pub haste: u64,
    /// How often people do something: the same.
    pub pace: u64,
    pub events: Vec<Event>,
    pub betrayals: Vec<Betrayal>,
    pub attacks: Vec<Attack>,
    pub weather: Weathers,
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

impl Temper {
    /// What a seed is inclined to.
    pub fn drawn(rng: &mut Rng) -> Self {
        let theme = *rng.choice(&THEMES).unwrap();
        let any = Self {
            theme,
            keenness: *rng.choice(&[0, 3, 10, 30, 60]).unwrap(),
            haste: *rng.choice(&[1, 3, 10]).unwrap(),
            pace: *rng.choice(&[1, 1, 3]).unwrap(),
            events: some(rng, &EVENTS),
            betrayals: some(rng, &[Betrayal::Marks, Betrayal::Hides, Betrayal::SpoilsLedger]),
            attacks: some(
                rng,
                &[Attack::OddKeys, Attack::ManySources, Attack::FarFuture, Attack::ManyVersions],
            ),
            weather: Weathers {
                of_operators: weather(rng, &[0, 0, 4, 20, 60]),
                of_recorders: weather(rng, &[0, 50, 300]),
                ..Weathers::default()
            },
        };
        any.about(theme)
    }

    #[allow(clippy::too_many_lines, reason = "an arm for each theme")]
    fn about(self, theme: Theme) -> Self {
        let only = |per_mille, mishaps: &[Mishap]| Weather { per_mille, mishaps: mishaps.to_vec() };
        let of_operators = |weather| Weathers { of_operators: weather, ..Weathers::default() };
        let of_marks = |weather| Weathers { marks: weather, ..Weathers::default() };
        match theme {
            Theme::Any => self,
            Theme::Ceilings => Self {
                keenness: 100,
                haste: 3,
                events: vec![Event::Declared, Event::Unasked, Event::Resolved],
                weather: Weathers::default(),
                ..self
            },
            Theme::Takeovers => Self {
                keenness: 30,
                haste: 10,
                events: vec![Event::Resolved, Event::Stops, Event::Declared],
                betrayals: vec![Betrayal::Hides],
                weather: of_operators(only(40, &[Mishap::Slow])),
                ..self
            },
            Theme::Uploads => Self {
                keenness: 20,
                haste: 10,
                events: vec![Event::Declared, Event::Widened, Event::Resolved],
                weather: Weathers { of_recorders: only(500, &[Mishap::Slow]), ..Weathers::default() },
                ..self
            },
            Theme::Losses => Self {
                keenness: 20,
                haste: 10,
                events: vec![Event::Destroyed],
                betrayals: vec![Betrayal::Marks],
                ..self
            },
            Theme::Deaf => Self {
                haste: 1,
                events: vec![Event::Resolved, Event::Declared],
                betrayals: vec![Betrayal::Hides],
                ..self
            },
            Theme::Clocks => Self {
                keenness: 30,
                haste: 3,
                events: vec![Event::ClockSteps],
                weather: Weathers::default(),
                ..self
            },
            Theme::Refusals => Self {
                haste: 3,
                weather: of_operators(only(150, &[Mishap::BadRequest, Mishap::Truncated])),
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
                events: vec![Event::Remade, Event::Reopened, Event::Forgotten, Event::Declared],
                ..self
            },
            Theme::Halves => Self {
                keenness: 10,
                haste: 3,
                events: vec![Event::Resolved, Event::Declared],
                weather: of_operators(only(30, &[Mishap::Truncated])),
                ..self
            },
            Theme::Marks => Self {
                keenness: 10,
                haste: 10,
                events: vec![Event::Resolved, Event::Declared],
                betrayals: vec![Betrayal::Hides],
                weather: of_marks(only(200, &[Mishap::BadRequest])),
                ..self
            },
            Theme::LateMarks => Self {
                keenness: 30,
                haste: 10,
                events: vec![Event::Resolved, Event::Stops, Event::Declared],
                betrayals: vec![Betrayal::Hides],
                weather: of_marks(only(150, &[Mishap::Slow])),
                ..self
            },
            Theme::Backups => {
                Self { keenness: 60, haste: 10, events: vec![Event::Resolved, Event::Reopened], ..self }
            }
            Theme::Overdue => Self {
                keenness: 60,
                haste: 1,
                events: vec![Event::Resolved, Event::Declared],
                weather: Weathers::default(),
                ..self
            },
        }
    }

    /// Once all is calm.
    pub fn calm(&mut self) {
        (self.keenness, self.haste, self.pace) = (0, 1, 1);
        self.weather = Weathers::default();
    }
}

/// How the network is to those who have this much of it.
fn weather(rng: &mut Rng, per_mille: &[u32]) -> Weather {
    Weather { per_mille: *rng.choice(per_mille).unwrap(), mishaps: some(rng, &Mishap::ALL) }
}

/// How bad things are.
#[derive(Clone, Debug, Default)]
pub struct Weathers {
    pub of_operators: Weather,
    pub of_recorders: Weather,
    /// Where operators ask for legal holds and tags, or set them: beside the first.
    pub marks: Weather,
}
