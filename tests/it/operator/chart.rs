//! The chart: its manifests and RBAC rules.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use serde::Deserialize;
use serde_json::{Value, json};
use toezicht::cli::crds;
use toezicht::controllers::config::OperatorConfig;

use crate::support::settings::root;
use crate::support::tools::{run, try_run};

const GRANT: &str =
    r#"grants=[{"namespaces":["heusden"],"endpoints":["https://s3.example.nl"],"buckets":["heusden-*"]}]"#;
/// Arguments that enable all optional features.
const ALL_FEATURES: [&str; 9] = [
    "--set=networkPolicy.enabled=true",
    "--set=metrics.serviceMonitor.enabled=true",
    "--set=metrics.prometheusRule.enabled=true",
    "--set=priorityClassName=high",
    "--set=nodeSelector.a=b",
    "--set=imagePullSecrets[0].name=pull",
    "--set=logFilter=debug",
    "--set-json",
    GRANT,
];

async fn render_text(values: &[&str]) -> String {
    let chart = root().join("charts/toezicht").display().to_string();
    let mut args = vec!["template", "tz", &chart, "--namespace", "system", "--kube-version", "1.34.0"];
    args.extend(values);
    run("helm", &args, None).await
}

pub async fn render(values: &[&str]) -> Vec<Value> {
    let text = render_text(values).await;
    let documents = serde_saphyr::from_multiple::<Value>(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

pub fn documents_of_kind<'a>(documents: &'a [Value], kind: &str) -> Vec<&'a Value> {
    documents.iter().filter(|document| document["kind"] == kind).collect()
}

fn names_of_kind(documents: &[Value], kind: &str) -> Vec<String> {
    documents_of_kind(documents, kind)
        .iter()
        .map(|found| found["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

/// Runs promtool's tests of the alerts, and checks that each alert has a test and a section in the reference.
#[tokio::test]
async fn alerts_fire_and_are_documented() {
    let rules = "charts/toezicht/files/rules.yaml";
    run("promtool", &["check", "rules", rules], None).await;
    run("promtool", &["test", "rules", "tests/testbed/rules-test.yaml"], None).await;
    let documents = render(&ALL_FEATURES).await;
    let groups = &documents_of_kind(&documents, "PrometheusRule")[0]["spec"]["groups"];
    let file = std::fs::read_to_string(root().join(rules)).unwrap();
    let file: Value = serde_saphyr::from_str(&file).unwrap();
    assert_eq!(*groups, file["groups"], "the chart contains the rules file unchanged");
    let reference = std::fs::read_to_string(root().join("docs/reference/alerts.md")).unwrap();
    let rule_tests = std::fs::read_to_string(root().join("tests/testbed/rules-test.yaml")).unwrap();
    let rule_tests: Value = serde_saphyr::from_str(&rule_tests).unwrap();
    let tests = rule_tests["tests"].as_array().unwrap().iter();
    let cases: Vec<&Value> = tests.flat_map(|test| test["alert_rule_test"].as_array().unwrap()).collect();
    let fires = |alert: &str| {
        let mut matching = cases.iter().filter(|case| case["alertname"] == alert);
        matching.any(|case| case["exp_alerts"].as_array().is_some_and(|alerts| !alerts.is_empty()))
    };
    for rule in groups[0]["rules"].as_array().unwrap() {
        let alert = rule["alert"].as_str().unwrap();
        assert!(fires(alert), "no test makes {alert} fire");
        let anchor = format!("docs/reference/alerts.md#{}", alert.to_lowercase());
        assert!(reference.contains(&format!("\n## {alert}\n")), "docs/reference/alerts.md has no {alert}");
        assert!(rule["annotations"]["runbook_url"].as_str().unwrap().starts_with(&anchor), "{alert}");
    }
}

#[tokio::test]
async fn chart_passes_helm_lint() {
    let chart = root().join("charts/toezicht").display().to_string();
    run("helm", &["lint", "--strict", &chart], None).await;
}

#[tokio::test]
async fn chart_crds_match_generated_crds() {
    let generated: BTreeMap<String, String> = crds::yaml_files().unwrap().into_iter().collect();
    for folder in ["crds", "charts/toezicht/files/crds"] {
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let entry = entry.unwrap();
            let text = std::fs::read_to_string(entry.path()).unwrap();
            found.insert(entry.file_name().into_string().unwrap(), text);
        }
        assert!(found == generated, "{folder} is outdated: run `make crds`");
    }
    let documents = render(&[]).await;
    let definitions = documents_of_kind(&documents, "CustomResourceDefinition");
    assert_eq!(definitions.len(), generated.len());
    for definition in definitions {
        assert_eq!(definition["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
        let rendered: CustomResourceDefinition = serde_json::from_value(definition.clone()).unwrap();
        let original =
            crds::definitions().into_iter().find(|original| original.name_any() == rendered.name_any());
        assert!(rendered.spec == original.unwrap().spec, "rendering changes {}", rendered.name_any());
    }
    assert!(
        names_of_kind(&render(&["--set=crds.enabled=false"]).await, "CustomResourceDefinition").is_empty()
    );
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RbacRule {
    api_groups: Vec<String>,
    resources: Vec<String>,
    verbs: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

fn rbac_rules(role: &Value) -> Vec<RbacRule> {
    serde_json::from_value(role["rules"].clone()).unwrap()
}

#[tokio::test]
async fn rbac_rules_have_no_wildcards_and_are_commented() {
    for values in [vec![], vec!["--set=watchNamespaces={a,b}"]] {
        let text = render_text(&values).await;
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        for (number, line) in lines.iter().enumerate().filter(|(_, line)| line.starts_with("- apiGroups:")) {
            let before = number.checked_sub(1).map_or("", |before| lines[before]);
            if lines[number..].iter().take(4).any(|line| line.starts_with("verbs:")) {
                assert!(before.starts_with('#'), "no comment before {line} (previous line: {before})");
            }
        }
        for document in render(&values).await {
            if !matches!(document["kind"].as_str(), Some("Role" | "ClusterRole")) {
                continue;
            }
            for rule in rbac_rules(&document) {
                let words = [&rule.api_groups, &rule.resources, &rule.verbs];
                assert!(words.into_iter().flatten().all(|word| !word.contains('*')), "{rule:?}");
            }
        }
    }
}

/// Changing this list is a decision: see docs/threat-model.md.
#[tokio::test]
async fn operator_cluster_role_grants_only_listed_verbs() {
    let documents = render(&[]).await;
    let role = documents_of_kind(&documents, "ClusterRole")
        .into_iter()
        .find(|role| role["metadata"]["name"] == "tz-toezicht-operator");
    let mut rights: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for rule in rbac_rules(role.unwrap()) {
        for resource in &rule.resources {
            rights
                .entry(format!("{}/{resource}", rule.api_groups.join(",")))
                .or_default()
                .extend(rule.verbs.clone());
        }
    }
    let rights: Vec<String> =
        rights.into_iter().map(|(resource, verbs)| format!("{resource}: {}", verbs.join(" "))).collect();
    assert_eq!(
        rights,
        [
            "/persistentvolumeclaims: get list watch patch delete",
            "/pods: get list watch patch delete",
            "/secrets: get list watch create patch delete",
            "/serviceaccounts: get list watch create patch delete",
            "/services: get list watch create patch delete",
            "apps/statefulsets: get list watch create patch delete",
            "events.k8s.io/events: create patch",
            "toezicht.dev/cameras: get list watch",
            "toezicht.dev/cameras/status: patch",
            "toezicht.dev/incidentholds: get list watch patch",
            "toezicht.dev/incidentholds/status: patch",
            "toezicht.dev/recordingpolicies: get list watch",
            "toezicht.dev/recordingpolicies/status: patch",
            "toezicht.dev/sites: get list watch patch",
            "toezicht.dev/sites/status: patch",
        ]
    );
}

#[tokio::test]
async fn watch_namespaces_replace_cluster_roles() {
    let documents =
        render(&["--set=watchNamespaces={a,b}", "--set=clusterId=here", "--set=personas.create=false"]).await;
    assert!(names_of_kind(&documents, "ClusterRole").is_empty());
    assert!(names_of_kind(&documents, "ClusterRoleBinding").is_empty());
    let namespaces: Vec<&str> = documents_of_kind(&documents, "Role")
        .iter()
        .map(|role| role["metadata"]["namespace"].as_str().unwrap())
        .collect();
    assert_eq!(namespaces, ["a", "b", "system"]);
    for binding in documents_of_kind(&documents, "ValidatingAdmissionPolicyBinding") {
        let selector = &binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"][0];
        assert_eq!(selector["values"], json!(["a", "b"]));
    }
}

#[tokio::test]
async fn leader_role_is_limited_to_its_lease() {
    let documents = render(&[]).await;
    let role = documents_of_kind(&documents, "Role")
        .into_iter()
        .find(|role| role["metadata"]["name"] == "tz-toezicht-leader")
        .unwrap();
    let named: Vec<RbacRule> = rbac_rules(role);
    assert_eq!(named[0].resource_names, ["tz-toezicht"]);
    assert_eq!(named[0].verbs, ["get", "update"]);
    assert_eq!(named[1].verbs, ["create"], "RBAC cannot limit create by name");
    let arguments =
        &documents_of_kind(&documents, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["args"];
    assert!(arguments.as_array().unwrap().contains(&json!("--lease-name=tz-toezicht")), "{arguments}");
}

#[tokio::test]
async fn operator_pod_is_restricted_with_all_values() {
    for values in [&[][..], &ALL_FEATURES[..]] {
        let documents = render(values).await;
        let pod = &documents_of_kind(&documents, "Deployment")[0]["spec"]["template"]["spec"];
        let context = &pod["containers"][0]["securityContext"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
        let config = documents_of_kind(&documents, "ConfigMap")[0]["data"]["operator.yaml"].as_str().unwrap();
        OperatorConfig::parse(config).unwrap_or_else(|e| panic!("{e}\n{config}"));
    }
}

#[tokio::test]
async fn invalid_values_are_rejected() {
    let chart = root().join("charts/toezicht").display().to_string();
    for mistake in [
        "--set=ceilings.video=4d",
        "--set=ceilings.video=28",
        "--set=ceiling.video=28d",
        "--set=replicas=-1",
        "--set=watchNamespaces={A}",
        r#"--set-json=grants=[{"namespaces":["a"],"endpoints":["https://s3/path"],"buckets":["b"]}]"#,
        r#"--set-json=grants=[{"namespaces":["a"],"endpoints":["aws"],"buckets":["b"],"exceptions":["Anything"]}]"#,
        r#"--set-json=grants=[{"namespaces":["a"],"endpoints":["aws"]}]"#,
        "--set=image.digest=latest",
    ] {
        let (ok, _, err) =
            try_run("helm", &["template", "tz", &chart, "--kube-version", "1.34.0", mistake], None).await;
        assert!(!ok && err.contains("values don't meet the specifications"), "{mistake}: {err}");
    }
}
