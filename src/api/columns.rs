//! Columns that `kubectl get` prints.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition as Column;

use super::condition::ConditionType;

/// Returns a column with the value at `path`, as `type_`: `string`, `integer` or `date`.
pub(crate) fn column(name: &str, type_: &str, path: &str) -> Column {
    Column { name: name.to_owned(), type_: type_.to_owned(), json_path: path.to_owned(), ..Column::default() }
}

/// Returns a column with `status`, `reason` or `message` of a condition.
pub(crate) fn condition_column(name: &str, condition: ConditionType, field: &str) -> Column {
    column(name, "string", &condition_path(condition, field))
}

/// Returns the path of a condition's field.
pub(crate) fn condition_path(condition: ConditionType, field: &str) -> String {
    let type_: &str = condition.into();
    format!(".status.conditions[?(@.type==\"{type_}\")].{field}")
}

/// Shows the column with `-o wide` only.
pub(crate) fn wide(column: Column) -> Column {
    Column { priority: Some(1), ..column }
}

/// Adds the description that `kubectl explain` and clients show.
pub(crate) fn described(column: Column, description: &str) -> Column {
    Column { description: Some(description.to_owned()), ..column }
}
