use super::*;
use crate::api::testing::site;
use crate::storage::bucket::policy::document::Policy;

fn statements_for(form: IamFormat, key: &str) -> Vec<Value> {
    let all = documents(&site(), None, form).unwrap();
    let statements = all[key]["Statement"].as_array().unwrap();
    statements.clone()
}

fn actions_with_effect<'a>(statements: &'a [Value], effect: &str) -> Vec<&'a str> {
    let of = statements.iter().filter(|statement| statement["Effect"] == effect);
    of.flat_map(|statement| statement["Action"].as_array().unwrap())
        .map(|action| action.as_str().unwrap())
        .collect()
}

#[test]
fn identity_policy_has_no_principal_and_no_other_bucket() {
    for form in [IamFormat::Aws, IamFormat::Ceph, IamFormat::IdentityPolicies] {
        for key in [OPERATOR, RECORDER, "reader:manager"] {
            for statement in statements_for(form, key) {
                assert!(statement.get("Principal").is_none() && statement.get("NotPrincipal").is_none());
                for resource in statement["Resource"].as_array().unwrap() {
                    let at =
                        resource.as_str().unwrap().strip_prefix("arn:aws:s3:::gemeente-zwembad").unwrap();
                    assert!(at.is_empty() || at.starts_with('/'), "{resource}");
                }
            }
        }
    }
}

#[test]
fn identity_policies_include_denies_without_bucket_policies() {
    let recorder = statements_for(IamFormat::IdentityPolicies, RECORDER);
    let allowed = actions_with_effect(&recorder, "Allow");
    assert!(allowed.iter().all(|action| action.starts_with("s3:PutObject")), "{allowed:?}");
    let denied = actions_with_effect(&recorder, "Deny");
    for action in [
        "s3:GetObject",
        "s3:DeleteObjectVersion",
        "s3:PutObjectLegalHold",
        "s3:ListBucket",
        "s3:PutBucketPolicy",
    ] {
        assert!(denied.contains(&action), "{action}");
    }
    let operator = statements_for(IamFormat::IdentityPolicies, OPERATOR);
    assert!(actions_with_effect(&operator, "Allow").contains(&"s3:CreateBucket"));
    let recordings = |statement: &&Value| {
        statement["Effect"] == "Deny"
            && statement["Resource"]
                .as_array()
                .unwrap()
                .iter()
                .any(|at| at.as_str().unwrap().ends_with("/video/*"))
    };
    let denied: Vec<Value> = operator.iter().filter(recordings).cloned().collect();
    assert!(actions_with_effect(&denied, "Deny").contains(&"s3:GetObject"), "article 3.2");
    let reader = statements_for(IamFormat::IdentityPolicies, "reader:manager");
    let unless_held = |statement: &&Value| {
        statement["Effect"] == "Deny"
            && statement["Condition"]["StringNotEquals"]["s3:ExistingObjectTag/toezicht-retention"] == "held"
    };
    assert_eq!(reader.iter().filter(unless_held).count(), 1);
    for statements in [&recorder, &operator, &reader] {
        let plain = |statement: &&Value| statement["Condition"]["Bool"]["aws:SecureTransport"] == "false";
        assert_eq!(statements.iter().filter(plain).count(), 1);
    }
}

#[test]
fn identity_policies_omit_denies_with_bucket_policies() {
    for form in [IamFormat::Aws, IamFormat::Ceph] {
        for key in [OPERATOR, RECORDER, "reader:manager"] {
            assert_eq!(actions_with_effect(&statements_for(form, key), "Deny"), Vec::<&str>::new());
        }
        let names_operator = |statement: &Value| statement["Principal"]["AWS"][0] == "operator";
        assert!(statements_for(form, BUCKET).iter().all(names_operator));
    }
}

#[test]
fn seaweedfs_identity_uses_its_bare_name() {
    let mut site = site();
    site.spec.storage.operator.principal = "arn:aws:iam::1:user/op".into();
    let all = documents(&site, None, IamFormat::SeaweedFs).unwrap();
    assert_eq!(all[OPERATOR], json!({"name": "op", "actions": ["Admin:gemeente-zwembad"]}));
    assert_eq!(all[RECORDER], json!({"name": "recorder", "actions": []}));
    assert!(all[BUCKET]["Statement"].is_array());
}

#[test]
fn ambiguous_principals_are_rejected() {
    for field in
        ["spec.managers[0].principal", "spec.storage.operator.principal", "spec.storage.recorder.principal"]
    {
        for principal in ["${aws:username}", "arn:aws:iam::000000000000:user/${aws:username}", "*"] {
            let mut site = site();
            let storage = &mut site.spec.storage;
            match field {
                "spec.storage.operator.principal" => storage.operator.principal = principal.into(),
                "spec.storage.recorder.principal" => storage.recorder.principal = principal.into(),
                _ => site.spec.managers[0].principal = Some(principal.into()),
            }
            let error = documents(&site, None, IamFormat::Aws).unwrap_err().to_string();
            assert!(error.starts_with(field) && error.contains("article 4.1"), "{error}");
        }
    }
}

/// The policy in the documentation gives the needed rights, and no more.
#[test]
fn documented_policy_matches_bootstrap() {
    let text = include_str!("../../../../../docs/reference/stores.md");
    let (_, json) = text.split_once("```json\n").unwrap();
    let (json, _) = json.split_once("```").unwrap();
    let documented = json.replace("BUCKET", "b").replace("OPERATOR", "o");
    let printed = statements::bootstrap(BucketRef { name: "b", region: "nl-1" }, "o", true);
    assert_eq!(Policy::parse(&documented).unwrap(), Policy::from_statements(&printed).unwrap());
}
