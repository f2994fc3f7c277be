//! Certificate of the recorders' status API, and the token for it. The operator re-issues both after two thirds of the
//! certificate's lifetime of one year. It keeps the previous ones until that certificate expires: a recorder serves them until it
//! reads the new configuration, and a recorder that rejects that configuration must be able to say so.

use jiff::civil;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PublicKeyData};
use x509_parser::pem::parse_x509_pem;

use crate::api::earlier;
use crate::wire::{PreviousStatusApi, STATUS_SERVER_NAME, Secret, StatusApi};

const LIFETIME_DAYS: i64 = 365;
const TOKEN_BYTES: usize = 32;

#[derive(Clone, Debug, PartialEq)]
pub struct StatusApiIdentity {
    pub api: StatusApi,
    pub renew_at: Timestamp,
}

#[derive(Debug, thiserror::Error)]
#[error("a certificate for the recorders could not be issued")]
pub struct IdentityError(#[from] rcgen::Error);

impl From<&IdentityError> for &'static str {
    fn from(_: &IdentityError) -> Self {
        "identity"
    }
}

/// Returns the existing identity if it is valid and not due for renewal, else a new one. A clock that was ahead issued one that is not
/// valid yet: until then, no recorder could be queried.
pub fn ensure_identity(
    existing: Option<&StatusApi>,
    now: Timestamp,
) -> Result<StatusApiIdentity, IdentityError> {
    let current =
        existing.and_then(|api| Some(StatusApiIdentity { api: api.clone(), renew_at: renewal_time(api)? }));
    let is_begun = |api: &StatusApi| validity(&api.cert_pem).is_some_and(|(from, _)| from <= now);
    match current {
        Some(mut identity) if now < identity.renew_at && is_begun(&identity.api) => {
            identity.api.previous = identity.api.previous.filter(|previous| is_usable(previous, now));
            Ok(identity)
        }
        replaced => {
            let mut identity = issue(now)?;
            let previous = replaced.map(|StatusApiIdentity { api, .. }| PreviousStatusApi {
                cert_pem: api.cert_pem,
                token: api.token,
            });
            identity.api.previous = previous.filter(|previous| is_usable(previous, now));
            Ok(identity)
        }
    }
}

/// Returns whether recorders may still use a replaced certificate.
fn is_usable(previous: &PreviousStatusApi, now: Timestamp) -> bool {
    validity(&previous.cert_pem).is_some_and(|(_, until)| now < until) && is_token(&previous.token)
}

/// Returns the begin and the end of a certificate; `None` if this module did not issue it.
fn validity(cert_pem: &str) -> Option<(Timestamp, Timestamp)> {
    let (_, pem) = parse_x509_pem(cert_pem.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    let validity = certificate.validity();
    let from = Timestamp::from_second(validity.not_before.timestamp()).ok()?;
    let until = Timestamp::from_second(validity.not_after.timestamp()).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let is_own = names.value.general_names.iter().any(|name| {
        matches!(name, x509_parser::extensions::GeneralName::DNSName(name) if *name == STATUS_SERVER_NAME)
    });
    is_own.then_some((from, until))
}

fn is_token(token: &Secret) -> bool {
    token.reveal().len() == 2 * TOKEN_BYTES
}

/// Returns the time of renewal of `api`; `None` if this module did not issue it: a tenant may have changed the Secret.
fn renewal_time(api: &StatusApi) -> Option<Timestamp> {
    let (from, until) = validity(&api.cert_pem)?;
    let (_, pem) = parse_x509_pem(api.cert_pem.as_bytes()).ok()?;
    let key = KeyPair::from_pem(api.key_pem.reveal()).ok()?;
    let is_pair = key.subject_public_key_info() == pem.parse_x509().ok()?.public_key().raw;
    let third = until.duration_since(from) / 3;
    (is_pair && is_token(&api.token)).then_some(earlier(until, third))
}

fn issue(now: Timestamp) -> Result<StatusApiIdentity, IdentityError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([STATUS_SERVER_NAME.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, STATUS_SERVER_NAME);
    // From yesterday: the clock of a node may be behind.
    let midnight = |day: civil::Date| {
        let part = |number: i8| u8::try_from(number).unwrap_or(1);
        rcgen::date_time_ymd(i32::from(day.year()), part(day.month()), part(day.day()))
    };
    let today = TimeZone::UTC.to_datetime(now).date();
    params.not_before = midnight(today.saturating_sub(Span::new().days(1)));
    params.not_after = midnight(today.saturating_add(Span::new().days(LIFETIME_DAYS)));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key)?;
    let api = StatusApi {
        cert_pem: certificate.pem(),
        key_pem: Secret::new(key.serialize_pem()),
        token: Secret::new(hex::encode(rand::random::<[u8; TOKEN_BYTES]>())),
        previous: None,
    };
    let renew_at = renewal_time(&api).ok_or(IdentityError(rcgen::Error::CouldNotParseCertificate))?;
    Ok(StatusApiIdentity { api, renew_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-24T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn identity_is_renewed_after_two_thirds_of_its_lifetime() {
        let first = ensure_identity(None, now()).unwrap();
        let after = |days: i64| {
            ensure_identity(Some(&first.api), now() + jiff::SignedDuration::from_hours(24 * days)).unwrap()
        };
        assert_eq!(after(0), first);
        assert_eq!(after(240), first);
        assert_ne!(after(250).api, first.api);
        assert_ne!(after(250).api.token, first.api.token);
        assert!(!format!("{first:?}").contains(first.api.token.reveal()));
    }

    #[test]
    fn renewed_identity_keeps_the_previous_one_while_it_is_valid() {
        let day = |days: i64| now() + jiff::SignedDuration::from_hours(24 * days);
        let first = ensure_identity(None, now()).unwrap().api;
        assert_eq!(first.previous, None);
        let second = ensure_identity(Some(&first), day(250)).unwrap().api;
        let previous = second.previous.as_ref().unwrap();
        assert_eq!((&previous.cert_pem, &previous.token), (&first.cert_pem, &first.token));
        assert_eq!(ensure_identity(Some(&second), day(364)).unwrap().api, second);
        let expired = ensure_identity(Some(&second), day(366)).unwrap().api;
        assert_eq!(expired, StatusApi { previous: None, ..second.clone() });
        // After a year without an operator.
        assert_eq!(ensure_identity(Some(&first), day(400)).unwrap().api.previous, None);
        let third = ensure_identity(Some(&second), day(500)).unwrap().api;
        assert_eq!(third.previous.map(|previous| previous.token), Some(second.token), "one is enough");
    }

    #[test]
    fn identity_that_a_clock_ahead_issued_is_replaced() {
        let day = |days: i64| now() + jiff::SignedDuration::from_hours(24 * days);
        let first = ensure_identity(None, now()).unwrap().api;
        let ahead = ensure_identity(Some(&first), day(300)).unwrap().api;
        let corrected = ensure_identity(Some(&ahead), now()).unwrap().api;
        assert_ne!(corrected.cert_pem, ahead.cert_pem);
        assert!(validity(&corrected.cert_pem).unwrap().0 <= now());
        // Recorders serve it until they read the new configuration, and check the token.
        assert_eq!(corrected.previous.as_ref().map(|previous| &previous.token), Some(&ahead.token));
        assert_eq!(ensure_identity(Some(&corrected), now()).unwrap().api, corrected, "once");
        // Clocks that differ by hours replace nothing.
        let behind = now() - jiff::SignedDuration::from_hours(12);
        assert_eq!(ensure_identity(Some(&corrected), behind).unwrap().api, corrected);
    }

    #[test]
    fn mismatched_identity_is_replaced() {
        let issued = ensure_identity(None, now()).unwrap().api;
        let other = ensure_identity(None, now()).unwrap().api;
        let mismatched = [
            StatusApi { key_pem: other.key_pem.clone(), ..issued.clone() },
            StatusApi { cert_pem: "no certificate".into(), ..issued.clone() },
            StatusApi { key_pem: Secret::new("no key"), ..issued.clone() },
            StatusApi { token: Secret::new(""), ..issued.clone() },
        ];
        for api in mismatched {
            let replaced = ensure_identity(Some(&api), now()).unwrap();
            assert_ne!(replaced.api, api);
            assert_eq!(replaced.api.previous, None);
            assert_eq!(ensure_identity(Some(&replaced.api), now()).unwrap(), replaced);
        }
    }
}
