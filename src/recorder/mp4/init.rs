//! The start of a file: `ftyp` and `moov`.

use jiff::Timestamp;
use mp4_atom::{
    Codec, Decode, Dinf, Dref, DrefEntry, Encode, FixedPoint, FourCC, Ftyp, Hdlr, Mdhd, Mdia, Minf, Moov,
    Mvex, Mvhd, Stbl, Stco, Stsd, Tkhd, Trak, Trex, Url, Vmhd,
};

use super::{Mp4Error, TRACK_ID};
use crate::recorder::frame::{TICKS_PER_SECOND, VideoParameters};

/// MP4 counts seconds since 1904.
const SECONDS_1904_TO_1970: i64 = 2_082_844_800;

/// Returns the start of a file. `start` is the capture time of the first frame.
pub fn init(parameters: &VideoParameters, start: Timestamp) -> Result<Vec<u8>, Mp4Error> {
    let timescale = u32::try_from(TICKS_PER_SECOND).map_err(|_| Mp4Error::Range)?;
    let created = u64::try_from(start.as_second().saturating_add(SECONDS_1904_TO_1970)).unwrap_or(0);
    let ftyp = Ftyp {
        // `iso6` introduced producer reference times and signed composition offsets.
        major_brand: FourCC::new(b"iso6"),
        minor_version: 1,
        compatible_brands: vec![FourCC::new(b"iso6"), FourCC::new(b"mp41")],
    };
    let moov = Moov {
        mvhd: Mvhd {
            creation_time: created,
            modification_time: created,
            timescale,
            next_track_id: TRACK_ID + 1,
            rate: FixedPoint::new(1, 0),
            volume: FixedPoint::new(1, 0),
            ..Mvhd::default()
        },
        mvex: Some(Mvex {
            mehd: None,
            trex: vec![Trex { track_id: TRACK_ID, default_sample_description_index: 1, ..Trex::default() }],
        }),
        trak: vec![track(parameters, timescale, created)?],
        ..Moov::default()
    };
    let mut bytes = Vec::with_capacity(1024);
    ftyp.encode(&mut bytes)?;
    moov.encode(&mut bytes)?;
    Ok(bytes)
}

fn track(parameters: &VideoParameters, timescale: u32, created: u64) -> Result<Trak, Mp4Error> {
    let codec = Codec::decode(&mut parameters.sample_entry.as_slice())?;
    Ok(Trak {
        tkhd: Tkhd {
            creation_time: created,
            modification_time: created,
            track_id: TRACK_ID,
            enabled: true,
            in_movie: true,
            width: FixedPoint::new(parameters.width, 0),
            height: FixedPoint::new(parameters.height, 0),
            ..Tkhd::default()
        },
        mdia: Mdia {
            mdhd: Mdhd {
                creation_time: created,
                modification_time: created,
                timescale,
                duration: 0,
                language: "und".into(),
            },
            hdlr: Hdlr { handler: FourCC::new(b"vide"), name: "camera".into() },
            minf: Minf {
                vmhd: Some(Vmhd::default()),
                // An empty location: the frames are in the same file.
                dinf: Dinf { dref: Dref { entries: vec![DrefEntry::Url(Url::default())] } },
                stbl: Stbl {
                    stsd: Stsd { codecs: vec![codec] },
                    stco: Some(Stco::default()),
                    ..Stbl::default()
                },
                ..Minf::default()
            },
        },
        ..Trak::default()
    })
}
