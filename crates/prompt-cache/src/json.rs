//! How the JSON mirror writes what protobuf writes otherwise: enums by name, links in hexadecimal, requests as nested JSON.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

/// Nested JSON, its bytes kept as they are: a request must not pass through a parser that forgives.
pub(crate) mod nested {
    use bytes::Bytes;
    use serde::Serialize;
    use serde_json::value::RawValue;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        let text = std::str::from_utf8(bytes).map_err(serde::ser::Error::custom)?;
        match text.is_empty() {
            true => to.serialize_none(),
            false => RawValue::from_string(text.to_owned()).map_err(serde::ser::Error::custom)?.serialize(to),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        let raw = Box::<RawValue>::deserialize(from)?;
        Ok(if raw.get() == "null" { Bytes::new() } else { Bytes::copy_from_slice(raw.get().as_bytes()) })
    }
}

/// Bytes in hexadecimal.
pub(crate) mod hex {
    use bytes::Bytes;
    use data_encoding::HEXLOWER;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&HEXLOWER.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(from)?;
        HEXLOWER.decode(text.as_bytes()).map(Bytes::from).map_err(D::Error::custom)
    }
}

/// A list of bytes in hexadecimal.
pub(crate) mod hex_list {
    use bytes::Bytes;
    use data_encoding::HEXLOWER;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(list: &[Bytes], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(|bytes| HEXLOWER.encode(bytes)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Bytes>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        let decoded = texts.iter().map(|text| HEXLOWER.decode(text.as_bytes()).map(Bytes::from));
        decoded.collect::<Result<_, _>>().map_err(D::Error::custom)
    }
}

fn write_name<S: Serializer>(name: &str, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&name.to_ascii_lowercase())
}

fn read_name<'de, D: Deserializer<'de>>(from: D, find: impl Fn(&str) -> Option<i32>) -> Result<i32, D::Error> {
    let name = String::deserialize(from)?;
    find(&name.to_ascii_uppercase()).ok_or_else(|| D::Error::custom(format!("no value is called `{name}`")))
}

/// Outcomes by name.
pub(crate) mod outcome {
    use super::*;
    use crate::proto::Outcome;

    pub(crate) fn serialize<S: Serializer>(value: &i32, to: S) -> Result<S::Ok, S::Error> {
        write_name(Outcome::try_from(*value).unwrap_or_default().as_str_name(), to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
        read_name(from, |name| Outcome::from_str_name(name).map(i32::from))
    }
}

/// File operations by name.
pub(crate) mod op {
    use super::*;
    use crate::proto::OpKind;

    pub(crate) fn serialize<S: Serializer>(value: &i32, to: S) -> Result<S::Ok, S::Error> {
        write_name(OpKind::try_from(*value).unwrap_or_default().as_str_name(), to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
        read_name(from, |name| OpKind::from_str_name(name).map(i32::from))
    }
}

/// Kinds of reads by name.
pub(crate) mod read_kind {
    use super::*;
    use crate::proto::ReadKind;

    pub(crate) fn serialize<S: Serializer>(value: &i32, to: S) -> Result<S::Ok, S::Error> {
        write_name(ReadKind::try_from(*value).unwrap_or_default().as_str_name(), to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
        read_name(from, |name| ReadKind::from_str_name(name).map(i32::from))
    }
}

/// Completeness of a read-set by name.
pub(crate) mod completeness {
    use super::*;
    use crate::proto::Completeness;

    pub(crate) fn serialize<S: Serializer>(value: &i32, to: S) -> Result<S::Ok, S::Error> {
        write_name(Completeness::try_from(*value).unwrap_or_default().as_str_name(), to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
        read_name(from, |name| Completeness::from_str_name(name).map(i32::from))
    }
}
