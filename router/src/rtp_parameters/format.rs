use std::fmt;

use crate::PayloadType;

/// A codec's own parameters: SDP's `a=fmtp` (RFC 8866 §6.15), name by name in the order written.
///
/// Names are compared without regard to case, and only the first of a name counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FormatParameters(Vec<(String, String)>);

impl FormatParameters {
    /// No parameters.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Reads `name=value;name=value`. A part without `=` is a name with an empty value, as `a=fmtp` of telephone events has.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut parsed = Self::new();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').map_or((part, ""), |(name, value)| (name.trim(), value.trim()));
            if !name.is_empty() && parsed.value(name).is_none() {
                parsed.0.push((name.to_owned(), value.to_owned()));
            }
        }
        parsed
    }

    /// The parameter of this name.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The parameter of this name as a number, `default` if it is missing; `None` if it is no number.
    #[must_use]
    pub fn number(&self, name: &str, default: u32) -> Option<u32> {
        self.value(name).map_or(Some(default), |value| value.parse().ok())
    }

    /// The payload type whose packets an RTX codec sends again (RFC 4588 §8.1).
    #[must_use]
    pub fn apt(&self) -> Option<PayloadType> {
        PayloadType::new(self.value("apt")?.parse().ok()?)
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Name and value of each, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The same with `name` set to `value`.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        match self.0.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, known)) => value.clone_into(known),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    /// The same with every parameter of `over` set.
    #[must_use]
    pub fn merged(self, over: &Self) -> Self {
        over.iter().fold(self, |merged, (name, value)| merged.with(name, value))
    }
}

impl fmt::Display for FormatParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (name, value)) in self.iter().enumerate() {
            let separator = if position == 0 { "" } else { ";" };
            let equals = if value.is_empty() { "" } else { "=" };
            write!(f, "{separator}{name}{equals}{value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_browsers_write() {
        let text = "level-asymmetry-allowed=1;packetization-mode=1; Profile-Level-Id=42e01f";
        let parameters = FormatParameters::parse(text);
        assert_eq!(parameters.number("packetization-mode", 0), Some(1));
        assert_eq!(parameters.value("profile-level-id"), Some("42e01f"));
        assert_eq!(FormatParameters::parse("0-15").value("0-15"), Some(""));
        assert_eq!(FormatParameters::parse("apt=96").apt(), PayloadType::new(96));
        assert_eq!(FormatParameters::parse("apt=x").apt(), None);
        assert!(FormatParameters::parse(" ;; ").is_empty());
    }

    #[test]
    fn the_first_of_a_name_counts_and_merging_overrides() {
        let parameters = FormatParameters::parse("a=1;A=2;b=3");
        assert_eq!(parameters.to_string(), "a=1;b=3");
        assert_eq!(parameters.merged(&FormatParameters::parse("B=4;c")).to_string(), "a=1;b=4;c");
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back_the_same(text in "[a-z=; 0-9]{0,60}") {
            let once = FormatParameters::parse(&text);
            let printed = once.to_string();
            prop_assert_eq!(FormatParameters::parse(&printed).to_string(), printed);
        }
    }
}
