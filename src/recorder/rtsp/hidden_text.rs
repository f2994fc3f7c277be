//! Text of a camera that no log shows.

use std::fmt;

/// Text that requests repeat, such as a URL. It may hold a login, so `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct HiddenText(String);

impl HiddenText {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for HiddenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HiddenText(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_text_is_not_shown() {
        assert_eq!(format!("{:?}", Some(HiddenText::new("pw"))), "Some(HiddenText(…))");
    }
}
