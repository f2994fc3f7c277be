//! NAL units that a test collects.

use super::super::oddity::{Oddity, OddityCounts};
use super::annex_b::NalSink;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Nal(Vec<u8>),
    Abandoned(Vec<u8>),
    Lost(Vec<u8>),
}

#[derive(Debug, Default)]
pub struct Collected {
    events: Vec<Event>,
    open: Option<Vec<u8>>,
    pub odd: OddityCounts,
}

impl Collected {
    /// Returns the events. No NAL unit is unfinished.
    pub fn events(self) -> Vec<Event> {
        assert_eq!(self.open, None);
        self.events
    }
}

impl NalSink for Collected {
    fn append(&mut self, bytes: &[u8]) {
        assert!(!bytes.is_empty());
        self.open.get_or_insert_default().extend_from_slice(bytes);
    }

    fn end(&mut self) {
        self.events.push(Event::Nal(self.open.take().unwrap()));
    }

    fn abandon(&mut self) {
        self.events.push(Event::Abandoned(self.open.take().unwrap()));
    }

    fn lose(&mut self, header: &[u8]) {
        self.events.push(Event::Lost(header.to_vec()));
    }

    fn note(&mut self, oddity: Oddity) {
        self.odd.note(oddity);
    }
}
