//! Answers requests of the camera. Some cameras hang up if nobody answers.

use super::super::headers::SessionHeader;
use super::super::hidden_text::HiddenText;
use super::super::message::{AnswerStatus, Method, Request, write_answer};
use super::super::oddity::{Oddity, OddityCounts};

/// Answer to a request of the camera.
#[derive(Debug)]
pub struct RequestAnswer {
    /// Bytes for the connection.
    pub bytes: Vec<u8>,
    /// The camera ends our session.
    pub ends_session: bool,
}

impl RequestAnswer {
    /// Answers 200 to requests that change nothing and to TEARDOWN, and 501 to others. `session` is ours.
    pub fn new(request: &Request, session: Option<&HiddenText>, odd: &mut OddityCounts) -> Self {
        let status = match request.method {
            Some(
                Method::Options
                | Method::GetParameter
                | Method::SetParameter
                | Method::Announce
                | Method::Teardown,
            ) => AnswerStatus::Ok,
            _ => AnswerStatus::NotImplemented,
        };
        if status == AnswerStatus::NotImplemented {
            odd.note(Oddity::RequestMethod);
        }
        let is_teardown = request.method == Some(Method::Teardown);
        let is_ours = is_teardown && names_session(request, session);
        if is_teardown && !is_ours {
            odd.note(Oddity::OtherSessionTeardown);
        }
        Self { bytes: write(status, request), ends_session: is_ours }
    }
}

fn write(status: AnswerStatus, request: &Request) -> Vec<u8> {
    let mut bytes = Vec::new();
    let cseq = request.headers.get("CSeq").unwrap_or_default();
    if write_answer(&mut bytes, status, cseq).is_err() {
        // Without its sequence number the answer is of little use, but the camera sees that somebody is there.
        let _ = write_answer(&mut bytes, status, "");
    }
    bytes
}

/// Returns whether a request is for our session. One that names none is.
fn names_session(request: &Request, session: Option<&HiddenText>) -> bool {
    let named = request.headers.get("Session");
    // An id that cannot be read counts as ours. The connection ends in any case.
    let named = named.and_then(|value| SessionHeader::read(value, &mut OddityCounts::default()));
    match (named, session) {
        (Some(named), Some(session)) => named.id == *session,
        _ => true,
    }
}
