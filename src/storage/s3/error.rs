//! Errors of the store without its own text. An answer may contain anything, such as another host's page behind an
//! endpoint that a tenant chose. So only the S3 error code and the HTTP status are kept.

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::truncation::is_complete_xml;

/// Longest text that counts as an error code.
const MAX_CODE_LENGTH: usize = 48;
/// Operation that exchanges a token for temporary keys.
pub(crate) const TOKEN_EXCHANGE: &str = "AssumeRoleWithWebIdentity";
/// Length in bytes within which an error document has its code.
const MAX_ERROR_BYTES: usize = 1024;
const UNREADABLE_ANSWER: &str = "UnreadableAnswer";
const UNEXPECTED_ANSWER: &str = "UnexpectedAnswer";

/// Codes with status 400 that do not depend on the request's form (S3 API reference, "Error responses").
const FORM_INDEPENDENT_CODES: [&str; 14] = [
    "AuthorizationHeaderMalformed",
    "BadDigest",
    "EntityTooLarge",
    "ExpiredToken",
    "IncompleteBody",
    "InvalidDigest",
    "InvalidToken",
    "KeyTooLongError",
    "RequestTimeout",
    "RequestTimeTooSkewed",
    "TokenRefreshRequired",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
    "XAmzContentSHA256Invalid",
];

/// Failed request to the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.describe())]
pub struct StoreError {
    /// S3 operation, such as `PutBucketPolicy`.
    pub operation: &'static str,
    /// S3 error code, or one of these if the store gave none: `Timeout`, `NoConnection`, `ProxyAuthenticationRequired`,
    /// `ProxyRefused` (no tunnel to the endpoint), `NoCredentials`, `NoToken`, `UntrustedCertificate`,
    /// `UnreadableAnswer` (possibly truncated), `UnexpectedAnswer` (complete but not of this operation),
    /// `ReadBackMismatch` (accepted but not persisted), `InvalidRequest`, `HttpNNN`.
    pub code: String,
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
}

impl StoreError {
    /// Returns an error without an HTTP status.
    pub(crate) fn without_status(operation: &'static str, code: &str) -> Self {
        Self { operation, code: code.to_owned(), status: None }
    }

    pub(crate) fn from_sdk<E>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        if let Some(error) = credentials_error(operation, error) {
            return error;
        }
        let status = error.raw_response().map(|response| response.status().as_u16());
        let code = match error {
            SdkError::ServiceError(_) => match (error.code().filter(|code| is_error_code(code)), status) {
                (Some(code), _) => code.to_owned(),
                (None, Some(status)) if status >= 300 => {
                    s3_code_in_body(error).unwrap_or_else(|| format!("Http{status}"))
                }
                (None, _) => unreadable_code(error).to_owned(),
            },
            SdkError::TimeoutError(_) => "Timeout".to_owned(),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => "Timeout".to_owned(),
            SdkError::DispatchFailure(_) if is_untrusted_certificate(error) => {
                "UntrustedCertificate".to_owned()
            }
            SdkError::DispatchFailure(_) => proxy_code(error).unwrap_or("NoConnection").to_owned(),
            SdkError::ResponseError(_) => match status {
                Some(status) if status >= 300 => format!("Http{status}"),
                _ => unreadable_code(error).to_owned(),
            },
            _ => "InvalidRequest".to_owned(),
        };
        Self { operation, code, status }
    }

    /// Returns the HTTP status of the store's answer. `None`: no answer, or an answer of the STS, so the store received
    /// nothing.
    fn store_status(&self) -> Option<u16> {
        self.status.filter(|_| self.operation != TOKEN_EXCHANGE)
    }

    /// Returns whether the store answered with this status.
    pub(crate) fn has_status(&self, status: u16) -> bool {
        self.store_status() == Some(status)
    }

    /// Returns whether the store has no such object.
    pub fn is_not_found(&self) -> bool {
        self.has_status(404)
    }

    /// Returns whether the store does not support the operation.
    pub fn is_unsupported(&self) -> bool {
        matches!(self.store_status(), Some(405 | 501))
            || self.store_status().is_some() && self.code == "NotImplemented"
    }

    /// Returns whether the store rejected the operation permanently, so that a retry does not help.
    pub(crate) fn is_rejection(&self) -> bool {
        self.store_status().is_some() && !self.is_retryable()
    }

    /// Returns whether the store rejects this form of the request, so that another form may work. An answer about
    /// credentials, region, clock or damaged bytes does not depend on the form.
    pub fn rejects_form(&self) -> bool {
        self.is_unsupported() || self.has_status(400) && !FORM_INDEPENDENT_CODES.contains(&self.code.as_str())
    }

    /// Returns whether the store gave a complete answer of another kind: it does not know the request.
    pub fn is_unexpected_answer(&self) -> bool {
        self.code == UNEXPECTED_ANSWER
    }

    /// Returns whether the store knows the identity and denies access.
    pub fn is_denied(&self) -> bool {
        self.has_status(403)
    }

    /// Returns whether a later retry may help without intervention.
    pub fn is_retryable(&self) -> bool {
        match self.status {
            None => {
                !matches!(self.code.as_str(), "InvalidRequest" | "NoCredentials" | "UntrustedCertificate")
            }
            Some(408 | 409 | 429) => true,
            // Truncated: a retry may return the whole.
            Some(200..300) => self.code == UNREADABLE_ANSWER,
            Some(status) => {
                status >= 500 && !self.is_unsupported()
                    || matches!(self.code.as_str(), "RequestTimeTooSkewed" | "RequestTimeout")
            }
        }
    }

    /// Describes operation, code, status and remedy. Contains nothing else from the store.
    fn describe(&self) -> String {
        let mut message = match self.status {
            Some(status) => format!("{} was answered with {} (HTTP {status})", self.operation, self.code),
            None => format!("{} got no answer: {}", self.operation, self.code),
        };
        if let Some(remedy) = self.remedy() {
            message.push_str(": ");
            message.push_str(remedy);
        }
        message
    }

    /// Returns the remedy for a code.
    fn remedy(&self) -> Option<&'static str> {
        match self.code.as_str() {
            "ExpiredToken" | "ExpiredTokenException" if self.operation == TOKEN_EXCHANGE => Some(
                "the service account token has expired; the kubelet renews it where it is projected into the pod",
            ),
            "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => {
                Some("the temporary key has expired; renew it and its session token")
            }
            "ProxyAuthenticationRequired" => Some(
                "the proxy requires a user and password, and got none or wrong ones; set them in the Secret that \
                 proxy.credentialsSecret names, or in HTTPS_PROXY",
            ),
            "ProxyRefused" => Some(
                "the proxy makes no tunnel to the endpoint; check that it reaches the store, allows this host and port, and accepts the \
                 user and password, or add the endpoint to proxy.noProxy or NO_PROXY",
            ),
            "InvalidToken" => Some("the session token does not match the access key; renew both"),
            "NoCredentials" => Some("the profile has no credentials; log in again or name another"),
            "AccessDenied" if self.operation == TOKEN_EXCHANGE => Some(
                "there is no such role, or it does not trust the token: compare the role's name, the issuer, the audience and the \
                 subjects with workload identity in docs/how-to/workload-identity.md; the recorders' role must trust the operator's subject too",
            ),
            "NoToken" => Some(
                "the pod has no service account token; see workload identity in docs/how-to/workload-identity.md",
            ),
            "UnreadableLedger" => Some(
                "a version under ledger/holds/ or ledger/closed/ has another form than the operator writes; delete that version with the \
                 operator's credentials (the bucket policy denies it to everyone else), so that the previous one counts again",
            ),
            _ => None,
        }
    }
}

impl From<&StoreError> for &'static str {
    fn from(error: &StoreError) -> Self {
        failure_label(error.status)
    }
}

/// Returns the label of a failed request for metrics and categories.
pub(crate) const fn failure_label(status: Option<u16>) -> &'static str {
    match status {
        None => "no_answer",
        Some(403) => "denied",
        Some(404) => "not_found",
        Some(429 | 503) => "throttled",
        Some(500..) => "server_error",
        Some(_) => "rejected",
    }
}

/// Returns the code of an S3 error document in another protocol's answer. Ceph's STS sends these.
fn s3_code_in_body<E>(error: &SdkError<E, HttpResponse>) -> Option<String> {
    let body = error.raw_response()?.body().bytes()?;
    let text = String::from_utf8_lossy(body.get(..MAX_ERROR_BYTES).unwrap_or(body));
    let (_, rest) = text.split_once("<Error><Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    Some(code).filter(|code| is_error_code(code)).map(str::to_owned)
}

/// Returns the code for an unreadable success answer, by whether it is complete.
fn unreadable_code<E>(error: &SdkError<E, HttpResponse>) -> &'static str {
    let body = error.raw_response().and_then(|response| response.body().bytes());
    // The SDK drops the bytes of an incomplete body.
    let is_whole = body.is_some_and(is_complete_xml);
    if is_whole { UNEXPECTED_ANSWER } else { UNREADABLE_ANSWER }
}

/// Returns whether a text has the form of an S3 error code. Other texts are not repeated.
fn is_error_code(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_CODE_LENGTH && text.chars().all(|c| c.is_ascii_alphanumeric())
}

/// Returns the reason that a request had no credentials, if it had none.
fn credentials_error(
    operation: &'static str,
    error: &(dyn std::error::Error + 'static),
) -> Option<StoreError> {
    let (mut next, mut are_missing) = (Some(error), false);
    while let Some(error) = next {
        // The STS gave the reason.
        if let Some(error) = error.downcast_ref::<StoreError>() {
            return Some(error.clone());
        }
        are_missing |= error.is::<CredentialsError>();
        next = error.source();
    }
    are_missing.then(|| StoreError::without_status(operation, "NoCredentials"))
}

/// Returns whether TLS rejected the server, so that a person must provide the right CA.
fn is_untrusted_certificate(error: &(dyn std::error::Error + 'static)) -> bool {
    find_in_chain(error, &|error| error.is::<rustls::Error>().then_some(())).is_some()
}

/// Returns the reason that a proxy refused the tunnel. The connector has no public type for it, only its text.
fn proxy_code(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    find_in_chain(error, &|error| match error.to_string().as_str() {
        "tunnel error: proxy authorization required" => Some("ProxyAuthenticationRequired"),
        "tunnel error: unsuccessful" => Some("ProxyRefused"),
        _ => None,
    })
}

/// Searches the chain of an error's causes.
fn find_in_chain<T>(
    error: &(dyn std::error::Error + 'static),
    find: &dyn Fn(&(dyn std::error::Error + 'static)) -> Option<T>,
) -> Option<T> {
    let mut next = Some(error);
    while let Some(error) = next {
        // An I/O error returns the source of the error that it wraps, not that error itself.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let found = find(error).or_else(|| find_in_chain(inner?, find));
        if found.is_some() {
            return found;
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store_error(code: &str, status: u16) -> StoreError {
        StoreError { operation: "GetObject", code: code.into(), status: Some(status) }
    }

    #[test]
    fn html_is_not_an_error_code() {
        assert!(is_error_code("NoSuchBucketPolicy"));
        assert!(!is_error_code("<html>secret</html>"));
        assert!(!is_error_code("two words"));
        assert!(!is_error_code(&"A".repeat(MAX_CODE_LENGTH + 1)));
        assert!(!is_error_code(""));
    }

    /// The answer of an STS about a role proves nothing about a bucket.
    #[test]
    fn sts_error_is_not_a_store_answer() {
        for (code, status) in [
            ("InvalidIdentityToken", 400),
            ("AccessDenied", 403),
            ("NoSuchKey", 404),
            ("MethodNotAllowed", 405),
            ("PreconditionFailed", 412),
            ("NotImplemented", 501),
        ] {
            let of_store = store_error(code, status);
            let of_sts = StoreError { operation: TOKEN_EXCHANGE, ..of_store.clone() };
            let says = |error: &StoreError| {
                error.is_rejection()
                    || error.is_not_found()
                    || error.is_denied()
                    || error.is_unsupported()
                    || error.rejects_form()
                    || error.has_status(status)
            };
            assert!(says(&of_store) && !says(&of_sts), "{code}");
        }
        let unsent = StoreError { status: None, ..store_error("NoCredentials", 0) };
        assert!(!unsent.is_rejection() && !unsent.is_retryable());
    }

    #[test]
    fn only_form_errors_reject_the_form() {
        for (code, status) in [
            ("NotImplemented", 501),
            ("MethodNotAllowed", 405),
            ("MissingContentMD5", 400),
            ("MalformedXML", 400),
            ("InvalidArgument", 400),
        ] {
            assert!(store_error(code, status).rejects_form(), "{code}");
        }
        for (code, status) in [
            ("BadDigest", 400),
            ("RequestTimeout", 400),
            ("ExpiredToken", 400),
            ("AccessDenied", 403),
            ("PreconditionFailed", 412),
            ("SlowDown", 503),
        ] {
            assert!(!store_error(code, status).rejects_form(), "{code}");
        }
    }

    #[test]
    fn transient_errors_are_retryable() {
        assert!(store_error("SlowDown", 503).is_retryable());
        assert!(store_error("InternalError", 500).is_retryable());
        assert!(store_error("RequestTimeTooSkewed", 403).is_retryable());
        assert!(store_error("RequestTimeout", 400).is_retryable());
        assert!(!store_error("AccessDenied", 403).is_retryable());
        assert!(!store_error("NotImplemented", 501).is_retryable());
        assert!(!store_error("MalformedPolicy", 400).is_retryable());
        assert!(store_error("UnreadableAnswer", 200).is_retryable());
        assert!(!store_error("UnexpectedAnswer", 200).is_retryable());
        let distrusted = StoreError { status: None, ..store_error("UntrustedCertificate", 0) };
        assert!(!distrusted.is_retryable());
        assert!(StoreError::without_status("GetObject", "Timeout").is_retryable());
    }
}
