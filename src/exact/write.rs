//! Values into bytes.

use super::error::{Error, Step};
use super::read::key_in_words;
use super::{MAX_DEPTH, grown, tag};
use serde::ser::{self, Serialize};

/// Appends the value's bytes, if there are no more than `max` bytes in all then. After an error the bytes are of no use.
pub(crate) fn append<T: Serialize + ?Sized>(bytes: &mut Vec<u8>, value: &T, max: usize) -> Result<(), Error> {
    let mut writer = Writer { bytes, max, depth: 0, some: 0 };
    value.serialize(&mut writer)?;
    if writer.bytes.len() > max { Err(Error::too_long()) } else { Ok(()) }
}

struct Writer<'out> {
    bytes: &'out mut Vec<u8>,
    max: usize,
    depth: usize,
    /// How many times `Some` comes next, and is not written yet.
    some: usize,
}

impl Writer<'_> {
    fn tag(&mut self, tag: u8) -> Result<(), Error> {
        let some = std::mem::take(&mut self.some);
        if some > 0 && matches!(tag, tag::NONE | tag::UNIT) {
            self.bytes.resize(self.bytes.len() + some, tag::SOME);
        }
        if self.bytes.len() >= self.max {
            return Err(Error::too_long());
        }
        self.bytes.push(tag);
        Ok(())
    }

    /// Writes seven bits a byte, the lowest first, the highest bit set on all but the last.
    fn number(&mut self, mut number: u128) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    fn unsigned(&mut self, value: u128) -> Result<(), Error> {
        match u8::try_from(value) {
            Ok(small) if small < tag::SMALL => self.tag(tag::SMALL | small),
            Ok(byte) => {
                self.tag(tag::BYTE)?;
                self.bytes.push(byte);
                Ok(())
            }
            Err(_) => {
                self.tag(tag::POSITIVE)?;
                self.number(value);
                Ok(())
            }
        }
    }

    fn signed(&mut self, value: i128) -> Result<(), Error> {
        match u128::try_from(value) {
            Ok(value) => self.unsigned(value),
            Err(_) => {
                self.tag(tag::NEGATIVE)?;
                // The complement of a negative number is not negative.
                self.number(!value as u128);
                Ok(())
            }
        }
    }

    fn with_length(&mut self, tag: u8, bytes: &[u8]) -> Result<(), Error> {
        self.tag(tag)?;
        if bytes.len() > self.max {
            return Err(Error::too_long());
        }
        self.number(bytes.len() as u128);
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes a value one level further in.
    fn inner<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        if self.depth == MAX_DEPTH {
            return Err(Error::said(format_args!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.depth += 1;
        let written = grown(|| value.serialize(&mut *self));
        self.depth -= 1;
        written
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        self.with_length(tag::TEXT, name.as_bytes())?;
        self.inner(value).map_err(|error| error.in_field(name))
    }
}

impl<'writer, 'out> ser::Serializer for &'writer mut Writer<'out> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Parts<'writer, 'out>;
    type SerializeTuple = Parts<'writer, 'out>;
    type SerializeTupleStruct = Parts<'writer, 'out>;
    type SerializeTupleVariant = Parts<'writer, 'out>;
    type SerializeMap = Parts<'writer, 'out>;
    type SerializeStruct = Parts<'writer, 'out>;
    type SerializeStructVariant = Parts<'writer, 'out>;

    fn is_human_readable(&self) -> bool {
        true
    }

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.tag(if value { tag::TRUE } else { tag::FALSE })
    }

    fn serialize_i8(self, value: i8) -> Result<(), Error> {
        self.signed(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), Error> {
        self.signed(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), Error> {
        self.signed(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<(), Error> {
        self.signed(value.into())
    }

    fn serialize_i128(self, value: i128) -> Result<(), Error> {
        self.signed(value)
    }

    fn serialize_u8(self, value: u8) -> Result<(), Error> {
        self.unsigned(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), Error> {
        self.unsigned(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), Error> {
        self.unsigned(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), Error> {
        self.unsigned(value.into())
    }

    fn serialize_u128(self, value: u128) -> Result<(), Error> {
        self.unsigned(value)
    }

    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        self.tag(tag::F32)?;
        self.bytes.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        self.tag(tag::F64)?;
        self.bytes.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.with_length(tag::CHAR, value.encode_utf8(&mut [0; 4]).as_bytes())
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        self.with_length(tag::TEXT, value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        self.with_length(tag::BYTES, value)
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.tag(tag::NONE)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        self.some += 1;
        self.inner(value)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.tag(tag::UNIT)
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Error> {
        self.tag(tag::UNIT)
    }

    fn serialize_unit_variant(self, _name: &'static str, _index: u32, variant: &'static str) -> Result<(), Error> {
        self.with_length(tag::BARE_VARIANT, variant.as_bytes())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _name: &'static str, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.with_length(tag::VARIANT, variant.as_bytes())?;
        self.inner(value).map_err(|error| error.in_field(variant))
    }

    fn serialize_seq(self, _length: Option<usize>) -> Result<Self::SerializeSeq, Error> {
        Parts::begin(self, tag::LIST)
    }

    fn serialize_tuple(self, _length: usize) -> Result<Self::SerializeTuple, Error> {
        Parts::begin(self, tag::LIST)
    }

    fn serialize_tuple_struct(self, _name: &'static str, _length: usize) -> Result<Self::SerializeTupleStruct, Error> {
        Parts::begin(self, tag::LIST)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        self.with_length(tag::VARIANT, variant.as_bytes())?;
        Parts::begin(self, tag::LIST)
    }

    fn serialize_map(self, _length: Option<usize>) -> Result<Self::SerializeMap, Error> {
        Parts::begin(self, tag::MAP)
    }

    fn serialize_struct(self, _name: &'static str, _length: usize) -> Result<Self::SerializeStruct, Error> {
        Parts::begin(self, tag::MAP)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        self.with_length(tag::VARIANT, variant.as_bytes())?;
        Parts::begin(self, tag::MAP)
    }
}

/// A list or a map that is being written.
struct Parts<'writer, 'out> {
    writer: &'writer mut Writer<'out>,
    count: usize,
    /// Where the last key begins.
    key: usize,
}

impl<'writer, 'out> Parts<'writer, 'out> {
    fn begin(writer: &'writer mut Writer<'out>, tag: u8) -> Result<Self, Error> {
        writer.tag(tag)?;
        let key = writer.bytes.len();
        Ok(Parts { writer, count: 0, key })
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let index = self.count;
        self.count += 1;
        self.writer.inner(value).map_err(|error| error.within(Step::Index(index)))
    }

    fn finish(self) -> Result<(), Error> {
        self.writer.tag(tag::END)
    }
}

/// Implements the writing of parts: elements of a list, or fields of a structure by their names.
macro_rules! parts {
    ($($of:ident::$method:ident($($name:ident)?),)*) => { $(
        impl ser::$of for Parts<'_, '_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(&mut self, $($name: &'static str,)? value: &T) -> Result<(), Error> {
                parts!(self, $($name,)? value)
            }

            fn end(self) -> Result<(), Error> {
                self.finish()
            }
        }
    )* };
    ($parts:ident, $name:ident, $value:ident) => { $parts.writer.field($name, $value) };
    ($parts:ident, $value:ident) => { $parts.element($value) };
}

parts! {
    SerializeSeq::serialize_element(),
    SerializeTuple::serialize_element(),
    SerializeTupleStruct::serialize_field(),
    SerializeTupleVariant::serialize_field(),
    SerializeStruct::serialize_field(name),
    SerializeStructVariant::serialize_field(name),
}

impl ser::SerializeMap for Parts<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.key = self.writer.bytes.len();
        self.writer.inner(key).map_err(|error| error.in_field("a key"))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let ends = self.writer.bytes.len();
        self.writer.inner(value).map_err(|error| {
            let key = self.writer.bytes.get(self.key..ends).unwrap_or_default();
            error.within(Step::Name(key_in_words(key)))
        })
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}
