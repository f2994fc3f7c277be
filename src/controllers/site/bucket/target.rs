//! The bucket as the operator and as the recorders: where it is, and with which credentials. Pure.

use std::collections::BTreeMap;
use std::path::Path;

use crate::api::{SECRET_TYPE_S3, Storage, StoreIdentity};
use crate::controllers::egress::{Egress, TOKEN_DIR, TOKEN_FILE_NAME};
use crate::controllers::grant::Endpoint;
use crate::controllers::kubernetes::secret_ref;
use crate::controllers::kubernetes::secret_ref::{MissingSecret, ReferencedSecret};
use crate::wire::{AccessKey, Credentials, Secret, StorageTarget, WebIdentity};

/// What both identities have in common.
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
        self.target(&self.storage.operator, field, &self.egress.token_file)
    }

    /// The bucket as the recorders, for the operator, which tries what they may: by workload identity with its own token, since it
    /// may not ask for theirs.
    pub(crate) fn recorder_target(&self) -> Result<StorageTarget, MissingSecret> {
        let field = "spec.storage.recorder.credentialsRef";
        self.target(&self.storage.recorder, field, &self.egress.token_file)
    }

    fn target(
        &self,
        identity: &StoreIdentity,
        field: &str,
        token_file: &Path,
    ) -> Result<StorageTarget, MissingSecret> {
        Ok(StorageTarget {
            endpoint: self.endpoint.url(),
            region: self.storage.region.clone(),
            bucket: self.storage.bucket.clone(),
            path_style: self.storage.path_style,
            ca_pem: self.ca_pem.clone(),
            credentials: self.credentials(identity, field, token_file)?,
            proxy: self.egress.proxy(self.endpoint.is_plain_http()).cloned(),
        })
    }

    fn credentials(
        &self,
        identity: &StoreIdentity,
        field: &str,
        token_file: &Path,
    ) -> Result<Credentials, MissingSecret> {
        // The schema lets through one of the two. Where it was not asked, nothing is used that was not named.
        let name = identity.credentials_ref.as_ref().map_or("", |reference| reference.name.as_str());
        if identity.workload_identity && name.is_empty() {
            return Ok(Credentials::WebIdentity {
                web_identity: WebIdentity {
                    role_arn: identity.principal.clone(),
                    token_file: token_file.to_owned(),
                },
            });
        }
        let key = |key| secret_ref::require_text(self.secrets, SECRET_TYPE_S3, name, key, field);
        Ok(Credentials::AccessKey(AccessKey {
            access_key_id: key("accessKeyId")?,
            secret_access_key: key("secretAccessKey")?,
            session_token: self.secrets.get(name).and_then(session_token),
        }))
    }
}

fn session_token(secret: &ReferencedSecret) -> Option<Secret> {
    secret.text("sessionToken")
}

/// The bucket as the recorders, as their pods reach it: these have a token of their own.
pub(crate) fn with_pod_token(mut target: StorageTarget) -> StorageTarget {
    if let Credentials::WebIdentity { web_identity } = &mut target.credentials {
        web_identity.token_file = Path::new(TOKEN_DIR).join(TOKEN_FILE_NAME);
    }
    target
}
