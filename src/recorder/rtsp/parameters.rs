//! Parameters of a header or of an `fmtp` line: `name=value;…`.

use super::text;

/// Most parameters that are searched.
const MAX_PARAMETERS: usize = 64;

/// Returns the text before the first `;`, and the parameters after it.
pub fn split_parameters(value: &str) -> (&str, &str) {
    value.split_once(';').unwrap_or((value, ""))
}

/// Returns the first value of the parameter, without blanks and quotation marks around it. Names ignore case. A value may
/// contain `=`.
pub fn find_parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) = parameters
        .split(';')
        .take(MAX_PARAMETERS)
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(key, _)| text::trim(key).eq_ignore_ascii_case(name))?;
    Some(text::trim(text::trim(value).trim_matches('"')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_blanks_quotation_marks_or_no_value() {
        let parameters = " Packetization-Mode = 1 ;x; sprop-parameter-sets=Z2QAKg==,aO4=;;q=\" a\"\0;q=b;e=";
        for (name, value) in [
            ("packetization-mode", Some("1")),
            ("sprop-parameter-sets", Some("Z2QAKg==,aO4=")),
            ("q", Some("a")),
            ("e", Some("")),
            ("x", None),
            ("y", None),
        ] {
            assert_eq!(find_parameter(parameters, name), value, "{name}");
        }
        assert_eq!(find_parameter("", "x"), None);
        assert_eq!(find_parameter(&format!("{}x=1", ";".repeat(MAX_PARAMETERS)), "x"), None);
    }

    #[test]
    fn parameters_follow_the_first_semicolon() {
        assert_eq!(split_parameters("a;b=1;c"), ("a", "b=1;c"));
        assert_eq!(split_parameters("a"), ("a", ""));
    }
}
