//! How a command and its output are written as JSON: text where it is text.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// Text, or the numbers of its bytes.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Bytes<'a> {
    Text(Cow<'a, str>),
    Raw(Cow<'a, [u8]>),
}

pub(crate) fn bytes(bytes: &[u8]) -> Bytes<'_> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Bytes::Text(text.into()),
        Err(_) => Bytes::Raw(bytes.into()),
    }
}

impl Bytes<'_> {
    pub(crate) fn into_vec(self) -> Vec<u8> {
        match self {
            Bytes::Text(text) => text.into_owned().into_bytes(),
            Bytes::Raw(bytes) => bytes.into_owned(),
        }
    }
}

fn text<E: ser::Error>(text: &OsStr) -> Result<&str, E> {
    text.to_str().ok_or_else(|| E::custom(format_args!("{text:?} is not UTF-8, so it cannot be JSON")))
}

pub(crate) mod program {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(program: &OsStr, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(text(program)?)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<OsString, D::Error> {
        String::deserialize(from).map(OsString::from)
    }
}

pub(crate) mod args {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(args: &[OsString], to: S) -> Result<S::Ok, S::Error> {
        let args: Result<Vec<_>, _> = args.iter().map(|arg| text(arg)).collect();
        args?.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<OsString>, D::Error> {
        Ok(Vec::<String>::deserialize(from)?.into_iter().map(OsString::from).collect())
    }
}

pub(crate) mod env {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        env: &BTreeMap<OsString, Option<OsString>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let pair = |(name, value): (_, &'_ Option<OsString>)| -> Result<_, S::Error> {
            let value = value.as_ref().map(|value| text(value).map(str::to_owned)).transpose()?;
            Ok((text(name)?.to_owned(), value))
        };
        let env: Result<BTreeMap<String, Option<String>>, _> =
            env.iter().map(|(name, value)| pair((name, value))).collect();
        env?.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<OsString, Option<OsString>>, D::Error> {
        let env = BTreeMap::<String, Option<String>>::deserialize(from)?;
        Ok(env.into_iter().map(|(name, value)| (name.into(), value.map(OsString::from))).collect())
    }
}

pub(crate) mod seconds {
    use super::*;
    use std::time::Duration;

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(duration.as_secs_f64())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(from)?;
        let invalid = || de::Error::custom(format_args!("{seconds} is no number of seconds"));
        Duration::try_from_secs_f64(seconds).map_err(|_| invalid())
    }
}
