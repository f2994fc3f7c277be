//! What a Camera's spec comes to once its Secrets are looked up. Its Site configures the recorder with it and
//! its own controller reports on it: by the same rule.

use std::collections::BTreeMap;

use url::Url;

use super::kubernetes::secret_ref::{MissingSecret, ReferencedSecret, require_text};
use crate::api::{CameraSpec, SECRET_TYPE_CA, SECRET_TYPE_CAMERA};
use crate::wire::{CameraSource, Login, Secret};

/// The Secrets that cameras may name, of one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CameraSecrets {
    /// Those of type `toezicht.dev/camera`, by name.
    pub logins: BTreeMap<String, ReferencedSecret>,
    /// Those of type `toezicht.dev/ca`, by name.
    pub ca_certificates: BTreeMap<String, ReferencedSecret>,
}

/// Why a camera cannot be recorded; shows nothing of its URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CameraSourceError {
    /// Article 1.
    #[error("spec.visible: article 1 forbids hidden cameras: put it in plain sight, then set this to true")]
    NotVisible,
    /// The URL is none that can be recorded.
    #[error("spec.stream.url: write rtsp:// or rtsps://, a host and a path, without user and password")]
    InvalidUrl,
    /// A Secret is not there, not of its type, or lacks a key.
    #[error(transparent)]
    Secret(#[from] MissingSecret),
}

/// Where the picture of `camera` comes from.
pub fn resolve(camera: &CameraSpec, secrets: &CameraSecrets) -> Result<CameraSource, CameraSourceError> {
    if !camera.visible {
        return Err(CameraSourceError::NotVisible);
    }
    let stream = &camera.stream;
    let url = Url::parse(&stream.url).ok().filter(is_rtsp_url).ok_or(CameraSourceError::InvalidUrl)?;
    let login = stream
        .credentials_ref
        .as_ref()
        .map(|reference| read_login(&secrets.logins, &reference.name))
        .transpose()?;
    let ca_pem = stream.ca_ref.as_ref().map(|reference| {
        require_text(&secrets.ca_certificates, SECRET_TYPE_CA, &reference.name, "ca.crt", "spec.stream.caRef")
    });
    Ok(CameraSource {
        url: Secret::new(url.as_str()),
        login,
        allow_basic_auth: stream.allow_basic_auth,
        ca_pem: ca_pem.transpose()?.map(|pem| pem.reveal().to_owned()),
    })
}

fn read_login(secrets: &BTreeMap<String, ReferencedSecret>, name: &str) -> Result<Login, MissingSecret> {
    let key = |key| require_text(secrets, SECRET_TYPE_CAMERA, name, key, "spec.stream.credentialsRef");
    Ok(Login { username: key("username")?.reveal().to_owned(), password: key("password")? })
}

fn is_rtsp_url(url: &Url) -> bool {
    matches!(url.scheme(), "rtsp" | "rtsps")
        && url.host_str().is_some_and(|host| !host.is_empty())
        && url.username().is_empty()
        && url.password().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn camera(yaml: &str) -> CameraSpec {
        serde_saphyr::from_str(&format!("siteRef: {{name: s}}\narea: a\n{yaml}")).unwrap()
    }

    fn secrets() -> CameraSecrets {
        let texts = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), Secret::new(*value))).collect()
        };
        CameraSecrets {
            logins: [
                (
                    "login".to_owned(),
                    ReferencedSecret::new("1", texts(&[("username", "u"), ("password", "p\n")])),
                ),
                ("half".to_owned(), ReferencedSecret::new("1", texts(&[("username", "u")]))),
            ]
            .into(),
            ca_certificates: [("ca".to_owned(), ReferencedSecret::new("1", texts(&[("ca.crt", "PEM")])))]
                .into(),
        }
    }

    #[test]
    fn complete_camera_resolves_to_source() {
        let spec = camera(
            "visible: true\nstream: {url: 'rtsps://10.0.0.1/h264', credentialsRef: {name: login}, caRef: {name: ca}}",
        );
        let source = resolve(&spec, &secrets()).unwrap();
        assert_eq!(source.url.reveal(), "rtsps://10.0.0.1/h264");
        assert_eq!(source.login.unwrap().password.reveal(), "p");
        assert_eq!(source.ca_pem.as_deref(), Some("PEM"));
    }

    #[test]
    fn source_error_names_field_without_url() {
        for (yaml, field) in [
            ("visible: false\nstream: {url: 'rtsp://10.9.8.7/a'}", "spec.visible"),
            ("visible: true\nstream: {url: 'http://10.9.8.7/a'}", "spec.stream.url"),
            ("visible: true\nstream: {url: 'rtsp://u:p@10.9.8.7/a'}", "spec.stream.url"),
            (
                "visible: true\nstream: {url: 'rtsp://10.9.8.7/a', credentialsRef: {name: other}}",
                "spec.stream.credentialsRef",
            ),
            (
                "visible: true\nstream: {url: 'rtsp://10.9.8.7/a', credentialsRef: {name: half}}",
                "spec.stream.credentialsRef",
            ),
            ("visible: true\nstream: {url: 'rtsps://10.9.8.7/a', caRef: {name: login}}", "spec.stream.caRef"),
        ] {
            let message = resolve(&camera(yaml), &secrets()).unwrap_err().to_string();
            assert!(message.starts_with(field), "{message}");
            assert!(!message.contains("10.9.8.7"), "{message}");
        }
    }
}
