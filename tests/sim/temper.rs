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
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Temper {
    /// How often, in a thousand requests of an operator, something happens meanwhile.
    pub keenness: u32,
    /// How often operators look: pauses are divided by it.
    pub haste: u64,
    /// How often people do something: the same.
    pub pace: u64,
    pub events: Vec<Event>,
    pub betrayals: Vec<Betrayal>,
    pub attacks: Vec<Attack>,
    /// One recorder that fell silent stays so until all is calm: for longer than anybody waits.
    pub is_deaf: bool,
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
    pub fn drawn(rng: &mut Rng) -> Self {
        let is_deaf = rng.u32(0..6) == 0;
        Self {
            keenness: *rng.choice(&[0, 3, 10, 30, 60]).unwrap(),
            haste: if is_deaf {
                1
            } else {
                *rng.choice(&[1, 3, 10]).unwrap()
            },
            pace: *rng.choice(&[1, 1, 3]).unwrap(),
            events: some(rng, &EVENTS),
            betrayals: some(rng, &[Betrayal::Marks, Betrayal::Hides, Betrayal::SpoilsLedger]),
            attacks: some(
                rng,
                &[
                    Attack::OddKeys,
                    Attack::ManySources,
                    Attack::FarFuture,
                    Attack::ManyVersions,
                ],
            ),
            is_deaf,
        }
    }

    /// Once all is calm.
    pub fn calm(&mut self) {
        (self.keenness, self.haste, self.pace) = (0, 1, 1);
    }
}

/// How the network is to those who have this much of it.
pub fn weather(rng: &mut Rng, per_mille: &[u32]) -> Weather {
    Weather {
        per_mille: *rng.choice(per_mille).unwrap(),
        mishaps: some(rng, &Mishap::ALL),
    }
}
