//! JSON read strictly and written canonically (RFC 8785).
//!
//! Every number is a double here; the parser refuses what a double does not hold. Spec: prompt-key §1.

mod canonical;
mod number;
mod parse;

use std::collections::BTreeMap;

pub use parse::{MAX_DEPTH, parse};

/// The members of an object, by name.
pub type Object = BTreeMap<String, Json>;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A finite double.
    Number(f64),
    /// A string of Unicode scalar values.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object without duplicate members.
    Object(Object),
}

impl Json {
    /// The canonical bytes, RFC 8785.
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = String::new();
        canonical::write(self, &mut out);
        out.into_bytes()
    }

    /// The string, when it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The elements, when it is an array.
    pub fn as_array(&self) -> Option<&[Json]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The members, when it is an object.
    pub fn as_object(&self) -> Option<&Object> {
        match self {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }

    /// The whole number that is not negative, when it is one.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            // The parser lets no larger integer in, so the conversion is exact.
            Self::Number(number) if number.fract() == 0.0 && *number >= 0.0 && *number <= number::MAX_INTEGER => {
                Some(*number as u64)
            }
            _ => None,
        }
    }

    /// A member of an object; `None` when there is none or this is no object.
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.as_object()?.get(name)
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl<const N: usize> From<[(&str, Json); N]> for Json {
    fn from(members: [(&str, Json); N]) -> Self {
        Self::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

#[cfg(test)]
mod tests;
