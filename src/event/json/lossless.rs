//! Values as JSON that comes back as they were, or not at all.
//!
//! Serde's JSON writes three things in a way that reads as something else: NaN and infinities, and `Some` of nothing (`Some(None)`, `Some(())`), which all become null. So only
//! a value whose JSON has a null is looked at once more.

use crate::event::json::unfit::{self, Unfit};
use serde::{Serialize, Serializer, ser};
use serde_json::Value as Json;
use std::fmt;

pub(crate) fn to_json<T: Serialize>(value: &T) -> Result<Json, Unfit> {
    let json = unfit::write(value, || serde_json::value::Serializer)?;
    if has_null(&json) {
        unfit::write(value, || Check)?;
    }
    Ok(json)
}

fn has_null(json: &Json) -> bool {
    match json {
        Json::Null => true,
        Json::Array(list) => list.iter().any(has_null),
        Json::Object(fields) => fields.values().any(has_null),
        Json::Bool(_) | Json::Number(_) | Json::String(_) => false,
    }
}

/// Looks at a value, and says whether its JSON is null.
#[derive(Clone, Copy)]
struct Check;

#[derive(Debug)]
struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl ser::Error for Refused {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Refused(message.to_string())
    }
}

impl Check {
    fn inner<T: Serialize + ?Sized>(self, value: &T) -> Result<bool, Refused> {
        value.serialize(self)
    }

    fn finite(self, value: f64) -> Result<bool, Refused> {
        if value.is_finite() { Ok(false) } else { Err(Refused(format!("JSON has no {value}"))) }
    }
}

/// What is never null.
macro_rules! values {
    ($($method:ident: $of:ty,)*) => { $(
        fn $method(self, _: $of) -> Result<bool, Refused> {
            Ok(false)
        }
    )* };
}

impl Serializer for Check {
    type Ok = bool;
    type Error = Refused;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    values! {
        serialize_bool: bool,
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128,
        serialize_char: char, serialize_str: &str, serialize_bytes: &[u8],
    }

    fn serialize_f32(self, value: f32) -> Result<bool, Refused> {
        self.finite(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<bool, Refused> {
        self.finite(value)
    }

    fn serialize_none(self) -> Result<bool, Refused> {
        Ok(true)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<bool, Refused> {
        match self.inner(value)? {
            true => Err(Refused("JSON cannot tell `Some` of nothing from `None`".to_owned())),
            false => Ok(false),
        }
    }

    fn serialize_unit(self) -> Result<bool, Refused> {
        Ok(true)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<bool, Refused> {
        Ok(true)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<bool, Refused> {
        Ok(false)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<bool, Refused> {
        self.inner(value)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<bool, Refused> {
        self.inner(value).map(|_| false)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Refused> {
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Refused> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Refused> {
        Ok(self)
    }

    fn serialize_tuple_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self, Refused> {
        Ok(self)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, Refused> {
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Refused> {
        Ok(self)
    }

    fn serialize_struct_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self, Refused> {
        Ok(self)
    }
}

/// Parts of a list, or fields.
macro_rules! parts {
    ($($of:ident::$method:ident($($name:ident)?),)*) => { $(
        impl ser::$of for Check {
            type Ok = bool;
            type Error = Refused;

            fn $method<T: Serialize + ?Sized>(&mut self, $($name: &'static str,)? value: &T) -> Result<(), Refused> {
                $(let _ = $name;)?
                self.inner(value).map(drop)
            }

            fn end(self) -> Result<bool, Refused> {
                Ok(false)
            }
        }
    )* };
}

parts! {
    SerializeSeq::serialize_element(),
    SerializeTuple::serialize_element(),
    SerializeTupleStruct::serialize_field(),
    SerializeTupleVariant::serialize_field(),
    SerializeStruct::serialize_field(name),
    SerializeStructVariant::serialize_field(name),
}

impl ser::SerializeMap for Check {
    type Ok = bool;
    type Error = Refused;

    /// JSON itself refuses what cannot be a key. The key is written all the same, for an error that names its place.
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Refused> {
        let _ = key.serialize(*self);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        self.inner(value).map(drop)
    }

    fn end(self) -> Result<bool, Refused> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn refusal<T: Serialize>(value: T) -> String {
        to_json(&value).map_or_else(|unfit| unfit.of("T"), |json| json.to_string())
    }

    #[derive(Serialize)]
    struct Unit;
    #[derive(Serialize)]
    enum Kind {
        Of { x: Option<Option<u8>> },
        One(Option<()>),
    }

    #[test]
    fn what_would_become_null_is_refused_and_its_place_named() {
        assert_eq!(refusal([1.0, f64::NAN]), "T[1]: JSON has no NaN");
        assert_eq!(refusal(BTreeMap::from([("a", [f32::NEG_INFINITY])])), "T.a[0]: JSON has no -inf");
        let nothing = "JSON cannot tell `Some` of nothing from `None`";
        assert_eq!(refusal(Kind::Of { x: Some(None) }), format!("T.x: {nothing}"));
        assert_eq!(refusal(Kind::One(Some(()))), format!("T: {nothing}"));
        assert_eq!(refusal((Some(Unit),)), format!("T[0]: {nothing}"));
    }

    #[test]
    fn all_else_is_what_serde_makes_of_it() {
        assert_eq!(
            refusal((None::<Option<u8>>, Some(Some(1)), (), Unit, Kind::One(None))),
            r#"[null,1,null,null,{"One":null}]"#
        );
        assert_eq!(refusal(u128::MAX), "T: number out of range");
        assert_eq!(refusal(BTreeMap::from([(vec![1], 1)])), "T: key must be a string");
    }
}
