//! Source of a camera's stream: its spec with its Secrets. The Site controller configures the recorder with it, and the
//! Camera controller reports its errors.

use std::collections::BTreeMap;

use url::Url;

use super::kubernetes::secret_ref::{MissingSecret, ReferencedSecret, require_bounded_text};
use crate::api::{CameraSpec, SECRET_TYPE_CA, SECRET_TYPE_CAMERA};
use crate::wire::{CameraSource, Login, Secret};

/// Secrets of one namespace that its cameras may name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CameraSecrets {
    /// Secrets of type `toezicht.dev/camera`, by name.
    pub logins: BTreeMap<String, ReferencedSecret>,
    /// Secrets of type `toezicht.dev/ca`, by name.
    pub ca_certificates: BTreeMap<String, ReferencedSecret>,
}

/// A camera cannot be recorded. The message contains no part of its URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CameraSourceError {
    #[error("spec.visible: article 1 forbids hidden cameras: put it in plain sight, then set this to true")]
    NotVisible,
    #[error("spec.stream.url: write rtsp:// or rtsps://, a host and a path, without user and password")]
    InvalidUrl,
    #[error(transparent)]
    Secret(#[from] MissingSecret),
}

/// Returns the source of the stream of `camera`.
pub fn resolve(camera: &CameraSpec, secrets: &CameraSecrets) -> Result<CameraSource, CameraSourceError> {
    if !camera.visible {
        return Err(CameraSourceError::NotVisible);
    }
    let stream = &camera.stream;
    let url = Url::parse(&stream.url).ok().filter(is_rtsp_url).ok_or(CameraSourceError::InvalidUrl)?;
    let login = stream.credentials_ref.as_ref().map(|reference| read_login(&secrets.logins, &reference.name));
    let ca_pem = stream.ca_ref.as_ref().map(|reference| {
        let authorities = &secrets.ca_certificates;
        require_bounded_text(authorities, SECRET_TYPE_CA, &reference.name, "ca.crt", "spec.stream.caRef")
    });
    Ok(CameraSource {
        url: Secret::new(url.as_str()),
        login: login.transpose()?,
        allow_basic_auth: stream.allow_basic_auth,
        ca_pem: ca_pem.transpose()?.map(|pem| pem.reveal().to_owned()),
    })
}

fn read_login(secrets: &BTreeMap<String, ReferencedSecret>, name: &str) -> Result<Login, MissingSecret> {
    let field = "spec.stream.credentialsRef";
    let key = |key| require_bounded_text(secrets, SECRET_TYPE_CAMERA, name, key, field);
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
        let named = |name: &str, texts: &[(&str, &str)]| (name.to_owned(), ReferencedSecret::of(texts));
        CameraSecrets {
            logins: [
                named("login", &[("username", "u"), ("password", "p\n")]),
                named("half", &[("username", "u")]),
            ]
            .into(),
            ca_certificates: [named("ca", &[("ca.crt", "PEM")])].into(),
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
        for (visible, stream, field) in [
            (false, "url: 'rtsp://10.9.8.7/a'", "spec.visible"),
            (true, "url: 'http://10.9.8.7/a'", "spec.stream.url"),
            (true, "url: 'rtsp://u:p@10.9.8.7/a'", "spec.stream.url"),
            (true, "url: 'rtsp://10.9.8.7/a', credentialsRef: {name: other}", "spec.stream.credentialsRef"),
            (true, "url: 'rtsp://10.9.8.7/a', credentialsRef: {name: half}", "spec.stream.credentialsRef"),
            (true, "url: 'rtsps://10.9.8.7/a', caRef: {name: login}", "spec.stream.caRef"),
        ] {
            let spec = camera(&format!("visible: {visible}\nstream: {{{stream}}}"));
            let message = resolve(&spec, &secrets()).unwrap_err().to_string();
            assert!(message.starts_with(field), "{message}");
            assert!(!message.contains("10.9.8.7"), "{message}");
        }
    }
}
