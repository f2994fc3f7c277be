//! The recorders' certificate and the token that the operator shows them: kept until the certificate has
//! lived two thirds of its year, then made anew.

use jiff::civil;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PublicKeyData};
use x509_parser::pem::parse_x509_pem;

use crate::wire::{STATUS_SERVER_NAME, Secret, StatusApi};

/// How many days a certificate is valid.
const LIFETIME_DAYS: i64 = 365;
const TOKEN_BYTES: usize = 32;

/// What recorders serve their status with.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusApiIdentity {
    /// Certificate, key and token.
    pub api: StatusApi,
    /// When a new one is made: in the last third of the certificate's life.
    pub renew_at: Timestamp,
}

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("a certificate for the recorders could not be made")]
pub struct IdentityError(#[from] rcgen::Error);

impl From<&IdentityError> for &'static str {
    fn from(_: &IdentityError) -> Self {
        "identity"
    }
}

/// The identity that the recorders have, while it is good; else a new one.
pub fn ensure_identity(
    existing: Option<&StatusApi>,
    now: Timestamp,
) -> Result<StatusApiIdentity, IdentityError> {
    let current =
        existing.and_then(|api| Some(StatusApiIdentity { api: api.clone(), renew_at: renewal_time(api)? }));
    match current.filter(|identity| now < identity.renew_at) {
        Some(identity) => Ok(identity),
        None => issue(now),
    }
}

/// When `api` is due; `None` where it is not one that this module made.
fn renewal_time(api: &StatusApi) -> Option<Timestamp> {
    let (_, pem) = parse_x509_pem(api.cert_pem.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    let validity = certificate.validity();
    let from = Timestamp::from_second(validity.not_before.timestamp()).ok()?;
    let until = Timestamp::from_second(validity.not_after.timestamp()).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let is_ours = names.value.general_names.iter().any(|name| {
        matches!(name, x509_parser::extensions::GeneralName::DNSName(name) if *name == STATUS_SERVER_NAME)
    });
    let key = KeyPair::from_pem(api.key_pem.reveal()).ok()?;
    let is_pair = key.subject_public_key_info() == certificate.public_key().raw;
    let is_token = api.token.reveal().len() == 2 * TOKEN_BYTES;
    let third = until.duration_since(from) / 3;
    (is_ours && is_pair && is_token).then_some(until - third)
}

fn issue(now: Timestamp) -> Result<StatusApiIdentity, IdentityError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([STATUS_SERVER_NAME.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, STATUS_SERVER_NAME);
    // From yesterday on: the clock of a node may be behind.
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
        let made = ensure_identity(None, now()).unwrap();
        let after = |days: i64| {
            ensure_identity(Some(&made.api), now() + jiff::SignedDuration::from_hours(24 * days)).unwrap()
        };
        assert_eq!(after(0), made);
        assert_eq!(after(240), made);
        assert_ne!(after(250).api, made.api);
        assert_ne!(after(250).api.token, made.api.token);
        assert!(!format!("{made:?}").contains(made.api.token.reveal()));
    }

    #[test]
    fn mismatched_identity_is_replaced() {
        let made = ensure_identity(None, now()).unwrap().api;
        let other = ensure_identity(None, now()).unwrap().api;
        let spoiled = [
            StatusApi { key_pem: other.key_pem.clone(), ..made.clone() },
            StatusApi { cert_pem: "no certificate".into(), ..made.clone() },
            StatusApi { key_pem: Secret::new("no key"), ..made.clone() },
            StatusApi { token: Secret::new(""), ..made.clone() },
        ];
        for api in spoiled {
            let again = ensure_identity(Some(&api), now()).unwrap();
            assert_ne!(again.api, api);
            assert_eq!(ensure_identity(Some(&again.api), now()).unwrap(), again);
        }
    }
}
