//! The picture that is read, and the NAL units before the next one.

use std::sync::Arc;

use super::nal_buffer::{LENGTH, NalBuffer};
use super::unit::{AccessUnit, RandomAccess};
use crate::recorder::frame::{Arrival, Codec, VideoParameters};
use crate::recorder::rtsp::codec::nal::{NalHeader, NalKind};
use crate::recorder::rtsp::codec::sei::RecoveryPoint;
use crate::recorder::rtsp::codec::slice::SliceStart;

/// Most bytes of parameter sets of dropped units that wait for the next unit, with their lengths.
pub const MAX_CARRIED: usize = 64 << 10;

/// NAL units before a picture.
#[derive(Debug, Default)]
pub struct Prefix {
    pub nals: NalBuffer,
    pub recovery: Option<RecoveryPoint>,
    pub has_sps: bool,
    /// A parameter set is missing.
    pub is_damaged: bool,
}

/// Facts about the packet in which a slice begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    pub stamp: u32,
    pub at: Arrival,
}

/// Losses since the last unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    pub packets: u16,
    pub is_broken: bool,
}

impl Losses {
    pub fn add(&mut self, other: Self) {
        self.packets = self.packets.saturating_add(other.packets);
        self.is_broken |= other.is_broken;
    }
}

/// What decides whether decoding can begin at a picture.
#[derive(Debug)]
struct AccessFacts {
    kind: Option<NalKind>,
    /// `None` if it is unknown for all slices.
    is_intra: Option<bool>,
    recovery: Option<RecoveryPoint>,
    has_sps: bool,
}

/// A picture that is read.
#[derive(Debug)]
pub struct Picture {
    /// Empty if the picture is damaged.
    pub nals: NalBuffer,
    pub begin: Begin,
    pub last_at: Arrival,
    pub slices: u32,
    pub first: Option<SliceStart>,
    pub last: Option<SliceStart>,
    pub has_second_field: bool,
    /// The last packet with slices, or one after it, has the marker.
    pub is_marked: bool,
    pub is_damaged: bool,
    /// Parameter sets of dropped units before it.
    pub carried: NalBuffer,
    pub losses: Losses,
    /// See [`AccessUnit::sequence`].
    pub sequence: u32,
    access: AccessFacts,
    parameters: Option<Arc<VideoParameters>>,
}

impl Picture {
    pub fn new(prefix: Prefix, begin: Begin, parameters: Option<Arc<VideoParameters>>) -> Self {
        Self {
            nals: prefix.nals,
            begin,
            last_at: begin.at,
            slices: 0,
            first: None,
            last: None,
            has_second_field: false,
            is_marked: false,
            is_damaged: false,
            carried: NalBuffer::default(),
            losses: Losses::default(),
            sequence: 0,
            access: AccessFacts {
                kind: None,
                is_intra: None,
                recovery: prefix.recovery,
                has_sps: prefix.has_sps,
            },
            parameters,
        }
    }

    /// Notes the start of a slice.
    pub fn add_slice(&mut self, header: NalHeader, start: Option<SliceStart>) {
        self.slices = self.slices.saturating_add(1);
        self.access.kind.get_or_insert(header.kind());
        if start.is_some() {
            self.first = self.first.or(start);
            self.last = start;
        }
        let is_intra = start.and_then(|start| start.is_intra);
        // The second field of a keyframe may need the first one.
        if let Some(is_intra) = is_intra
            && !self.has_second_field
        {
            self.access.is_intra = Some(is_intra && self.access.is_intra.unwrap_or(true));
        }
    }

    /// Returns the unit.
    pub fn into_unit(self, codec: Codec) -> AccessUnit {
        let random_access = self.access.random_access();
        let mut nals = self.nals;
        if !self.carried.is_empty() {
            let first = nals.nals().next().and_then(|nal| NalHeader::read(codec, nal));
            let is_delimiter = first.is_some_and(|header| header.kind() == NalKind::Delimiter);
            nals.insert(self.carried, is_delimiter);
        }
        AccessUnit {
            data: nals.into_data(),
            stamp: self.begin.stamp,
            random_access,
            parameters: self.parameters,
            sequence: self.sequence,
            first_at: self.begin.at,
            last_at: self.last_at,
            lost_packets: self.losses.packets,
            is_contiguous: !self.losses.is_broken,
        }
    }
}

impl AccessFacts {
    fn random_access(&self) -> RandomAccess {
        let is_intra = self.is_intra == Some(true);
        match (self.kind, self.recovery) {
            (Some(NalKind::Idr), _) => RandomAccess::Idr,
            (Some(NalKind::OpenIrap), _) => RandomAccess::OpenGop,
            (_, Some(recovery)) if recovery.frames > 0 || !is_intra => {
                RandomAccess::RecoveryPoint { frames: recovery.frames }
            }
            (_, recovery) if is_intra && (recovery.is_some() || self.has_sps) => RandomAccess::OpenGop,
            _ => RandomAccess::None,
        }
    }
}

/// Adds the parameter sets among NAL units. Later pictures may need them, even if this one is dropped.
pub fn carry_sets(nals: &NalBuffer, codec: Codec, carried: &mut NalBuffer) {
    for nal in nals.nals() {
        let kind = NalHeader::read(codec, nal).map(NalHeader::kind);
        let len = nal.len().saturating_add(LENGTH);
        if !matches!(kind, Some(NalKind::Vps | NalKind::Sps | NalKind::Pps)) || len > MAX_CARRIED {
            continue;
        }
        if carried.len().saturating_add(len) > MAX_CARRIED {
            *carried = NalBuffer::default();
        }
        carried.add(nal);
    }
}
