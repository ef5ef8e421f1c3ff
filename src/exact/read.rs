//! Bytes into values.

use super::error::{Error, Step};
use super::{MAX_DEPTH, grown, tag};
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{self, Deserialize, DeserializeSeed, Visitor};

/// The value that these bytes are, all of them.
pub(crate) fn from_whole<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, Error> {
    match from_start(bytes)? {
        (value, []) => Ok(value),
        (_, rest) => Err(Error::said(format_args!("{} bytes follow it", rest.len()))),
    }
}

/// The value at their start, and the bytes behind it.
pub(crate) fn from_start<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<(T, &'de [u8]), Error> {
    let mut reader = Reader { rest: bytes, depth: 0 };
    let value = T::deserialize(&mut reader)?;
    Ok((value, reader.rest))
}

/// A map's key in the name of a place.
pub(super) fn key_in_words(key: &[u8]) -> String {
    let mut reader = Reader { rest: key, depth: 0 };
    match reader.next() {
        Ok(Token::Text(text) | Token::BareVariant(text)) => text.to_owned(),
        Ok(Token::Char(char)) => char.to_string(),
        Ok(Token::Unsigned(number)) => number.to_string(),
        Ok(Token::Signed(number)) => number.to_string(),
        Ok(Token::Bool(truth)) => truth.to_string(),
        _ => "a value".to_owned(),
    }
}

struct Reader<'de> {
    rest: &'de [u8],
    depth: usize,
}

enum Token<'de> {
    Unit,
    None,
    Some,
    Bool(bool),
    Unsigned(u128),
    /// Below 0.
    Signed(i128),
    F32(f32),
    F64(f64),
    Char(char),
    Text(&'de str),
    Bytes(&'de [u8]),
    List,
    Map,
    BareVariant(&'de str),
    Variant(&'de str),
}

fn cut_short() -> Error {
    Error::said("the bytes end in the middle of it")
}

impl<'de> Reader<'de> {
    fn byte(&mut self) -> Result<u8, Error> {
        let (byte, rest) = self.rest.split_first().ok_or_else(cut_short)?;
        self.rest = rest;
        Ok(*byte)
    }

    fn bytes(&mut self, length: usize) -> Result<&'de [u8], Error> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or_else(cut_short)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (array, rest) = self.rest.split_first_chunk().ok_or_else(cut_short)?;
        self.rest = rest;
        Ok(*array)
    }

    fn number(&mut self) -> Result<u128, Error> {
        let mut number = 0;
        for shift in (0..u128::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u128::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Error::said("an integer of more than 128 bits"))
    }

    fn with_length(&mut self) -> Result<&'de [u8], Error> {
        let length = usize::try_from(self.number()?).map_err(|_| cut_short())?;
        self.bytes(length)
    }

    fn text(&mut self) -> Result<&'de str, Error> {
        std::str::from_utf8(self.with_length()?).map_err(|_| Error::said("text that is not UTF-8"))
    }

    fn next(&mut self) -> Result<Token<'de>, Error> {
        Ok(match self.byte()? {
            small if small & tag::SMALL != 0 => Token::Unsigned((small & !tag::SMALL).into()),
            tag::UNIT => Token::Unit,
            tag::NONE => Token::None,
            tag::SOME => Token::Some,
            tag::FALSE => Token::Bool(false),
            tag::TRUE => Token::Bool(true),
            tag::BYTE => Token::Unsigned(self.byte()?.into()),
            tag::POSITIVE => Token::Unsigned(self.number()?),
            tag::NEGATIVE => match i128::try_from(self.number()?) {
                Ok(complement) => Token::Signed(!complement),
                Err(_) => return Err(Error::said("a negative integer of more than 128 bits")),
            },
            tag::F32 => Token::F32(f32::from_le_bytes(self.array()?)),
            tag::F64 => Token::F64(f64::from_le_bytes(self.array()?)),
            tag::CHAR => {
                let mut chars = self.text()?.chars();
                match (chars.next(), chars.next()) {
                    (Some(char), None) => Token::Char(char),
                    _ => return Err(Error::said("a character that is none")),
                }
            }
            tag::TEXT => Token::Text(self.text()?),
            tag::BYTES => Token::Bytes(self.with_length()?),
            tag::LIST => Token::List,
            tag::MAP => Token::Map,
            tag::BARE_VARIANT => Token::BareVariant(self.text()?),
            tag::VARIANT => Token::Variant(self.text()?),
            other => return Err(Error::said(format_args!("the byte {other} where a value should begin"))),
        })
    }

    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Takes the end of a list or a map if it is next.
    fn takes_end(&mut self) -> bool {
        let ends = self.peek() == Some(tag::END);
        if ends {
            self.rest = &self.rest[1..];
        }
        ends
    }

    /// Runs `body` one level further in.
    fn inner<T>(&mut self, body: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if self.depth == MAX_DEPTH {
            return Err(Error::said(format_args!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.depth += 1;
        let read = grown(|| body(&mut *self));
        self.depth -= 1;
        read
    }

    fn parts<T>(&mut self, body: impl FnOnce(&mut Parts<'_, 'de>) -> Result<T, Error>) -> Result<T, Error> {
        let mut parts = Parts { reader: self, count: 0, ended: false, key: &[] };
        let value = body(&mut parts)?;
        if parts.ended || parts.reader.takes_end() {
            Ok(value)
        } else {
            Err(Error::said(format_args!("it has more than {} parts", parts.count)))
        }
    }
}

impl<'de> de::Deserializer<'de> for &mut Reader<'de> {
    type Error = Error;

    fn is_human_readable(&self) -> bool {
        true
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.next()? {
            Token::Unit => visitor.visit_unit(),
            Token::None => visitor.visit_none(),
            Token::Some => self.inner(|reader| visitor.visit_some(reader)),
            Token::Bool(value) => visitor.visit_bool(value),
            Token::Unsigned(value) => match u64::try_from(value) {
                Ok(value) => visitor.visit_u64(value),
                Err(_) => visitor.visit_u128(value),
            },
            Token::Signed(value) => match i64::try_from(value) {
                Ok(value) => visitor.visit_i64(value),
                Err(_) => visitor.visit_i128(value),
            },
            Token::F32(value) => visitor.visit_f32(value),
            Token::F64(value) => visitor.visit_f64(value),
            Token::Char(value) => visitor.visit_char(value),
            Token::Text(value) => visitor.visit_borrowed_str(value),
            Token::Bytes(value) => visitor.visit_borrowed_bytes(value),
            Token::List => self.parts(|parts| visitor.visit_seq(parts)),
            Token::Map => self.parts(|parts| visitor.visit_map(parts)),
            // A visitor of any value gets a variant as text or as a map of one entry, which is what serde's buffers take.
            Token::BareVariant(name) => visitor.visit_borrowed_str(name),
            Token::Variant(name) => {
                let mut entry = OneEntry { reader: self, name: Some(name), of: name, read: false };
                let value = visitor.visit_map(&mut entry)?;
                if entry.read { Ok(value) } else { Err(Error::said("it has more than its name")) }
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.peek() {
            Some(tag::NONE | tag::UNIT) => {
                self.byte()?;
                visitor.visit_none()
            }
            Some(tag::SOME) => {
                self.byte()?;
                self.inner(|reader| visitor.visit_some(reader))
            }
            _ => self.inner(|reader| visitor.visit_some(reader)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let before = self.rest;
        match self.next()? {
            Token::BareVariant(name) | Token::Text(name) => {
                visitor.visit_enum(BorrowedStrDeserializer::<Error>::new(name))
            }
            Token::Variant(name) => self
                .inner(|reader| visitor.visit_enum(OfVariant { reader, name }))
                .map_err(|error| error.in_field(name)),
            _ => {
                self.rest = before;
                self.deserialize_any(visitor)
            }
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

/// A list or a map that is being read.
struct Parts<'reader, 'de> {
    reader: &'reader mut Reader<'de>,
    count: usize,
    ended: bool,
    key: &'de [u8],
}

impl<'de> de::SeqAccess<'de> for &mut Parts<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if self.ended || self.reader.takes_end() {
            self.ended = true;
            return Ok(None);
        }
        let index = self.count;
        self.count += 1;
        let element = self.reader.inner(|reader| seed.deserialize(reader));
        element.map(Some).map_err(|error| error.within(Step::Index(index)))
    }
}

impl<'de> de::MapAccess<'de> for &mut Parts<'_, 'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if self.ended || self.reader.takes_end() {
            self.ended = true;
            return Ok(None);
        }
        self.count += 1;
        let before = self.reader.rest;
        let key = self.reader.inner(|reader| seed.deserialize(reader)).map_err(|error| error.in_field("a key"))?;
        self.key = before.get(..before.len() - self.reader.rest.len()).unwrap_or_default();
        Ok(Some(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let value = self.reader.inner(|reader| seed.deserialize(reader));
        value.map_err(|error| error.within(Step::Name(key_in_words(self.key))))
    }
}

/// A variant that holds something, for a visitor of any value.
struct OneEntry<'reader, 'de> {
    reader: &'reader mut Reader<'de>,
    name: Option<&'de str>,
    of: &'de str,
    read: bool,
}

impl<'de> de::MapAccess<'de> for &mut OneEntry<'_, 'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let name = self.name.take();
        name.map(|name| seed.deserialize(BorrowedStrDeserializer::<Error>::new(name))).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        self.read = true;
        self.reader.inner(|reader| seed.deserialize(reader)).map_err(|error| error.in_field(self.of))
    }
}

struct OfVariant<'reader, 'de> {
    reader: &'reader mut Reader<'de>,
    name: &'de str,
}

impl<'de> de::EnumAccess<'de> for OfVariant<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let variant = seed.deserialize(BorrowedStrDeserializer::<Error>::new(self.name))?;
        Ok((variant, self))
    }
}

impl<'de> de::VariantAccess<'de> for OfVariant<'_, 'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        <()>::deserialize(self.reader)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.reader)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_any(self.reader, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_any(self.reader, visitor)
    }
}
