//! A fragment: `prft`, `moof`, `mdat`.

use jiff::Timestamp;
use mp4_atom::{
    Encode, FourCC, Header, Mfhd, Moof, Prft, ReferenceTime, Tfdt, Tfhd, Traf, Trun, TrunEntry, TrunSamples,
};

use super::{Mp4Error, TRACK_ID};

/// Seconds from 1900, where NTP counts from, to 1970.
const SECONDS_1900_TO_1970: i128 = 2_208_988_800;
/// `sample_depends_on` = 2: on no other; a sync sample.
const KEYFRAME: u32 = 0x0200_0000;
/// `sample_depends_on` = 1: on others; no sync sample.
const DEPENDENT: u32 = 0x0101_0000;

#[derive(Clone, Debug)]
pub struct Sample {
    /// When it is shown, in ticks from the first picture of the file.
    pub presentation_ticks: i64,
    pub is_keyframe: bool,
    pub data: Vec<u8>,
}

/// What is needed to write a fragment.
#[derive(Debug)]
pub struct Fragment<'a> {
    /// Counts the fragments of a file, from 1.
    pub sequence: u32,
    /// The pictures, in the order in which they came, which is the order of decoding.
    pub samples: &'a [Sample],
    /// Where the fragment before ended, in ticks; 0 for the first.
    pub base_decode_ticks: u64,
    /// When the picture after the last is shown, in ticks, or would be.
    pub next_presentation_ticks: i64,
    /// When the first picture was taken.
    pub captured_at: Timestamp,
}

impl Fragment<'_> {
    /// The bytes, and where the fragment ends in ticks.
    ///
    /// A camera tells when a picture is shown, not when it is to be decoded. Pictures are shown in the order
    /// of their times, so the n-th to be decoded takes the n-th smallest of them; where a camera reorders (B
    /// pictures), the difference is the composition offset.
    pub fn encode(&self) -> Result<(Vec<u8>, u64), Mp4Error> {
        let mut decode_ticks: Vec<i64> =
            self.samples.iter().map(|sample| sample.presentation_ticks).collect();
        decode_ticks.sort_unstable();
        let earliest = i64::try_from(self.base_decode_ticks).map_err(|_| Mp4Error::Range)?;
        // Stamps that go back a little must not overlap the fragment before.
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
        // The offset counts from the moof's own beginning, and its size does not depend on its value.
        let mut size = Vec::new();
        moof.encode(&mut size)?;
        let offset = i32::try_from(size.len() + 8).map_err(|_| Mp4Error::Range)?;
        for trun in moof.traf.iter_mut().flat_map(|traf| &mut traf.trun) {
            trun.data_offset = Some(offset);
        }
        Ok(moof)
    }
}

/// NTP's 32 bits of seconds since 1900 and 32 bits of fraction (RFC 5905).
fn ntp(at: Timestamp) -> Result<u64, Mp4Error> {
    let nanos = at.as_nanosecond() + SECONDS_1900_TO_1970 * 1_000_000_000;
    let fixed = (nanos << 32) / 1_000_000_000;
    // NTP's seconds wrap in 2036; a reader adds the era.
    u64::try_from(fixed & i128::from(u64::MAX)).map_err(|_| Mp4Error::Range)
}
