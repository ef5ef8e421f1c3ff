//! What a handler returned, when its type is not known at compile time.

use crate::event::type_name::shorten;
use crate::event::{Json, JsonError};
use std::any::{Any, TypeId};
use std::fmt;
use std::sync::Arc;

/// What an untyped handler returned, or what an untyped look at results shows.
///
/// Where an untyped handler returns it, it must hold the event's `Output`, or JSON that the event's codec reads; else the
/// invocation fails with [`HandlerFailure::WrongType`](crate::HandlerFailure::WrongType). An event that came as JSON, of a type that the bus
/// does not know, takes any value.
///
/// ```
/// use threadbus::*;
///
/// let output = AnyOutput::new(String::from("hi"));
/// assert_eq!(output.downcast::<String>().as_deref(), Some("hi"));
/// assert_eq!(output.downcast::<u8>(), None);
///
/// let json = AnyOutput::json(serde_json::json!({ "n": 1 }));
/// assert_eq!(json.to_json()?, serde_json::json!({ "n": 1 }));
/// # Ok::<(), JsonError>(())
/// ```
#[derive(Clone)]
pub struct AnyOutput {
    value: Held,
    /// How the value becomes JSON, where the event's type is known.
    encode: Option<Encode>,
}

/// Shared, so that looking at results under a lock clones no value of the user's.
#[derive(Clone)]
enum Held {
    /// `()`, by far the most frequent output: no allocation.
    Unit,
    Value(Arc<dyn OutputObject>),
}

impl Held {
    fn new<T: Any + Send + Sync>(value: T) -> Held {
        if TypeId::of::<T>() == TypeId::of::<()>() { Held::Unit } else { Held::Value(Arc::new(value)) }
    }
}

/// Gets a value of the output type that it was made for.
pub(super) type Encode = fn(&dyn Any) -> Result<Json, JsonError>;

/// `Any` that knows its type's name.
trait OutputObject: Any + Send + Sync {
    fn type_name(&self) -> &'static str;
}

impl<T: Any + Send + Sync> OutputObject for T {
    fn type_name(&self) -> &'static str {
        shorten(std::any::type_name::<T>())
    }
}

impl AnyOutput {
    /// Holds a value of any type.
    pub fn new<T: Clone + Send + Sync + 'static>(value: T) -> Self {
        Self { value: Held::new(value), encode: None }
    }

    /// Holds JSON, which stands for whatever the event's codec makes of it.
    pub fn json(value: Json) -> Self {
        Self::new(value)
    }

    /// A clone of the value, if it is a `T`.
    ///
    /// What [`json`](Self::json) made is a [`Json`](crate::Json).
    pub fn downcast<T: Clone + 'static>(&self) -> Option<T> {
        self.downcast_ref().cloned()
    }

    /// The value as JSON: what [`json`](Self::json) was given, or an event's output by way of the event's codec. Common types need none: `()`, text, characters,
    /// truth values, numbers of up to 64 bits, and lists of text, truth values or numbers.
    ///
    /// # Errors
    ///
    /// [`JsonError::NoCodec`] for any other value, and [`JsonError::Serde`] if the value's own serialization fails.
    pub fn to_json(&self) -> Result<Json, JsonError> {
        if let Some(json) = self.as_json() {
            return Ok(json.clone());
        }
        match self.encode {
            Some(encode) => encode(self.as_any()),
            None => common(self.as_any()).ok_or_else(|| JsonError::NoCodec { event_type: self.type_name().to_owned() }),
        }
    }

    /// As an output of an event, whose type says by `encode` how it becomes JSON.
    pub(super) fn encoded_by(self, encode: Encode) -> Self {
        Self { encode: Some(encode), ..self }
    }

    /// As [`new`](Self::new), for an output type of the user's.
    pub(super) fn holding<T: Any + Send + Sync>(value: T) -> Self {
        Self { value: Held::new(value), encode: None }
    }

    pub(crate) fn as_json(&self) -> Option<&Json> {
        self.downcast_ref()
    }

    /// Short name of the held value's type.
    pub(crate) fn type_name(&self) -> &'static str {
        match &self.value {
            Held::Unit => "()",
            Held::Value(value) => (**value).type_name(),
        }
    }

    pub(crate) fn downcast_ref<T: 'static>(&self) -> Option<&T> {
        self.as_any().downcast_ref()
    }

    fn as_any(&self) -> &dyn Any {
        match &self.value {
            Held::Unit => &(),
            Held::Value(value) => &**value,
        }
    }
}

/// Common types need no codec.
fn common(value: &dyn Any) -> Option<Json> {
    macro_rules! found {
        ($($ty:ty),*) => { $(
            if let Some(value) = value.downcast_ref::<$ty>() {
                return Some(Json::from(value.clone()));
            }
            if let Some(list) = value.downcast_ref::<Vec<$ty>>() {
                return Some(list.iter().cloned().map(Json::from).collect());
            }
        )* };
    }
    found!(String, &'static str, bool, i8, i16, i32, i64, isize, u8, u16, u32, u64, usize, f32, f64, Json);
    if let Some(character) = value.downcast_ref::<char>() {
        return Some(Json::from(character.to_string()));
    }
    value.downcast_ref::<()>().map(|()| Json::Null)
}

/// The type's name and not the value, which may be large, secret or have no `Debug`.
impl fmt::Debug for AnyOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnyOutput({})", self.type_name())
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;
    use crate::event::Payload;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Page(u8);
    #[derive(Serialize, Deserialize)]
    struct Fetch;
    crate::event!(Fetch => Page);
    struct Raw;
    impl Payload for Raw {
        type Output = Page;
    }

    #[test]
    fn a_value_comes_out_as_it_went_in() {
        let output = AnyOutput::new(Page(3));
        assert_eq!(output.clone().downcast::<Page>(), Some(Page(3)));
        assert_eq!(output.downcast_ref::<Page>(), Some(&Page(3)));
        assert_eq!(output.downcast::<u8>(), None);
        assert_eq!((output.type_name(), output.as_json().is_some()), ("Page", false));
        assert_eq!(format!("{output:?}"), "AnyOutput(Page)");
    }

    #[test]
    fn json_is_recognised() {
        let output = AnyOutput::json(json!([1]));
        assert!(output.as_json().is_some());
        assert_eq!(output.as_json(), Some(&json!([1])));
        assert_eq!(output.to_json().ok(), Some(json!([1])));
        assert_eq!(output.downcast::<Json>(), Some(json!([1])));
        assert!(AnyOutput::new(()).as_json().is_none());
    }

    #[test]
    fn only_the_event_knows_how_its_output_becomes_json() {
        assert_eq!(AnyOutput::of::<Fetch>(Page(3)).clone().to_json().ok(), Some(json!(3)));
        let no_codec = |output: AnyOutput| output.to_json().map_err(|error| error.to_string());
        assert_eq!(no_codec(AnyOutput::of::<Raw>(Page(3))), Err("Raw has no codec".into()));
        assert_eq!(no_codec(AnyOutput::new(Some(Page(3)))), Err("Option<Page> has no codec".into()));
    }

    #[test]
    fn common_types_are_json_by_themselves() {
        assert_eq!(AnyOutput::new(7_u8).to_json().ok(), Some(json!(7)));
        assert_eq!(AnyOutput::new("a").to_json().ok(), Some(json!("a")));
        assert_eq!(AnyOutput::new('a').to_json().ok(), Some(json!("a")));
        assert_eq!(AnyOutput::new(vec![1.5, 2.0]).to_json().ok(), Some(json!([1.5, 2.0])));
        assert_eq!(AnyOutput::new(()).to_json().ok(), Some(Json::Null));
        assert!(AnyOutput::new(1_i128).to_json().is_err());
    }

    #[test]
    fn nothing_takes_no_memory() {
        let output = AnyOutput::new(());
        assert!(matches!(output.value, Held::Unit));
        assert_eq!(output.clone().downcast::<()>(), Some(()));
        assert_eq!(output.type_name(), "()");
    }
}
