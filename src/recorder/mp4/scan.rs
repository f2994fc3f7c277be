//! Finds the complete fragments of a file, and its capture time.

use std::io::{Read, Seek, SeekFrom};

use jiff::Timestamp;
use mp4_atom::{Atom, DecodeAtom, Ftyp, Header, Mdat, Moof, Moov, Prft, ReadFrom};

use super::{Mp4Error, NANOS_1900_TO_1970, NANOS_PER_SECOND};
use crate::recorder::frame::TICKS_PER_SECOND;

/// Limit of a box in memory, other than `mdat`: a fragment of ten seconds has boxes of a few kilobytes.
const MAX_BOX_BYTES: usize = 16 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentScan {
    /// Bytes up to the end of the last complete fragment.
    pub complete_bytes: u64,
    pub fragments: u64,
    pub frames: u64,
    /// From the first frame to the end of the last, in ticks.
    pub duration_ticks: u64,
    /// Capture time of the first frame by the newest fragment, whose estimate of the camera's delay is the best.
    pub start: Option<Timestamp>,
}

/// Reads a file box by box, without the frames, up to its truncation.
pub fn scan_fragments<R: Read + Seek>(file: &mut R) -> Result<FragmentScan, Mp4Error> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let mut complete =
        FragmentScan { complete_bytes: 0, fragments: 0, frames: 0, duration_ticks: 0, start: None };
    let mut pending: Option<FragmentScan> = None;
    let (mut offset, mut has_moov) = (0, false);
    while let Ok(Some(header)) = Option::<Header>::read_from(file) {
        let body = file.stream_position()?;
        let Some(end) = header.size.and_then(|size| body.checked_add(size as u64)) else {
            break;
        };
        // A box past the end is truncated. A box that does not advance would loop forever.
        if end > length || end <= offset {
            break;
        }
        match header.kind {
            kind if kind == Mdat::KIND => {
                // A fragment counts once its `mdat` is complete, the last of its boxes.
                if let Some(fragment) = pending.take() {
                    complete = FragmentScan { complete_bytes: end, ..fragment };
                }
            }
            kind if kind == Moof::KIND || kind == Prft::KIND => {
                let Some(bytes) = read_body(file, &header)? else { break };
                let base = pending.unwrap_or(complete);
                let next = if kind == Moof::KIND {
                    apply_moof(&header, &bytes, base)
                } else {
                    apply_prft(&header, &bytes, base)
                };
                let Some(next) = next else { break };
                pending = Some(next);
            }
            kind if kind == Moov::KIND => has_moov = true,
            kind if kind == Ftyp::KIND => {}
            _ => break,
        }
        // Without a `moov`, no player decodes the fragments.
        if !has_moov && offset > 0 {
            break;
        }
        file.seek(SeekFrom::Start(end))?;
        offset = end;
    }
    Ok(complete)
}

fn read_body<R: Read>(file: &mut R, header: &Header) -> Result<Option<Vec<u8>>, Mp4Error> {
    let Some(size) = header.size.filter(|size| *size <= MAX_BOX_BYTES) else {
        return Ok(None);
    };
    let mut bytes = vec![0; size];
    file.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

fn apply_moof(header: &Header, bytes: &[u8], base: FragmentScan) -> Option<FragmentScan> {
    let moof = Moof::decode_atom(header, &mut &*bytes).ok()?;
    let traf = moof.traf.first()?;
    let samples = || traf.trun.iter().flat_map(|trun| trun.samples.iter());
    let duration: u64 = samples().map(|sample| u64::from(sample.duration.unwrap_or(0))).sum();
    Some(FragmentScan {
        fragments: base.fragments + 1,
        frames: base.frames + samples().count() as u64,
        duration_ticks: traf.tfdt.as_ref()?.base_media_decode_time.checked_add(duration)?,
        ..base
    })
}

fn apply_prft(header: &Header, bytes: &[u8], base: FragmentScan) -> Option<FragmentScan> {
    let prft = Prft::decode_atom(header, &mut &*bytes).ok()?;
    let nanos = (i128::from(prft.ntp_timestamp) * NANOS_PER_SECOND) >> 32;
    let before = i128::from(prft.media_time) * NANOS_PER_SECOND / i128::from(TICKS_PER_SECOND);
    let since_1970 = nanos - NANOS_1900_TO_1970 - before;
    Some(FragmentScan { start: Some(Timestamp::from_nanosecond(since_1970).ok()?), ..base })
}
