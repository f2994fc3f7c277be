//! Reads the answer to DESCRIBE.

use super::super::control::{self, VideoTrack};
use super::super::headers::read_location;
use super::super::message::Response;
use super::super::oddity::OddityCounts;
use super::super::rtsp_url::{self, RtspUrl};
use super::super::sdp::read_sdp;
use super::error::{RedirectRefusal, SessionError};
use super::interface::ConnectPlan;

/// Version of live555 that sends no data of dead sessions on new connections.
const FIXED_LIVE555: &[u8] = b"2017.06.04";

/// The track to set up.
#[derive(Clone, Debug)]
pub struct Description {
    pub track: VideoTrack,
    /// URL of SETUP.
    pub track_url: RtspUrl,
    /// URL of PLAY, keepalives and TEARDOWN.
    pub session_url: RtspUrl,
    /// The server is a live555 that sends data of dead sessions on new connections.
    pub is_old_live555: bool,
}

impl Description {
    /// Reads the answer to DESCRIBE of `url`.
    pub fn read(
        response: &Response,
        url: &RtspUrl,
        plan: &ConnectPlan,
        odd: &mut OddityCounts,
    ) -> Result<Self, SessionError> {
        let description = read_sdp(&response.body, odd).map_err(SessionError::Description)?;
        let track = control::pick_video(&description, plan.track).map_err(SessionError::Track)?;
        let header = |name| response.headers.get(name);
        let base = control::base_url(header("Content-Base"), header("Content-Location"), url, odd);
        let session_url = control::join(&base, description.control.as_ref(), odd);
        let track_url = match &track.control {
            Some(_) => control::join(&base, track.control.as_ref(), odd),
            None => session_url.clone(),
        };
        Ok(Self { track, track_url, session_url, is_old_live555: is_old_live555(&response.body) })
    }
}

/// Reads the target of a redirect from `url`.
pub fn read_redirect(
    response: &Response,
    url: &RtspUrl,
    odd: &mut OddityCounts,
) -> Result<RtspUrl, RedirectRefusal> {
    let location = response.headers.get("Location").and_then(|value| read_location(value, url, odd));
    let location = location.ok_or(RedirectRefusal::NoTarget)?;
    let origin = location.origin();
    if origin.port.is_none() {
        return Err(RedirectRefusal::NoTarget);
    }
    if !rtsp_url::may_follow(url.origin(), origin) {
        return Err(RedirectRefusal::Elsewhere);
    }
    Ok(location)
}

/// Returns whether a description is of live555 before 2017.06.04: `a=tool:LIVE555 Streaming Media v2013.04.08`.
fn is_old_live555(body: &[u8]) -> bool {
    body.split(|byte| *byte == b'\n').any(|line| {
        let version = line.strip_prefix(b"a=tool:LIVE555 Streaming Media v");
        let version = version.and_then(|version| version.get(..FIXED_LIVE555.len()));
        version.is_some_and(|version| version.first() == Some(&b'2') && version < FIXED_LIVE555)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_live555_is_recognized() {
        for (line, is_old) in [
            ("a=tool:LIVE555 Streaming Media v2013.04.08", true),
            ("a=tool:LIVE555 Streaming Media v2017.06.03\r", true),
            ("a=tool:LIVE555 Streaming Media v2017.06.04", false),
            ("a=tool:LIVE555 Streaming Media v2021.11.23", false),
            ("a=tool:LIVE555 Streaming Media v2013", false),
            ("a=tool:GStreamer", false),
            ("a=x:LIVE555 Streaming Media v2013.04.08", false),
        ] {
            let body = format!("v=0\r\n{line}\r\nm=video 0 RTP/AVP 96\r\n");
            assert_eq!(is_old_live555(body.as_bytes()), is_old, "{line}");
        }
    }
}
