//! Message about a camera that is `Disconnected`, from the category of its last failure. Pure.

use crate::api::condition::{ConditionFinding, Reason};
use crate::api::{CameraStream, LocalRef};
use crate::wire::CameraFailure;

/// Replaces the general message of a `Disconnected` camera by one that names the problem, the field and the remedy. It has no
/// text of the camera, and nothing that changes between two attempts.
pub fn with_failure(
    finding: ConditionFinding,
    failure: Option<CameraFailure>,
    stream: &CameraStream,
) -> ConditionFinding {
    match failure.and_then(|failure| explain(failure, stream)) {
        Some(message) if finding.reason == Reason::Disconnected => ConditionFinding { message, ..finding },
        _ => finding,
    }
}

/// Returns the problem and its remedy; `None`: the category is not known.
fn explain(failure: CameraFailure, stream: &CameraStream) -> Option<String> {
    let message = match failure {
        CameraFailure::InvalidUrl => {
            "spec.stream.url is invalid: write an rtsp:// or rtsps:// URL without user and password"
        }
        CameraFailure::Unreachable => {
            "the camera cannot be reached: check its power and network, and the host and port of spec.stream.url"
        }
        CameraFailure::Unauthorized => return Some(explain_refused_login(stream.credentials_ref.as_ref())),
        CameraFailure::BasicAuthNotAllowed => {
            "the camera requires the password in clear text: use rtsps:// in spec.stream.url, or set spec.stream.allowBasicAuth"
        }
        CameraFailure::Forbidden => return Some(explain_forbidden(stream.credentials_ref.as_ref())),
        CameraFailure::PathNotFound => {
            "the camera has no stream at this path (404): correct the path of spec.stream.url"
        }
        CameraFailure::TransportUnsupported => {
            "the camera refuses RTP over TCP (461): allow it in the camera's settings"
        }
        CameraFailure::Busy => {
            "the camera serves no further client (453 or 503): disconnect other clients, or raise the camera's limit"
        }
        CameraFailure::ErrorStatus => "the camera answers with an error: the recorder's log has its code",
        CameraFailure::NoVideo => {
            "the stream has no video: correct the path of spec.stream.url, which selects the stream"
        }
        CameraFailure::UnsupportedCodec => {
            "the video is neither H.264 nor H.265: select one in the camera, or another path in spec.stream.url"
        }
        CameraFailure::UnsupportedParameters => {
            "MP4 cannot hold this video: select another profile or resolution in the camera"
        }
        CameraFailure::UntrustedTls => return Some(explain_untrusted(stream.ca_ref.as_ref())),
        CameraFailure::ProtocolViolation => {
            "the answer is not valid RTSP or RTP: check the port of spec.stream.url, or update the camera's firmware"
        }
        CameraFailure::StreamEnded => {
            "the camera ends its stream or sends no frame: check the camera, its network and its limit of clients"
        }
        CameraFailure::RecorderFailed => {
            "the recorder cannot write the video: check the volume of its spool, and its log"
        }
        CameraFailure::ConfigurationRejected => {
            "the recorder rejects the configuration of this camera: see Ready of the Site, and give recorder and operator the same version"
        }
        CameraFailure::Other => return None,
    };
    Some(message.to_owned())
}

fn explain_refused_login(credentials: Option<&LocalRef>) -> String {
    match credentials {
        Some(LocalRef { name }) => format!(
            "the camera refused the user or password (401): correct Secret {name:?} of spec.stream.credentialsRef"
        ),
        None => {
            "the camera requires a user and password (401): name a Secret with them in spec.stream.credentialsRef"
                .to_owned()
        }
    }
}

fn explain_forbidden(credentials: Option<&LocalRef>) -> String {
    match credentials {
        Some(LocalRef { name }) => format!(
            "the camera denies this stream to the user (403): correct the user's rights in the camera, or Secret {name:?} of \
             spec.stream.credentialsRef"
        ),
        None => {
            "the camera denies this stream (403): name a Secret with a user and password in spec.stream.credentialsRef"
                .to_owned()
        }
    }
}

fn explain_untrusted(authority: Option<&LocalRef>) -> String {
    match authority {
        Some(LocalRef { name }) => format!(
            "the camera's certificate is not trusted: correct Secret {name:?} of spec.stream.caRef, or the host of spec.stream.url"
        ),
        None => {
            "the camera's certificate is not trusted: name a Secret with its authority in spec.stream.caRef"
                .to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::condition::ConditionType;

    fn message(failure: Option<CameraFailure>, reason: Reason, credentials: Option<&str>) -> String {
        let stream = CameraStream {
            url: "rtsp://10.20.0.11/h264".into(),
            credentials_ref: credentials.map(|name| LocalRef { name: name.into() }),
            transport: crate::api::Transport::Tcp,
            ca_ref: None,
            allow_basic_auth: false,
        };
        let finding = ConditionFinding::new(ConditionType::Recording, false, reason, "general");
        with_failure(finding, failure, &stream).message
    }

    #[test]
    fn message_names_the_field_to_correct() {
        for (failure, credentials, expected) in [
            (CameraFailure::Unauthorized, Some("login"), "Secret \"login\" of spec.stream.credentialsRef"),
            (CameraFailure::Unauthorized, None, "name a Secret with them in spec.stream.credentialsRef"),
            (CameraFailure::PathNotFound, Some("login"), "the path of spec.stream.url"),
            (CameraFailure::Unreachable, Some("login"), "the host and port of spec.stream.url"),
            (CameraFailure::UntrustedTls, None, "spec.stream.caRef"),
        ] {
            let message = message(Some(failure), Reason::Disconnected, credentials);
            assert!(message.contains(expected), "{failure:?}: {message}");
        }
    }

    #[test]
    fn only_a_known_failure_of_a_disconnected_camera_changes_the_message() {
        for (failure, reason) in [
            (None, Reason::Disconnected),
            (Some(CameraFailure::Other), Reason::Disconnected),
            (Some(CameraFailure::Unreachable), Reason::Suspended),
            (Some(CameraFailure::Unreachable), Reason::Recording),
        ] {
            assert_eq!(message(failure, reason, None), "general", "{failure:?}");
        }
    }
}
