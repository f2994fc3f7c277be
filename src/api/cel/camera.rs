//! Rules of Camera.

use super::CelRule;

/// Rules of the whole object.
pub(crate) const CAMERA: &[CelRule] = &[CelRule {
    field: "",
    cel: "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')",
    message: "a Camera's name is part of the keys of its recordings: at most 63 lowercase letters, digits and '-'; \
              choose such a name",
}];

pub(crate) const CAMERA_SPEC: &[CelRule] = &[CelRule {
    field: ".siteRef",
    cel: "self.siteRef.name == oldSelf.siteRef.name",
    message: "a recording's place is a fact: a Camera's site cannot be changed; create a Camera of another name at \
              the other site",
}];

pub(crate) const VISIBLE: &[CelRule] = &[CelRule {
    field: "",
    cel: "self",
    message: "article 1: no hidden cameras; hang the camera in plain sight and set visible to true, or remove it",
}];

pub(crate) const STREAM: &[CelRule] = &[
    CelRule {
        field: ".caRef",
        cel: "!has(self.caRef) || self.url.startsWith('rtsps://')",
        message: "a certificate authority verifies rtsps:// only; use an rtsps:// URL, or leave caRef out",
    },
    CelRule {
        field: ".caRef",
        cel: "has(self.caRef) || !self.url.startsWith('rtsps://')",
        message: "a camera over rtsps:// is known by its certificate authority; name it in caRef",
    },
    CelRule {
        field: ".allowBasicAuth",
        cel: "!self.allowBasicAuth || self.url.startsWith('rtsp://')",
        message: "basic authentication is always allowed over rtsps://; leave allowBasicAuth out",
    },
    CelRule {
        field: ".allowBasicAuth",
        cel: "!self.allowBasicAuth || has(self.credentialsRef)",
        message: "without credentials there is nothing to show; set credentialsRef, or leave allowBasicAuth out",
    },
];

pub(crate) const STREAM_URL: &[CelRule] = &[
    CelRule {
        field: "",
        cel: "self.startsWith('rtsp://') || self.startsWith('rtsps://')",
        message: "a camera is reached over rtsp:// or rtsps://; write its RTSP URL",
    },
    CelRule {
        field: "",
        cel: "!self.matches('^[a-zA-Z0-9+.-]*:?//[^/?#]*@')",
        message: "a URL is readable by all who may see the Camera: no user or password in it; put them into a Secret \
                  of type toezicht.dev/camera and name it in credentialsRef",
    },
    CelRule {
        field: "",
        cel: "!self.matches('(?i)[?&](user|username|login|pwd|pass|passwd|password|token|auth)=')",
        message: "a URL is readable by all who may see the Camera: no user, password or token in its query; put them \
                  into a Secret of type toezicht.dev/camera and name it in credentialsRef",
    },
    CelRule {
        field: "",
        cel: "isURL(self) && url(self).getHostname() != ''",
        message: "a stream URL names the camera's host, such as rtsp://10.20.0.11/h264; write one without spaces",
    },
];
