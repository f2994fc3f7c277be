use serde_json::Value;

use super::*;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn args(file: &Path, policy: Option<&Path>, store: Store) -> IamArgs {
    IamArgs { file: file.to_owned(), policy: policy.map(Path::to_owned), site: None, store }
}

/// What is printed for the example equals what is committed under `tests/expected/iam/`. After an intended change:
/// `TOEZICHT_WRITE_EXPECTED=1` writes it anew.
#[test]
fn the_example_is_printed_as_committed() {
    let site = root().join("examples/heusden/sites/die-heijgrave.yaml");
    let policy = root().join("examples/heusden/policy.yaml");
    for (name, store) in [
        ("aws", Store::Aws),
        ("ceph", Store::Ceph),
        ("seaweedfs", Store::Seaweedfs),
        ("identity-policies", Store::IdentityPolicies),
    ] {
        let (text, hint) = printed(&args(&site, Some(&policy), store)).unwrap();
        assert_eq!(hint, None);
        let file = root().join("tests/expected/iam").join(format!("{name}.json"));
        if std::env::var_os("TOEZICHT_WRITE_EXPECTED").is_some() {
            std::fs::write(&file, text.clone() + "\n").unwrap();
        }
        let committed = std::fs::read_to_string(&file).unwrap();
        assert!(committed == text + "\n", "{} is another", file.display());
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
fn every_site_of_the_example_is_understood() {
    for file in std::fs::read_dir(root().join("examples/heusden/sites")).unwrap() {
        let file = file.unwrap().path();
        let (_, hint) = printed(&args(&file, None, Store::IdentityPolicies)).unwrap();
        assert!(hint.unwrap().contains("heusden-2020"), "{}", file.display());
    }
}

#[test]
fn a_policy_beside_the_site_is_found() {
    let (_, hint) = printed(&args(&root().join("examples/minimal/minimal.yaml"), None, Store::Aws)).unwrap();
    assert_eq!(hint, None);
}

#[test]
fn mistakes_name_file_and_field() {
    let dir = tempfile::tempdir().unwrap();
    let site = std::fs::read_to_string(root().join("examples/heusden/sites/die-heijgrave.yaml")).unwrap();
    let told = |text: &str| {
        let file = dir.path().join("site.yaml");
        std::fs::write(&file, text).unwrap();
        printed(&args(&file, None, Store::Aws)).unwrap_err().to_string()
    };
    let change = |from: &str, to: &str| {
        assert!(site.contains(from), "{from}");
        told(&site.replace(from, to))
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
        (told("kind: Site\n"), &["there is no Site of toezicht.dev"]),
        (told(&format!("{site}\n---\n{site}")), &["several of kind Site", "--site"]),
        (told("{"), &["not YAML"]),
    ] {
        assert!(message.contains("site.yaml: "), "{message}");
        for part in parts {
            assert!(message.contains(part), "{message} lacks {part}");
        }
    }
}

#[test]
fn another_policy_than_the_sites_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.yaml");
    let text = std::fs::read_to_string(root().join("examples/heusden/policy.yaml")).unwrap();
    std::fs::write(&file, text.replace("name: heusden-2020", "name: heusden-2030")).unwrap();
    let site = root().join("examples/heusden/sites/die-heijgrave.yaml");
    let error = printed(&args(&site, Some(&file), Store::Aws)).unwrap_err().to_string();
    assert!(error.contains("policy.yaml") && error.contains("\"heusden-2020\""), "{error}");
}
