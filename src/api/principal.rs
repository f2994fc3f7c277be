//! Principals: names of identities in a store's policies.

use regex_lite::Regex;

use super::cel::PRINCIPAL_PATTERNS;

/// Maximum length of a principal, in characters.
pub const MAX_PRINCIPAL_LENGTH: usize = 256;

/// Returns whether `principal` names one identity (article 4.1). The API server applies the same rules to fields. Files,
/// and objects that were admitted before these rules, pass this check only.
pub fn is_one_identity(principal: &str) -> bool {
    let (one, shared) = PRINCIPAL_PATTERNS;
    let matches = |pattern: &str| Regex::new(pattern).map(|pattern| pattern.is_match(principal));
    principal.len() <= MAX_PRINCIPAL_LENGTH
        && matches!((matches(one), matches(shared)), (Ok(true), Ok(false)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_principal_forms_are_one_identity() {
        for principal in [
            "recorder",
            "AIDAJQABLZS4A3QDU576Q",
            "office+camera=1,2@x.nl_-",
            "arn:aws:iam::123456789012:user/name",
            "arn:aws:iam:::user/toezicht-operator",
            "arn:aws:iam::RGW33567154695143645:user/a/b/name",
            "arn:aws-cn:iam::123456789012:role/service-role/r",
            "arn:aws-us-gov:iam::123456789012:user/x",
            "arn:aws-eusc:iam::123456789012:role/aws-reserved/sso.amazonaws.com/eu-west-1/AWSReservedSSO_Manager_0a1b2c",
            "arn:aws:sts::123456789012:assumed-role/r/i-0123@x",
            "arn:aws:sts::123456789012:federated-user/bob",
        ] {
            assert!(is_one_identity(principal), "{principal}");
        }
    }

    #[test]
    fn principals_of_several_identities_are_rejected() {
        for principal in [
            "",
            "*",
            "?",
            "${aws:username}",
            "arn:aws:iam::000000000000:user/${aws:username}",
            "arn:aws:iam::000000000000:user/$aws:username",
            "arn:aws:iam::000000000000:user/{x}",
            "arn:aws:iam::1:user/*",
            "arn:aws:iam::1:user/",
            "arn:aws:iam::1:user/a//b",
            "arn:aws:iam::1:group/managers",
            "arn:aws:iam::${aws:PrincipalAccount}:user/x",
            "arn:aws:s3:::bucket",
            "arn:aws:sts::1:session/x",
            "arn:AWS:iam::1:user/x",
            "arn:*:iam::1:user/x",
            "user_id:11111111-2222-3333-4444-555555555555",
            "two words",
            "name ",
            "name\n",
            "na\0me",
            "na\u{7f}me",
            "n\u{e4}me",
            "name\u{200b}",
            "a/b",
            "123456789012",
            "arn:aws:iam::123456789012:root",
            "root",
            "anonymous",
            "arn:aws:iam::000000000000:user/anonymous",
        ] {
            assert!(!is_one_identity(principal), "{principal:?}");
        }
        assert!(!is_one_identity(&"a".repeat(MAX_PRINCIPAL_LENGTH + 1)));
        assert!(is_one_identity(&"a".repeat(MAX_PRINCIPAL_LENGTH)));
    }

    proptest! {
        #[test]
        fn other_characters_are_rejected(before in "[a-z]{0,4}", other in "[^A-Za-z0-9+=,.@_/:-]", after in "[a-z]{0,4}", is_arn: bool) {
            let begin = if is_arn { "arn:aws:iam::1:user/" } else { "" };
            let principal = format!("{begin}{before}{other}{after}");
            prop_assert!(!is_one_identity(&principal), "{principal:?}");
        }
    }
}
