use std::fmt;

/// Segments that would make a resource name ambiguous. Spec: R-015.
const KEYWORDS: [&str; 7] =
    ["blobs", "uploads", "actions", "actionResults", "operations", "capabilities", "compressed-blobs"];

/// More than any client uses; bounds what a key may hold.
const MAX_LEN: usize = 1024;

/// The name of an action-cache namespace: segments joined by `/`, or empty.
///
/// Action results are never shared across instances. Spec.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct InstanceName(Box<str>);

impl InstanceName {
    /// Reads a name; leading slashes count as absent.
    ///
    /// # Errors
    /// [`InstanceNameError`] for an empty or reserved segment, `.` or `..`, a control character, or a name over 1 KiB.
    pub fn parse(name: &str) -> Result<Self, InstanceNameError> {
        let name = name.trim_start_matches('/');
        if name.is_empty() {
            return Ok(Self::default());
        }
        Self::from_segments(name.split('/'))
    }

    pub(crate) fn from_segments<'a>(segments: impl Iterator<Item = &'a str>) -> Result<Self, InstanceNameError> {
        let mut name = String::new();
        for segment in segments {
            check_segment(segment)?;
            if !name.is_empty() {
                name.push('/');
            }
            name.push_str(segment);
        }
        if name.len() > MAX_LEN {
            return Err(InstanceNameError::TooLong);
        }
        Ok(Self(name.into_boxed_str()))
    }

    /// The name without leading slashes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_segment(segment: &str) -> Result<(), InstanceNameError> {
    if segment.is_empty() {
        return Err(InstanceNameError::EmptySegment);
    }
    if KEYWORDS.contains(&segment) {
        return Err(InstanceNameError::Keyword);
    }
    if matches!(segment, "." | "..") {
        return Err(InstanceNameError::Dots);
    }
    if segment.chars().any(char::is_control) {
        return Err(InstanceNameError::Control);
    }
    Ok(())
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why an instance name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InstanceNameError {
    /// Two slashes in a row, or one at the end.
    #[error("an instance name has no empty segments")]
    EmptySegment,
    /// A word that resource names reserve.
    #[error("an instance name has no segment that resource names reserve")]
    Keyword,
    /// `.` or `..`.
    #[error("an instance name has no '.' or '..' segments")]
    Dots,
    /// A control character.
    #[error("an instance name has no control characters")]
    Control,
    /// Over 1 KiB.
    #[error("an instance name has at most 1024 bytes")]
    TooLong,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_dots_and_empty_segments_are_refused() {
        assert_eq!(InstanceName::parse("x/blobs/y"), Err(InstanceNameError::Keyword));
        assert_eq!(InstanceName::parse("a//b"), Err(InstanceNameError::EmptySegment));
        assert_eq!(InstanceName::parse("a/"), Err(InstanceNameError::EmptySegment));
        assert_eq!(InstanceName::parse("../etc"), Err(InstanceNameError::Dots));
        assert_eq!(InstanceName::parse("a\0b"), Err(InstanceNameError::Control));
        assert_eq!(InstanceName::parse(&"a".repeat(1025)), Err(InstanceNameError::TooLong));
        assert_eq!(InstanceName::parse("//team/a").map(|name| name.to_string()), Ok("team/a".to_owned()));
    }
}
