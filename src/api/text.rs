//! Texts of bounded length.

/// Returns `text` with at most `max_chars` characters. An ellipsis replaces the rest.
pub fn truncate(text: &str, max_chars: usize) -> String {
    if text.chars().nth(max_chars).is_none() {
        return text.to_owned();
    }
    text.chars().take(max_chars.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_ends_with_an_ellipsis() {
        for (text, expected) in [("", ""), ("drié", "drié"), ("vijfé", "vij…"), ("éééééé", "ééé…")]
        {
            assert_eq!(truncate(text, 4), expected);
        }
    }
}
