//! The parameter sets of a stream.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::h264_sps::H264Sps;
use super::h265_sps::H265Sps;
use super::nal::{NalHeader, NalKind};
use super::pps::Pps;
use super::sample_entry::{avc3, hev1};
use super::sprop::read_sprop;
use crate::recorder::frame::{Codec, VideoParameters};
use crate::recorder::rtsp::oddity::{Oddity, OddityCounts};
use crate::recorder::rtsp::sdp::FormatParameters;

/// Longest parameter set that is kept, in bytes.
pub const MAX_SET_BYTES: usize = 4 << 10;
/// Most bytes of all sets of a stream.
pub const MAX_BYTES: usize = 16 << 10;
/// Most VPS or SPS, and most PPS, of a stream. `avcC` has no room for more.
const MAX_SEQUENCE_SETS: usize = 31;
const MAX_PICTURE_SETS: usize = 255;

/// News of a parameter set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetChange {
    /// No set of this kind and id was known.
    New,
    /// The known set came again.
    Same,
    /// The set replaces another one of the same kind and id.
    Changed,
    /// No parameter set of the base layer, or one that cannot be read or is beyond a limit.
    Ignored,
}

/// The current parameter sets of a stream, by kind and id. Units are kept without zeros at their end, which belong to no unit.
///
/// The *active* SPS describes the pictures: that of the last slice, or before the first slice the newest SPS.
#[derive(Debug)]
pub struct ParameterSets {
    codec: Codec,
    vps: Table<()>,
    sps: Table<Sps>,
    pps: Table<Pps>,
    /// Id of the active SPS.
    active: Option<u8>,
    is_chosen_by_slice: bool,
    /// VPS and SPS of the current sequence.
    current: Option<Sequence>,
    sequence: u32,
    parameters: Option<Arc<VideoParameters>>,
}

type Sequence = (Option<Vec<u8>>, Vec<u8>);

impl ParameterSets {
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            vps: Table::new(MAX_SEQUENCE_SETS),
            sps: Table::new(MAX_SEQUENCE_SETS),
            pps: Table::new(MAX_PICTURE_SETS),
            active: None,
            is_chosen_by_slice: false,
            current: None,
            sequence: 0,
            parameters: None,
        }
    }

    /// Adds the sets of a description. The stream may replace them.
    pub fn add_description(&mut self, parameters: &FormatParameters, odd: &mut OddityCounts) {
        for unit in read_sprop(self.codec, parameters, odd) {
            match NalHeader::read(self.codec, &unit).map(NalHeader::kind) {
                Some(NalKind::Vps | NalKind::Sps | NalKind::Pps) => {
                    self.add(&unit, odd);
                }
                // RFC 7798 has `sprop-sei`, and some cameras mix an SEI or a delimiter into the sets.
                _ => odd.note(Oddity::SetInDescription),
            }
        }
    }

    /// Adds a VPS, SPS or PPS. The sample of the unit keeps it too.
    pub fn add(&mut self, unit: &[u8], odd: &mut OddityCounts) -> SetChange {
        let length = unit.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
        let unit = unit.get(..length).unwrap_or_default();
        let Some(header) = NalHeader::read(self.codec, unit).filter(|header| header.layer == 0) else {
            return SetChange::Ignored;
        };
        let kind = header.kind();
        if !matches!(kind, NalKind::Vps | NalKind::Sps | NalKind::Pps) {
            return SetChange::Ignored;
        }
        if unit.len() > MAX_SET_BYTES {
            odd.note(Oddity::SetOverLimit);
            return SetChange::Ignored;
        }
        let room = MAX_BYTES.saturating_sub(self.vps.bytes + self.sps.bytes + self.pps.bytes);
        let result = match kind {
            NalKind::Vps => match unit.get(header.length()) {
                Some(byte) => self.vps.set(byte >> 4, (), unit, room),
                None => Err(Oddity::SetMalformed),
            },
            NalKind::Sps => match Sps::read(self.codec, unit) {
                Some(sps) => self.add_sps(sps, unit, room),
                None => Err(Oddity::SetMalformed),
            },
            _ => match Pps::read(self.codec, unit) {
                Some(pps) => self.pps.set(pps.id, pps, unit, room),
                None => Err(Oddity::SetMalformed),
            },
        };
        let change = result.unwrap_or_else(|oddity| {
            odd.note(oddity);
            SetChange::Ignored
        });
        if matches!(change, SetChange::New | SetChange::Changed) {
            self.parameters = None;
            if kind != NalKind::Pps {
                self.count_sequence();
            }
        }
        change
    }

    fn add_sps(&mut self, sps: Sps, unit: &[u8], room: usize) -> Result<SetChange, Oddity> {
        let id = sps.id();
        let change = self.sps.set(id, sps, unit, room)?;
        if change != SetChange::Same && !self.is_chosen_by_slice && self.active != Some(id) {
            self.active = Some(id);
            self.parameters = None;
            self.count_sequence();
        }
        Ok(change)
    }

    /// Makes the SPS of a slice the active one. Call it for the first slice of each picture, after the sets before it. Returns
    /// whether the PPS and SPS of the slice are known.
    pub fn activate(&mut self, pps_id: u8) -> bool {
        let Some(sps_id) = self.pps(pps_id).map(|pps| pps.sps_id) else {
            return false;
        };
        if self.sps.get(sps_id).is_none() {
            return false;
        }
        self.is_chosen_by_slice = true;
        if self.active != Some(sps_id) {
            self.active = Some(sps_id);
            self.parameters = None;
            self.count_sequence();
        }
        true
    }

    /// Number of the coded video sequence: it grows if the active SPS, or its VPS, is another one than before. A recording must
    /// then begin a new file at the next random access point. A changed PPS does not count.
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    fn count_sequence(&mut self) {
        let Some(stored) = self.active.and_then(|id| self.sps.get(id)) else {
            return;
        };
        let vps = stored.content.vps_id().and_then(|id| self.vps.get(id)).map(|stored| stored.unit.clone());
        let sequence = (vps, stored.unit.clone());
        if self.current.as_ref() != Some(&sequence) {
            self.current = Some(sequence);
            self.sequence = self.sequence.wrapping_add(1);
        }
    }

    /// Returns the parameters with the current table of sets: the same value until a set changes. Returns `None` until an SPS
    /// and a PPS of it are known. After a change it copies all sets, so call it at random access points only.
    pub fn video_parameters(&mut self) -> Option<Arc<VideoParameters>> {
        if self.parameters.is_none() {
            self.parameters = self.build_parameters().map(Arc::new);
        }
        self.parameters.clone()
    }

    fn build_parameters(&self) -> Option<VideoParameters> {
        let id = self.active?;
        if !self.pps.iter().any(|pps| pps.content.sps_id == id) {
            return None;
        }
        let (codec, (vps, sps, pps)) = (self.codec, (self.vps.units(), self.sps.units(), self.pps.units()));
        let (width, height, sample_entry) = match &self.sps.get(id)?.content {
            Sps::H264(facts) => (facts.width, facts.height, avc3(facts, sps, pps)?),
            Sps::H265(facts) => (facts.width, facts.height, hev1(facts, [vps, sps, pps])?),
        };
        Some(VideoParameters { codec, width, height, sample_entry })
    }

    /// Returns the PPS of an id.
    pub fn pps(&self, pps_id: u8) -> Option<&Pps> {
        Some(&self.pps.get(pps_id)?.content)
    }

    /// Returns the H.264 SPS of a PPS.
    pub fn h264_sps(&self, pps_id: u8) -> Option<&H264Sps> {
        match &self.sps.get(self.pps(pps_id)?.sps_id)?.content {
            Sps::H264(sps) => Some(sps),
            Sps::H265(_) => None,
        }
    }
}

#[derive(Debug)]
enum Sps {
    H264(H264Sps),
    H265(H265Sps),
}

impl Sps {
    fn read(codec: Codec, unit: &[u8]) -> Option<Self> {
        match codec {
            Codec::H264 => H264Sps::read(unit).map(Self::H264),
            Codec::H265 => H265Sps::read(unit).map(Self::H265),
        }
    }

    fn id(&self) -> u8 {
        match self {
            Self::H264(sps) => sps.id,
            Self::H265(sps) => sps.id,
        }
    }

    fn vps_id(&self) -> Option<u8> {
        match self {
            Self::H264(_) => None,
            Self::H265(sps) => Some(sps.vps_id),
        }
    }
}

#[derive(Debug)]
struct Stored<T> {
    unit: Vec<u8>,
    content: T,
}

/// Sets of one kind by id.
#[derive(Debug)]
struct Table<T> {
    sets: BTreeMap<u8, Stored<T>>,
    max_sets: usize,
    /// Bytes of all units.
    bytes: usize,
}

impl<T> Table<T> {
    fn new(max_sets: usize) -> Self {
        Self { sets: BTreeMap::new(), max_sets, bytes: 0 }
    }

    fn get(&self, id: u8) -> Option<&Stored<T>> {
        self.sets.get(&id)
    }

    fn iter(&self) -> impl Iterator<Item = &Stored<T>> {
        self.sets.values()
    }

    fn units(&self) -> Vec<Vec<u8>> {
        self.iter().map(|stored| stored.unit.clone()).collect()
    }

    /// Stores a set if it is new or changed, and if `room` has its bytes.
    fn set(&mut self, id: u8, content: T, unit: &[u8], room: usize) -> Result<SetChange, Oddity> {
        let known = self.sets.get(&id).map(|stored| stored.unit.as_slice());
        if known == Some(unit) {
            return Ok(SetChange::Same);
        }
        let freed = known.map_or(0, <[u8]>::len);
        let is_full = known.is_none() && self.sets.len() >= self.max_sets;
        if is_full || unit.len() > room.saturating_add(freed) {
            return Err(Oddity::SetOverLimit);
        }
        self.bytes = self.bytes.saturating_sub(freed).saturating_add(unit.len());
        match self.sets.insert(id, Stored { unit: unit.to_vec(), content }) {
            Some(_) => Ok(SetChange::Changed),
            None => Ok(SetChange::New),
        }
    }
}

#[cfg(test)]
mod tests;
