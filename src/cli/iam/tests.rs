use serde_json::Value;

use super::*;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn args(file: &Path, policy: Option<&Path>, store: IamFormat) -> IamArgs {
    IamArgs { file: file.to_owned(), policy: policy.map(Path::to_owned), site: None, store }
}

/// `TOEZICHT_WRITE_EXPECTED=1` writes the committed files.
#[test]
fn example_output_matches_committed_files() {
    let site = root().join("examples/heusden/sites/die-heijgrave.yaml");
    let policy = root().join("examples/heusden/policy.yaml");
    for (name, store) in [
        ("aws", IamFormat::Aws),
        ("ceph", IamFormat::Ceph),
        ("seaweedfs", IamFormat::SeaweedFs),
        ("identity-policies", IamFormat::IdentityPolicies),
    ] {
        let (text, hint) = render(&args(&site, Some(&policy), store)).unwrap();
        assert_eq!(hint, None);
        let file = root().join("tests/expected/iam").join(format!("{name}.json"));
        if std::env::var_os("TOEZICHT_WRITE_EXPECTED").is_some() {
            std::fs::write(&file, text.clone() + "\n").unwrap();
        }
        let committed = std::fs::read_to_string(&file).unwrap();
        assert!(committed == text + "\n", "{} differs", file.display());
        let all: Value = serde_json::from_str(&committed).unwrap();
        let mut keys: Vec<&str> = all.as_object().unwrap().keys().map(String::as_str).collect();
        keys.retain(|key| *key != "bucket");
        assert_eq!(
            keys,
            [
                "auditor",
                "operator",
                "reader:arn:aws:iam:::user/gemeentesecretaris",
                "reader:arn:aws:iam:::user/manager-die-heijgrave",
                "reader:arn:aws:iam:::user/manager-peno",
                "recorder",
            ]
        );
    }
}

#[test]
fn every_example_site_parses() {
    for file in std::fs::read_dir(root().join("examples/heusden/sites")).unwrap() {
        let file = file.unwrap().path();
        let (_, hint) = render(&args(&file, None, IamFormat::IdentityPolicies)).unwrap();
        assert!(hint.unwrap().contains("heusden-2020"), "{}", file.display());
    }
}

#[test]
fn policy_in_the_site_file_is_used() {
    let (_, hint) =
        render(&args(&root().join("examples/minimal/minimal.yaml"), None, IamFormat::Aws)).unwrap();
    assert_eq!(hint, None);
}

#[test]
fn errors_name_file_and_field() {
    let dir = tempfile::tempdir().unwrap();
    let site = std::fs::read_to_string(root().join("examples/heusden/sites/die-heijgrave.yaml")).unwrap();
    let error_for = |text: &str| {
        let file = dir.path().join("site.yaml");
        std::fs::write(&file, text).unwrap();
        render(&args(&file, None, IamFormat::Aws)).unwrap_err().to_string()
    };
    let change = |from: &str, to: &str| {
        assert!(site.contains(from), "{from}");
        error_for(&site.replace(from, to))
    };
    let operator = "arn:aws:iam:::user/toezicht-operator";
    for (message, parts) in [
        (
            change("bucket: heusden-die-heijgrave", "bucket: 7"),
            &["document 1", "Site: spec.storage.bucket: "][..],
        ),
        (change(operator, "arn:aws:iam::*:user/x"), &["spec.storage.operator.principal"]),
        (change("user/manager-die-heijgrave", "root"), &["spec.managers[0].principal"]),
        (
            change("user/recorder-die-heijgrave", "user/toezicht-operator"),
            &["spec.storage.recorder.principal", "3.2"],
        ),
        (change("bucket: heusden-die-heijgrave", "bucket: \"a*\""), &["spec.storage.bucket"]),
        (change("https://s3.example.nl", "https://u@s3.example.nl"), &["spec.storage.endpoint"]),
        (error_for("kind: Site\n"), &["contains no Site of toezicht.dev"]),
        (error_for(&format!("{site}\n---\n{site}")), &["several resources of kind Site", "--site"]),
        (error_for("{"), &["not YAML"]),
    ] {
        assert!(message.contains("site.yaml: "), "{message}");
        for part in parts {
            assert!(message.contains(part), "{message} lacks {part}");
        }
    }
}

#[test]
fn policy_of_another_name_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.yaml");
    let text = std::fs::read_to_string(root().join("examples/heusden/policy.yaml")).unwrap();
    std::fs::write(&file, text.replace("name: heusden-2020", "name: heusden-2030")).unwrap();
    let site = root().join("examples/heusden/sites/die-heijgrave.yaml");
    let error = render(&args(&site, Some(&file), IamFormat::Aws)).unwrap_err().to_string();
    assert!(error.contains("policy.yaml") && error.contains("\"heusden-2020\""), "{error}");
}
