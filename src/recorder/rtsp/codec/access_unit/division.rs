//! From NAL units to pictures.

use std::collections::VecDeque;
use std::sync::Arc;

use super::marks::Marks;
use super::nal_buffer::NalBuffer;
use super::picture::{Begin, Losses, Picture, Prefix, carry_sets};
use super::unit::AccessUnit;
use crate::recorder::frame::{Arrival, Codec, VideoParameters};
use crate::recorder::rtsp::codec::nal::NalHeader;
use crate::recorder::rtsp::codec::parameter_sets::ParameterSets;
use crate::recorder::rtsp::codec::slice::SliceStart;
use crate::recorder::rtsp::oddity::{Oddity, OddityCounts};

/// Most units that wait. One packet has one, or a few with a camera that sends a byte stream.
const MAX_READY: usize = 16;

/// Divides NAL units into units at their first slices. Other NAL units before a slice wait: they belong to its picture, even
/// if they came with the stamp or before the marker of the previous one.
#[derive(Debug)]
pub struct Division {
    codec: Codec,
    pub sets: ParameterSets,
    /// NAL units before the next slice.
    pub prefix: Prefix,
    pub picture: Option<Picture>,
    /// Packets are missing since the last slice.
    has_gap: bool,
    /// Packets are missing after the NAL unit that is read.
    has_gap_next: bool,
    marks: Marks,
    /// Losses that the next picture has before it.
    losses: Losses,
    /// Parameter sets of dropped units.
    carried: NalBuffer,
    ready: VecDeque<AccessUnit>,
}

impl Division {
    pub fn new(sets: ParameterSets, codec: Codec) -> Self {
        Self {
            codec,
            sets,
            prefix: Prefix::default(),
            picture: None,
            has_gap: false,
            has_gap_next: false,
            marks: Marks::default(),
            losses: Losses { packets: 0, is_broken: true },
            carried: NalBuffer::default(),
            ready: VecDeque::new(),
        }
    }

    /// Returns the oldest unit that is complete.
    pub fn pop(&mut self) -> Option<AccessUnit> {
        self.ready.pop_front()
    }

    /// Returns the arrival of the last packet with slices, if the current picture has a marker that may end it.
    pub fn marked_at(&self) -> Option<Arrival> {
        if self.marks.are_inside() {
            return None;
        }
        self.picture.as_ref().filter(|picture| picture.is_marked).map(|picture| picture.last_at)
    }

    /// Returns the bytes of all units.
    pub fn held(&self) -> usize {
        let picture = self.picture.as_ref().map_or(0, |picture| picture.nals.len());
        let ready: usize = self.ready.iter().map(|unit| unit.data.len()).sum();
        picture.saturating_add(self.prefix.nals.len()).saturating_add(ready)
    }

    /// Announces a loss, before the unfinished NAL unit ends.
    pub fn expect_loss(&mut self) {
        self.has_gap_next = true;
    }

    /// Notes packets that are missing. No NAL unit is unfinished.
    pub fn add_loss(&mut self, packets: u16) {
        self.has_gap_next = false;
        self.losses.add(Losses { packets, is_broken: true });
        self.has_gap = true;
        self.drop_prefix();
    }

    /// Ends the current unit. At the end of the stream, a part of it may be missing.
    pub fn end_unit(&mut self, is_last: bool) {
        self.has_gap |= is_last;
        self.end_picture();
    }

    /// Adds a slice by its first bytes. Its data then goes to the current picture, unless that is damaged.
    pub fn add_slice(&mut self, header: NalHeader, head: &[u8], begin: Begin, odd: &mut OddityCounts) {
        let start = SliceStart::read(header, head, &self.sets);
        if start.is_none() {
            odd.note(Oddity::SliceMalformed);
        }
        let is_first = start.map_or_else(|| has_first_bit(header, head), |start| start.is_first);
        if self.picture.as_ref().is_none_or(|picture| self.is_new(picture, start, is_first, begin)) {
            let parameters = start
                .is_some_and(|start| start.is_first && self.sets.activate(start.pps_id))
                .then(|| self.sets.video_parameters())
                .flatten();
            self.end_picture();
            self.begin_picture(begin, !is_first, parameters);
        } else {
            self.continue_picture(start);
        }
        if start.is_none() {
            self.damage(Cause::Malformed);
        }
        if let Some(picture) = &mut self.picture {
            picture.add_slice(header, start);
        }
    }

    /// Returns whether a slice begins another picture than the current one.
    fn is_new(&self, picture: &Picture, start: Option<SliceStart>, is_first: bool, begin: Begin) -> bool {
        if let (Some(start), Some(first)) = (start, picture.first)
            && start.is_second_field(&first)
            && !picture.has_second_field
        {
            return false;
        }
        if is_first {
            return true;
        }
        let identity = |start: Option<SliceStart>| start.and_then(|start| start.picture);
        let is_other = identity(start).zip(identity(picture.last)).map(|(slice, last)| slice != last);
        let has_other_stamp = begin.stamp != picture.begin.stamp;
        if self.has_gap {
            is_other.unwrap_or_default() || self.is_past(picture, begin)
        } else {
            is_other.unwrap_or(has_other_stamp && picture.is_marked)
        }
    }

    /// Returns whether data without a first slice, after a loss, belongs to a later picture.
    fn is_past(&self, picture: &Picture, begin: Begin) -> bool {
        begin.stamp != picture.begin.stamp || picture.is_marked && self.marks.are_trusted()
    }

    fn begin_picture(&mut self, begin: Begin, lacks_first: bool, parameters: Option<Arc<VideoParameters>>) {
        let prefix = std::mem::take(&mut self.prefix);
        let is_damaged = prefix.is_damaged;
        let mut picture = Picture::new(prefix, begin, parameters);
        picture.carried = std::mem::take(&mut self.carried);
        picture.losses = std::mem::take(&mut self.losses);
        picture.sequence = self.sets.sequence();
        self.picture = Some(picture);
        if lacks_first || is_damaged {
            self.damage(self.cause());
        }
        self.has_gap = false;
    }

    /// Adds the NAL units between two slices of a picture.
    fn continue_picture(&mut self, start: Option<SliceStart>) {
        let prefix = std::mem::take(&mut self.prefix);
        let Some(picture) = &mut self.picture else {
            return;
        };
        if let (Some(start), Some(first)) = (start, picture.first)
            && start.is_second_field(&first)
        {
            picture.has_second_field = true;
        }
        // After a loss, the slice may be one of a later picture.
        if std::mem::take(&mut picture.is_marked) && !self.has_gap {
            self.marks.note_inside();
        }
        picture.nals.append_all(prefix.nals);
        if self.has_gap || prefix.is_damaged {
            self.damage(self.cause());
        }
        self.has_gap = false;
    }

    /// Notes that a slice or a part of it is missing.
    pub fn lose_slice(&mut self, begin: Begin) {
        let is_new = self.picture.as_ref().is_none_or(|picture| self.is_past(picture, begin));
        if is_new {
            self.end_picture();
            self.begin_picture(begin, true, None);
        } else {
            // The part may be one of a later picture, so the gap remains until a slice begins.
            self.damage(self.cause());
        }
    }

    fn cause(&self) -> Cause {
        if self.has_gap || self.has_gap_next { Cause::Loss } else { Cause::Malformed }
    }

    /// Marks the current picture as damaged, and frees its data.
    fn damage(&mut self, cause: Cause) {
        let Some(picture) = &mut self.picture else {
            return;
        };
        if std::mem::replace(&mut picture.is_damaged, true) {
            return;
        }
        if cause == Cause::Malformed {
            picture.losses.add(Losses { packets: 1, is_broken: true });
        }
        let nals = std::mem::take(&mut picture.nals);
        carry_sets(&nals, self.codec, &mut picture.carried);
    }

    /// Ends the current picture. If it is whole, it becomes a unit.
    fn end_picture(&mut self) {
        let Some(picture) = &self.picture else {
            return;
        };
        if self.has_gap && !self.marks.is_whole(picture.is_marked, picture.slices) {
            self.damage(Cause::Loss);
        }
        let Some(picture) = self.picture.take() else {
            return;
        };
        if picture.is_damaged || self.ready.len() >= MAX_READY {
            self.drop_picture(picture);
            return;
        }
        if !self.has_gap {
            self.marks.note_whole(picture.is_marked, picture.slices);
        }
        self.ready.push_back(picture.into_unit(self.codec));
    }

    fn drop_picture(&mut self, picture: Picture) {
        let packets = u16::from(!picture.is_damaged);
        self.losses.add(Losses { packets, is_broken: true });
        self.losses.add(picture.losses);
        let later = std::mem::replace(&mut self.carried, picture.carried);
        carry_sets(&picture.nals, self.codec, &mut self.carried);
        carry_sets(&later, self.codec, &mut self.carried);
    }

    /// Drops the NAL units before the next slice, except parameter sets: their picture may be missing.
    pub fn drop_prefix(&mut self) {
        let prefix = std::mem::take(&mut self.prefix);
        carry_sets(&prefix.nals, self.codec, &mut self.carried);
        self.prefix.has_sps = prefix.has_sps;
        self.prefix.is_damaged = prefix.is_damaged;
    }

    /// Adds partition B or C of a slice, which is useless without partition A.
    pub fn add_partition(&mut self, begin: Begin) {
        if self.picture.is_none() || self.has_gap {
            self.lose_slice(begin);
        }
    }

    /// Notes that a parameter set is missing.
    pub fn lose_set(&mut self) {
        self.prefix.is_damaged = true;
    }

    /// Notes data of a slice of the current picture.
    pub fn continue_slice(&mut self, at: Arrival) {
        if let Some(picture) = &mut self.picture {
            picture.last_at = at;
            if std::mem::take(&mut picture.is_marked) {
                self.marks.note_inside();
            }
        }
    }

    /// Notes the marker. After a loss without a slice, a marker of other NAL units does not say that the picture is whole.
    pub fn mark(&mut self) {
        if let Some(picture) = &mut self.picture
            && (picture.is_damaged || !self.has_gap)
        {
            picture.is_marked = true;
        }
    }

    /// Notes that the current picture has a slice with a missing end.
    pub fn cut_slice(&mut self) {
        self.damage(self.cause());
    }

    /// Drops the current picture, because it is too large.
    pub fn drop_oversized(&mut self) {
        self.damage(Cause::Malformed);
    }
}

/// Why a picture is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Missing packets, which are counted.
    Loss,
    Malformed,
}

/// Returns `first_mb_in_slice` = 0, or `first_slice_segment_in_pic_flag`: both are the first bit after the header.
fn has_first_bit(header: NalHeader, nal: &[u8]) -> bool {
    nal.get(header.length()).is_some_and(|byte| byte & 0x80 != 0)
}
