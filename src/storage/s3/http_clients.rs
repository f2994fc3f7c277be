//! HTTP clients that connections to several buckets share. Each client has the certificates that it trusts and a pool of
//! connections. With the platform's roots, one takes more memory than everything else that the operator has of a Site.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, Weak};

use aws_sdk_s3::config::SharedHttpClient;

use super::target::TargetError;
use crate::sync::lock;
use crate::wire::{Proxy, StorageTarget};

/// Everything of a target that its HTTP client depends on. A pool distinguishes hosts itself, and requests have the credentials.
#[derive(Clone, PartialEq, Eq, Hash)]
struct ClientKey {
    is_tls: bool,
    ca_pem: Option<String>,
    /// URL, exceptions and login.
    proxy: Option<(String, String, Option<String>)>,
}

impl ClientKey {
    fn of(target: &StorageTarget, is_tls: bool) -> Self {
        let proxy = target.proxy.as_ref().map(|Proxy { url, no_proxy, login }| {
            let login = login.as_ref().map(|login| format!("{}:{}", login.username, login.password.reveal()));
            (url.clone(), no_proxy.clone(), login)
        });
        Self { is_tls, ca_pem: target.ca_pem.clone(), proxy }
    }
}

/// Clients in use. Clones share them.
#[derive(Clone, Default)]
pub struct HttpClients(Arc<Mutex<HashMap<ClientKey, Weak<SharedHttpClient>>>>);

impl fmt::Debug for HttpClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClients").finish_non_exhaustive()
    }
}

impl HttpClients {
    /// Returns the client for `target`, which `make` makes if there is none.
    pub(crate) fn get_or_make(
        &self,
        target: &StorageTarget,
        is_tls: bool,
        make: impl FnOnce() -> Result<SharedHttpClient, TargetError>,
    ) -> Result<Arc<SharedHttpClient>, TargetError> {
        let key = ClientKey::of(target, is_tls);
        if let Some(client) = lock(&self.0).get(&key).and_then(Weak::upgrade) {
            return Ok(client);
        }
        // Without the lock: this reads the machine's certificates.
        let client = Arc::new(make()?);
        let mut clients = lock(&self.0);
        clients.retain(|_, client| client.strong_count() > 0);
        clients.insert(key, Arc::downgrade(&client));
        Ok(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::s3::BucketConnection;
    use crate::storage::s3::stub;
    use crate::wire::Credentials;

    #[test]
    fn buckets_with_the_same_trust_share_a_client() {
        let clients = HttpClients::default();
        let connect = |bucket: &str, proxy: Option<&str>| {
            let target = StorageTarget {
                bucket: bucket.into(),
                credentials: Credentials::access_key("k", bucket),
                proxy: proxy.map(|url| serde_json::from_value(serde_json::json!({"url": url})).unwrap()),
                ..stub::target()
            };
            BucketConnection::sharing(&target, &clients).unwrap()
        };
        let count = || lock(&clients.0).values().filter(|client| client.strong_count() > 0).count();
        let first = connect("one", None);
        let second = connect("two", None);
        assert!(first != second);
        assert_eq!(count(), 1);
        let proxied = connect("one", Some("http://10.0.0.1:3128"));
        assert_eq!(count(), 2, "another way to the store");
        drop((first, second));
        assert_eq!(count(), 1, "the last connection takes the client with it");
        drop(proxied);
        drop(connect("one", None));
        assert_eq!(lock(&clients.0).len(), 1, "and its entry goes later");
    }
}
