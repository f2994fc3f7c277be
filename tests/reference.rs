//! The generated pages of the documentation: `docs/reference/api.md` from the custom resource definitions, and
//! `docs/reference/command-line.md` from the command line. `TOEZICHT_WRITE_EXPECTED=1` writes them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

/// Kinds in the order in which a user writes them.
const KINDS: [&str; 4] = ["recordingpolicies", "sites", "cameras", "incidentholds"];

/// Compares a page with the file, or writes it.
fn assert_page(name: &str, page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference").join(name);
    if std::env::var_os("TOEZICHT_WRITE_EXPECTED").is_some() {
        std::fs::write(&path, page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/reference/{name} is out of date: TOEZICHT_WRITE_EXPECTED=1 cargo test --test reference"
    );
}

/// Escapes a text for a table cell.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|").replace('<', "&lt;")
}

/// Describes the type of a field with its values and bounds.
fn type_of(schema: &Value) -> String {
    let name = schema["type"].as_str().unwrap_or("any");
    let mut text = match name {
        "array" => format!("list of {}", type_of(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("map of {}", type_of(&schema["additionalProperties"]))
        }
        _ if schema["x-kubernetes-int-or-string"] == true => "integer or string".to_owned(),
        _ => name.to_owned(),
    };
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> =
            values.iter().map(|value| format!("`{}`", value.as_str().unwrap())).collect();
        text = values.join(", ");
    }
    if let Some(format) = schema["format"].as_str().filter(|format| *format == "date-time") {
        write!(text, " ({format})").unwrap();
    }
    match (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
        (Some(from), Some(to)) => write!(text, ", {from} to {to}").unwrap(),
        (Some(from), None) if from != 0.0 => write!(text, ", at least {from}").unwrap(),
        _ => (),
    }
    text
}

/// Appends rows for the fields of an object, depth first.
fn rows(page: &mut String, path: &str, schema: &Value) {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap()).collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let mut text = cell(field["description"].as_str().unwrap_or_default());
        if let Some(default) = field.get("default").filter(|default| !default.is_object()) {
            write!(text, " Default: `{}`.", default.to_string().trim_matches('"')).unwrap();
        }
        let need = if required.contains(&name.as_str()) { "yes" } else { "" };
        writeln!(page, "| `{path}` | {} | {need} | {} |", type_of(field), text.trim()).unwrap();
        if path.ends_with(".conditions") {
            continue;
        }
        rows(page, &path, field);
        rows(page, &format!("{path}[]"), &field["items"]);
    }
}

/// Appends the rules that the API server checks, each with its message.
fn rules(page: &mut String, path: &str, schema: &Value) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let field = rule["fieldPath"].as_str().unwrap_or_default();
        writeln!(page, "- `{path}{field}`: {}", cell(rule["message"].as_str().unwrap_or_default())).unwrap();
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        rules(page, &format!("{path}.{name}"), field);
        rules(page, &format!("{path}.{name}[]"), &field["items"]);
    }
}

#[test]
fn api_reference_is_up_to_date() {
    let mut page = "# API reference\n\n**For:** authors of resources. `make crds` generates this page from the custom resource \
                    definitions.\n\nAll kinds belong to the group `toezicht.dev`, version `v1alpha1`, and live in a namespace. \
                    [Conditions](conditions.md) explains every condition and its reasons.\n"
        .to_owned();
    for plural in KINDS {
        let file = format!("crds/toezicht.dev_{plural}.yaml");
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let crd: Value = serde_saphyr::from_str(&text).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        writeln!(page, "\n## {}\n", crd["spec"]["names"]["kind"].as_str().unwrap()).unwrap();
        let doc =
            schema["description"].as_str().or_else(|| schema["properties"]["spec"]["description"].as_str());
        writeln!(page, "{}", doc.unwrap_or_default().trim()).unwrap();
        for part in ["spec", "status"] {
            writeln!(page, "\n| Field | Type | Required | Meaning |\n|---|---|---|---|").unwrap();
            rows(&mut page, part, &schema["properties"][part]);
        }
        let mut checked = String::new();
        rules(&mut checked, "spec", &schema["properties"]["spec"]);
        if !checked.is_empty() {
            write!(page, "\nThe API server also rejects:\n\n{checked}").unwrap();
        }
    }
    assert_page("api.md", &page);
}

#[test]
fn command_line_reference_is_up_to_date() {
    let options = clap_markdown::MarkdownOptions::new().title("Command line".to_owned()).show_footer(false);
    let text = clap_markdown::help_markdown_custom::<toezicht::cli::Cli>(&options);
    // Help texts have brackets of their own, which Markdown would read as links.
    let escaped = |line: &str| {
        let is_contents = line.starts_with("* [`");
        if is_contents { format!("{line}\n") } else { format!("{}\n", line.replace('[', "\\[")) }
    };
    assert_page("command-line.md", &text.lines().map(escaped).collect::<String>());
}

/// Reasons of the events that the code publishes with a text of its own, by file.
fn event_reasons(file: &Path, reasons: &mut std::collections::BTreeSet<String>) {
    if file.is_dir() {
        for entry in std::fs::read_dir(file).unwrap() {
            event_reasons(&entry.unwrap().path(), reasons);
        }
        return;
    }
    let text = std::fs::read_to_string(file).unwrap();
    for call in ["normal(", "warning("] {
        for (at, _) in text.match_indices(call) {
            let argument = text[at + call.len()..].trim_start().strip_prefix('"');
            reasons.extend(argument.and_then(|rest| rest.split('"').next()).map(str::to_owned));
        }
    }
}

#[test]
fn events_page_lists_every_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut reasons = std::collections::BTreeSet::new();
    event_reasons(&root.join("src/controllers"), &mut reasons);
    let page = std::fs::read_to_string(root.join("docs/reference/events.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let is_reason = |name: &&str| name.starts_with(char::is_uppercase);
    let listed: std::collections::BTreeSet<String> = rows.filter(is_reason).map(str::to_owned).collect();
    assert_eq!(listed, reasons);
}
