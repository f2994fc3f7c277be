//! A fragment: `prft`, `moof`, `mdat`.

use jiff::Timestamp;
use mp4_atom::{
    Encode, FourCC, Header, Mfhd, Moof, Prft, ReferenceTime, Tfdt, Tfhd, Traf, Trun, TrunEntry, TrunSamples,
};

use super::{Mp4Error, NANOS_1900_TO_1970, NANOS_PER_SECOND, TRACK_ID};

/// `sample_depends_on` = 2, a sync sample.
const KEYFRAME: u32 = 0x0200_0000;
/// `sample_depends_on` = 1, not a sync sample.
const DEPENDENT: u32 = 0x0101_0000;

#[derive(Clone, Debug)]
pub struct Sample {
    /// Presentation time in ticks since the first frame of the file.
    pub presentation_ticks: i64,
    pub is_keyframe: bool,
    pub data: Vec<u8>,
}

#[derive(Debug)]
pub struct Fragment<'a> {
    /// Number of the fragment in its file, from 1.
    pub sequence: u32,
    /// Frames in order of arrival, which is the order of decoding.
    pub samples: &'a [Sample],
    /// End of the previous fragment in ticks; 0 for the first.
    pub base_decode_ticks: u64,
    /// Presentation time of the frame after the last, in ticks.
    pub next_presentation_ticks: i64,
    /// Capture time of the first frame.
    pub captured_at: Timestamp,
}

impl Fragment<'_> {
    /// Returns the bytes, and the end of the fragment in ticks.
    ///
    /// A camera sends presentation times, but no decode times. So the n-th frame in order of decoding gets the n-th smallest
    /// presentation time. If the camera reorders frames (B-frames), the difference is the composition offset.
    pub fn encode(&self) -> Result<(Vec<u8>, u64), Mp4Error> {
        let mut decode_ticks: Vec<i64> =
            self.samples.iter().map(|sample| sample.presentation_ticks).collect();
        decode_ticks.sort_unstable();
        let earliest = i64::try_from(self.base_decode_ticks).map_err(|_| Mp4Error::Range)?;
        // Timestamps that go back a little must not overlap the previous fragment.
        for at in &mut decode_ticks {
            *at = (*at).max(earliest);
        }
        let begin = decode_ticks.first().copied().unwrap_or(earliest);
        let end = self.next_presentation_ticks.max(decode_ticks.last().copied().unwrap_or(earliest));

        let ends = decode_ticks.iter().skip(1).copied().chain([end]);
        let reordered =
            self.samples.iter().zip(&decode_ticks).any(|(sample, at)| sample.presentation_ticks != *at);
        let entries = self.samples.iter().zip(&decode_ticks).zip(ends).map(|((sample, at), end)| {
            Ok(TrunEntry {
                duration: Some(u32::try_from(end - at).map_err(|_| Mp4Error::Range)?),
                size: Some(u32::try_from(sample.data.len()).map_err(|_| Mp4Error::Range)?),
                flags: Some(if sample.is_keyframe { KEYFRAME } else { DEPENDENT }),
                cts: reordered.then_some(sample.presentation_ticks - at),
            })
        });
        let entries = entries.collect::<Result<Vec<_>, Mp4Error>>()?;

        let begin = u64::try_from(begin).map_err(|_| Mp4Error::Range)?;
        let prft = Prft {
            reference_track_id: TRACK_ID,
            ntp_timestamp: ntp(self.captured_at)?,
            media_time: begin,
            utc_time_semantics: ReferenceTime::RealTime,
        };
        let payload: usize = self.samples.iter().map(|sample| sample.data.len()).sum();
        let mut bytes = Vec::with_capacity(payload + 256 + 16 * self.samples.len());
        prft.encode(&mut bytes)?;
        self.moof(begin, entries)?.encode(&mut bytes)?;
        Header { kind: FourCC::new(b"mdat"), size: Some(payload) }.encode(&mut bytes)?;
        for sample in self.samples {
            bytes.extend_from_slice(&sample.data);
        }
        Ok((bytes, u64::try_from(end).map_err(|_| Mp4Error::Range)?))
    }

    fn moof(&self, begin: u64, entries: Vec<TrunEntry>) -> Result<Moof, Mp4Error> {
        let mut moof = Moof {
            mfhd: Mfhd { sequence_number: self.sequence },
            traf: vec![Traf {
                tfhd: Tfhd { track_id: TRACK_ID, default_base_is_moof: true, ..Tfhd::default() },
                tfdt: Some(Tfdt { base_media_decode_time: begin }),
                trun: vec![Trun { data_offset: Some(0), samples: TrunSamples::Explicit(entries) }],
                ..Traf::default()
            }],
        };
        // The offset counts from the start of the moof, whose size does not depend on the value of the offset.
        let mut size = Vec::new();
        moof.encode(&mut size)?;
        let offset = i32::try_from(size.len() + 8).map_err(|_| Mp4Error::Range)?;
        for trun in moof.traf.iter_mut().flat_map(|traf| &mut traf.trun) {
            trun.data_offset = Some(offset);
        }
        Ok(moof)
    }
}

/// Converts to NTP's 32 bits of seconds since 1900 and 32 bits of fraction (RFC 5905).
fn ntp(at: Timestamp) -> Result<u64, Mp4Error> {
    let nanos = at.as_nanosecond() + NANOS_1900_TO_1970;
    let fixed = (nanos << 32) / NANOS_PER_SECOND;
    // NTP's seconds wrap in 2036; a reader adds the era.
    u64::try_from(fixed & i128::from(u64::MAX)).map_err(|_| Mp4Error::Range)
}
