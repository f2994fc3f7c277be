//! Start codes of a byte stream (ITU-T H.264 and H.265, Annex B). RTP payloads must not have them, but those of some
//! cameras do.

use memchr::memmem;

use super::super::oddity::Oddity;

/// `start_code_prefix_one_3bytes`. It cannot occur inside a valid NAL unit (ITU-T H.264, clause 7.4.1).
const START_CODE: &[u8] = &[0, 0, 1];
const ZEROS: &[u8] = &[0; 64];

/// Receiver of NAL units in pieces.
pub trait NalSink {
    /// Adds bytes to the current NAL unit, at least one. The first ones begin it.
    fn append(&mut self, bytes: &[u8]);

    /// Ends the current NAL unit. It is complete.
    fn end(&mut self);

    /// Drops the current NAL unit, because a part of it is missing.
    fn abandon(&mut self);

    /// Notes that a NAL unit or a part of it is missing. The header is that of the fragment. It may be incomplete or empty.
    fn lose(&mut self, header: &[u8]);

    /// Counts an oddity of the payload.
    fn note(&mut self, oddity: Oddity);
}

/// Divides the bytes between one start and one end at start codes, which may straddle pieces.
///
/// It drops empty NAL units, and zero bytes at the end of one (`trailing_zero_8bits`): the last byte of a valid NAL unit is
/// not zero. It holds no bytes. The work is linear in the bytes.
#[derive(Clone, Debug, Default)]
pub struct StartCodeSplitter {
    /// Zero bytes at the end of the last piece that may belong to a start code.
    zeros: usize,
    is_open: bool,
    has_split: bool,
}

impl StartCodeSplitter {
    /// Takes the next piece.
    pub fn push(&mut self, piece: &[u8], sink: &mut impl NalSink) {
        let mut rest = self.push_after_zeros(piece, sink);
        while let Some(position) = memmem::find(rest, START_CODE) {
            let (nal, others) = rest.split_at_checked(position).unwrap_or_default();
            self.append(trim_zeros(nal), sink);
            self.end_nal(sink);
            self.has_split = true;
            rest = others.get(START_CODE.len()..).unwrap_or_default();
        }
        let nal = trim_zeros(rest);
        self.append(nal, sink);
        self.zeros = self.zeros.saturating_add(rest.len().saturating_sub(nal.len()));
    }

    /// Ends the last NAL unit. Counts whether there were start codes.
    pub fn finish(&mut self, sink: &mut impl NalSink) {
        self.zeros = 0;
        self.end_nal(sink);
        if self.has_split {
            sink.note(Oddity::StartCode);
        }
    }

    /// Drops the last NAL unit, because a part of it is missing.
    pub fn abandon(&mut self, sink: &mut impl NalSink) {
        self.zeros = 0;
        if std::mem::take(&mut self.is_open) {
            sink.abandon();
        }
    }

    /// Returns whether a NAL unit has begun.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Returns whether there was a start code.
    pub fn has_split(&self) -> bool {
        self.has_split
    }

    /// Decides about the zeros at the end of the last piece. Returns the rest of this one.
    fn push_after_zeros<'a>(&mut self, piece: &'a [u8], sink: &mut impl NalSink) -> &'a [u8] {
        if self.zeros == 0 {
            return piece;
        }
        let leading = piece.iter().take_while(|byte| **byte == 0).count();
        self.zeros = self.zeros.saturating_add(leading);
        let rest = piece.get(leading..).unwrap_or_default();
        match rest.split_first() {
            None => {}
            Some((1, after)) if self.zeros >= 2 => {
                self.zeros = 0;
                self.end_nal(sink);
                self.has_split = true;
                return after;
            }
            Some(_) => self.append_zeros(sink),
        }
        rest
    }

    /// Adds the held zeros, which are no part of a start code.
    fn append_zeros(&mut self, sink: &mut impl NalSink) {
        let mut zeros = std::mem::take(&mut self.zeros);
        while zeros > 0 {
            let piece = ZEROS.get(..zeros).unwrap_or(ZEROS);
            self.append(piece, sink);
            zeros = zeros.saturating_sub(piece.len());
        }
    }

    fn append(&mut self, bytes: &[u8], sink: &mut impl NalSink) {
        if !bytes.is_empty() {
            self.is_open = true;
            sink.append(bytes);
        }
    }

    fn end_nal(&mut self, sink: &mut impl NalSink) {
        if std::mem::take(&mut self.is_open) {
            sink.end();
        }
    }
}

/// Passes the NAL units of a whole payload.
pub fn split_whole(payload: &[u8], sink: &mut impl NalSink) {
    let mut splitter = StartCodeSplitter::default();
    splitter.push(payload, sink);
    splitter.finish(sink);
}

fn trim_zeros(bytes: &[u8]) -> &[u8] {
    let len = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
    bytes.get(..len).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::collected::{Collected, Event};
    use super::*;

    fn split(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
        let mut sink = Collected::default();
        let mut splitter = StartCodeSplitter::default();
        for piece in pieces {
            splitter.push(piece, &mut sink);
        }
        splitter.finish(&mut sink);
        assert!(!splitter.is_open());
        (nals(sink), splitter.has_split())
    }

    fn nals(sink: Collected) -> Vec<Vec<u8>> {
        let nal = |event| if let Event::Nal(nal) = event { nal } else { panic!("{event:?} is no NAL unit") };
        sink.events().into_iter().map(nal).collect()
    }

    /// Splits as Annex B.2 of ITU-T H.264 says, byte by byte, and drops empty NAL units.
    fn split_by_the_book(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut nals = vec![Vec::new()];
        let mut position = 0;
        while position < bytes.len() {
            if bytes[position..].starts_with(&[0, 0, 1]) {
                nals.push(Vec::new());
                position += 3;
            } else {
                nals.last_mut().unwrap().push(bytes[position]);
                position += 1;
            }
        }
        for nal in &mut nals {
            while nal.last() == Some(&0) {
                nal.pop();
            }
        }
        nals.retain(|nal| !nal.is_empty());
        nals
    }

    #[test]
    fn payload_without_start_code_is_one_nal_unit() {
        let valid = [0x65, 0, 0, 3, 0, 0, 3, 1, 0x80];
        assert_eq!(split(&[&valid]), (vec![valid.to_vec()], false));
        assert_eq!(split(&[&[0x65, 0, 0, 2, 1]]), (vec![vec![0x65, 0, 0, 2, 1]], false));
        assert_eq!(split(&[]), (vec![], false));
        assert_eq!(split(&[&[], &[0], &[0, 0]]), (vec![], false));
    }

    #[test]
    fn start_codes_of_three_and_four_bytes_divide() {
        let stream = [0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 2, 0, 0, 0, 0, 1, 0x65, 3, 0, 0];
        assert_eq!(split(&[&stream]), (vec![vec![0x67, 1], vec![0x68, 2], vec![0x65, 3]], true));
    }

    #[test]
    fn empty_nal_units_are_dropped() {
        assert_eq!(split(&[&[0, 0, 1, 0, 0, 1, 0x65, 3, 0, 0, 0, 1]]), (vec![vec![0x65, 3]], true));
    }

    #[test]
    fn abandoned_nal_unit_keeps_the_others() {
        let mut sink = Collected::default();
        let mut splitter = StartCodeSplitter::default();
        splitter.push(&[0x67, 1, 0, 0, 1, 0x65, 0, 0], &mut sink);
        splitter.abandon(&mut sink);
        splitter.abandon(&mut sink);
        splitter.push(&[1, 0x41], &mut sink);
        splitter.finish(&mut sink);
        let events = [Event::Nal(vec![0x67, 1]), Event::Abandoned(vec![0x65]), Event::Nal(vec![1, 0x41])];
        assert_eq!(sink.events(), events);
    }

    proptest! {
        #[test]
        fn pieces_split_like_the_whole(
            pieces in proptest::collection::vec(proptest::collection::vec(0_u8..4, 0..9), 0..9),
            zeros in 0_usize..200,
        ) {
            let mut pieces = pieces;
            pieces.insert(pieces.len() / 2, vec![0; zeros]);
            let whole = pieces.concat();
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let (nals, has_split) = split(&pieces);
            prop_assert_eq!(&nals, &split_by_the_book(&whole));
            prop_assert_eq!(has_split, whole.windows(3).any(|window| window == START_CODE));
            let mut sink = Collected::default();
            split_whole(&whole, &mut sink);
            prop_assert_eq!(sink.odd.get(Oddity::StartCode), u64::from(has_split));
            prop_assert_eq!(self::nals(sink), nals);
        }
    }
}
