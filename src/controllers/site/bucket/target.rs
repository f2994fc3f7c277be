//! Connection targets of the bucket for the operator and the recorders. Pure.

use std::collections::BTreeMap;
use std::path::Path;

use crate::api::{SECRET_TYPE_S3, Storage, StoreIdentity};
use crate::controllers::egress::{Egress, TOKEN_DIR, TOKEN_FILE_NAME};
use crate::controllers::grant::Endpoint;
use crate::controllers::kubernetes::secret_ref::{self, MissingSecret, ReferencedSecret};
use crate::wire::{AccessKey, Credentials, Secret, StorageTarget, WebIdentity};

/// Inputs that both identities share.
pub(crate) struct TargetBuilder<'a> {
    pub(crate) storage: &'a Storage,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) ca_pem: Option<String>,
    /// Secrets of type `toezicht.dev/s3`, by name.
    pub(crate) secrets: &'a BTreeMap<String, ReferencedSecret>,
    pub(crate) egress: &'a Egress,
}

impl TargetBuilder<'_> {
    pub(crate) fn operator_target(&self) -> Result<StorageTarget, MissingSecret> {
        let field = "spec.storage.operator.credentialsRef";
        self.target(&self.storage.operator, field)
    }

    /// Returns the target with which the operator probes the recorders' access. With workload identity it uses the
    /// operator's own token: the operator may not request one of the recorders.
    pub(crate) fn recorder_target(&self) -> Result<StorageTarget, MissingSecret> {
        let field = "spec.storage.recorder.credentialsRef";
        self.target(&self.storage.recorder, field)
    }

    fn target(&self, identity: &StoreIdentity, field: &str) -> Result<StorageTarget, MissingSecret> {
        Ok(StorageTarget {
            endpoint: self.endpoint.url(),
            region: self.storage.region.clone(),
            bucket: self.storage.bucket.clone(),
            path_style: self.storage.path_style,
            ca_pem: self.ca_pem.clone(),
            credentials: self.credentials(identity, field)?,
            proxy: self.egress.proxy(self.endpoint.is_plain_http()).cloned(),
        })
    }

    fn credentials(&self, identity: &StoreIdentity, field: &str) -> Result<Credentials, MissingSecret> {
        // The schema admits exactly one of the two. If it was bypassed, a named Secret takes precedence.
        let name = identity.credentials_ref.as_ref().map_or("", |reference| reference.name.as_str());
        if identity.workload_identity && name.is_empty() {
            return Ok(Credentials::WebIdentity {
                web_identity: WebIdentity {
                    role_arn: identity.principal.clone(),
                    token_file: self.egress.token_file.clone(),
                },
            });
        }
        // A key has no white space. Tools that make a Secret from a file or a form often add some.
        let trimmed = |text: Secret| Secret::new(text.reveal().trim());
        let key = |key| secret_ref::require_text(self.secrets, SECRET_TYPE_S3, name, key, field).map(trimmed);
        Ok(Credentials::AccessKey(AccessKey {
            access_key_id: key("accessKeyId")?,
            secret_access_key: key("secretAccessKey")?,
            session_token: self.secrets.get(name).and_then(|secret| secret.text("sessionToken")).map(trimmed),
        }))
    }
}

/// Returns the recorders' target with the token of their own pods.
pub(crate) fn with_pod_token(mut target: StorageTarget) -> StorageTarget {
    if let Credentials::WebIdentity { web_identity } = &mut target.credentials {
        web_identity.token_file = Path::new(TOKEN_DIR).join(TOKEN_FILE_NAME);
    }
    target
}
