//! Rules of Camera.

use super::CelRule;

/// Rules of the whole object.
pub(crate) const CAMERA: &[CelRule] = &[CelRule {
    field: "",
    cel: "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')",
    message: "the name must be at most 63 lowercase letters, digits and '-' because object keys contain \
                  it; choose another name",
}];

pub(crate) const CAMERA_SPEC: &[CelRule] = &[CelRule {
    field: ".siteRef",
    cel: "self.siteRef.name == oldSelf.siteRef.name",
    message: "a Camera cannot move to another Site because its recordings stay at the old one; create a \
                  Camera with another name at the other Site",
}];

pub(crate) const VISIBLE: &[CelRule] = &[CelRule {
    field: "",
    cel: "self",
    message: "article 1: hidden cameras are forbidden; install the camera in plain sight and set visible to \
                  true, or remove it",
}];

pub(crate) const STREAM: &[CelRule] = &[
    CelRule {
        field: ".caRef",
        cel: "!has(self.caRef) || self.url.startsWith('rtsps://')",
        message: "a certificate authority verifies rtsps:// only; use an rtsps:// URL, or remove caRef",
    },
    CelRule {
        field: ".caRef",
        cel: "has(self.caRef) || !self.url.startsWith('rtsps://')",
        message: "a camera over rtsps:// requires a certificate authority that verifies it; set caRef",
    },
    CelRule {
        field: ".allowBasicAuth",
        cel: "!self.allowBasicAuth || self.url.startsWith('rtsp://')",
        message: "basic authentication is always allowed over rtsps://; remove allowBasicAuth",
    },
    CelRule {
        field: ".allowBasicAuth",
        cel: "!self.allowBasicAuth || has(self.credentialsRef)",
        message: "basic authentication requires credentials; set credentialsRef, or remove allowBasicAuth",
    },
];

pub(crate) const STREAM_URL: &[CelRule] = &[
    CelRule {
        field: "",
        cel: "self.startsWith('rtsp://') || self.startsWith('rtsps://')",
        message: "the URL must begin with rtsp:// or rtsps://; write the camera's RTSP URL",
    },
    CelRule {
        field: "",
        cel: "!self.matches('^[a-zA-Z0-9+.-]*:?//[^/?#]*@')",
        message: "the URL contains a user or password, and everyone who can read the Camera can read it; move \
                  them to a Secret of type toezicht.dev/camera and name it in credentialsRef",
    },
    CelRule {
        field: "",
        cel: "!self.matches('(?i)[?&](user|username|login|pwd|pass|passwd|password|token|auth)=')",
        message: "the query of the URL contains a user, password or token, and everyone who can read the \
                  Camera can read it; move them to a Secret of type toezicht.dev/camera and name it in \
                  credentialsRef",
    },
    CelRule {
        field: "",
        cel: "isURL(self) && url(self).getHostname() != ''",
        message: "the URL has no host or contains a space; write it such as rtsp://10.20.0.11/h264",
    },
];
