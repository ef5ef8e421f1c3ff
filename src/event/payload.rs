//! What a user defines: a type that can travel as an event, and how it becomes JSON.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::event::json::unfit::Unfit;
use crate::event::json::{lossless, unfit, whole};
use crate::event::options::label_of;
use crate::event::type_name::short_type_name;
use crate::event::{EventOptions, Json};
#[cfg(feature = "process")]
use crate::exact;
use crate::sys::{logging, unwind};

/// A type that can travel as an event.
///
/// For a type that serde can handle, [`event!`](crate::event!) writes the impl. By hand it takes one line, for an event that
/// never becomes JSON:
///
/// ```
/// use std::sync::mpsc::SyncSender;
/// use threadbus::*;
///
/// struct Reply(SyncSender<u8>);
/// impl Payload for Reply {
///     type Output = ();
/// }
/// assert_eq!(Reply::event_type(), "Reply");
/// assert!(Reply::codec().is_none());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    label = "`Payload` is not implemented for `{Self}`",
    note = "write `event!({Self});` or `event!({Self} => Output);` for a type with serde's derives",
    note = "or `impl Payload for {Self} {{ type Output = (); }}` for an event that never becomes JSON"
)]
pub trait Payload: Sized + Send + Sync + 'static {
    /// What one handler of this event returns. Failures that the business knows are values of it: with a `Result` here, a handler returns
    /// `Ok(Err(…))` for them, and fails only by what nobody expects.
    type Output: Clone + Send + Sync + 'static;

    /// Name in logs, in JSON and for registration by name. Default: the type's name without its path and without the paths of
    /// its generics: `Wrapper<B>` for `my::Wrapper<a::B>`.
    ///
    /// Two types of one program should not share a name where they are addressed by it: a bus that has met both takes no JSON of that name, and a
    /// pool of worker processes refuses the second.
    fn event_type() -> &'static str {
        short_type_name::<Self>()
    }

    /// Version of the payload's shape, carried in JSON. Default: `0.0.1`.
    fn version() -> &'static str {
        "0.0.1"
    }

    /// Defaults of every event of this type, overridden field by field by `emit_with`. Default: nothing set.
    ///
    /// Asked once per type and bus. Identity set here (id, parent, correlation id) is ignored.
    fn options() -> EventOptions {
        EventOptions::new()
    }

    /// Says *which* task this one is, where events are named: in trees, warnings and dead ends. Default: `None`.
    ///
    /// Asked once, when an event is emitted that has no [`label`](EventOptions::label) of its own; its text is kept with the event, so a type that is
    /// emitted a million times a second has better none. Ends like a label: on one line, cut after 80 characters. A panic in it is logged,
    /// and means `None`.
    ///
    /// ```
    /// use threadbus::{EventBus, Payload};
    /// struct Compile { file: String }
    /// impl Payload for Compile {
    ///     type Output = ();
    ///     fn describe(&self) -> Option<String> { Some(self.file.clone()) }
    /// }
    ///
    /// let event = EventBus::new("build").emit(Compile { file: "main.c".into() });
    /// assert!(event.to_string().ends_with(" (main.c)"), "{event}");
    /// ```
    fn describe(&self) -> Option<String> {
        None
    }

    /// How payload and output become JSON. Default: `None`, and JSON features answer
    /// [`JsonError::NoCodec`](crate::JsonError::NoCodec).
    fn codec() -> Option<Codec<Self>> {
        None
    }
}

/// What a type says that its events are called. If that panics, its own name: nothing that asks may panic for it.
#[inline]
pub(crate) fn name_of<P: Payload>() -> &'static str {
    unwind::catch(P::event_type).unwrap_or_else(|_| std::any::type_name::<P>())
}

/// What a type says is the version of its payloads. If that panics, the default.
pub(crate) fn version_of<P: Payload>() -> &'static str {
    unwind::catch(P::version).unwrap_or("0.0.1")
}

/// What the payload says which one it is. Types that say nothing cost nothing.
#[inline(always)]
pub(crate) fn described<P: Payload>(payload: &P) -> Option<Arc<str>> {
    match unwind::catch(|| payload.describe()) {
        Ok(None) => None,
        Ok(Some(text)) => label_of(&text),
        Err(panic) => {
            logging::later!(Error, move || format!("the describe of a {} panicked: {panic}", name_of::<P>()));
            None
        }
    }
}

/// How the payload and the output of one event type become JSON and come back.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use threadbus::*;
///
/// #[derive(Serialize, Deserialize)]
/// struct Page<T> { content: T }
/// impl<T: Serialize + for<'de> Deserialize<'de> + Send + Sync + 'static> Payload for Page<T> {
///     type Output = usize;
///     fn codec() -> Option<Codec<Self>> { Some(Codec::serde()) }
/// }
/// assert_eq!(Page::<String>::event_type(), "Page<String>");
/// ```
pub struct Codec<P: Payload> {
    payload_to_json: fn(&P) -> Result<Json, Unfit>,
    payload_from_json: fn(&Json) -> Result<P, Unfit>,
    output_to_json: fn(&P::Output) -> Result<Json, Unfit>,
    output_from_json: fn(&Json) -> Result<P::Output, Unfit>,
    // Payload and output as bytes that lose nothing, for a worker process.
    #[cfg(feature = "process")]
    append_payload: Append<P>,
    #[cfg(feature = "process")]
    read_payload: fn(&[u8]) -> Result<P, exact::Error>,
    #[cfg(feature = "process")]
    append_output: Append<P::Output>,
    #[cfg(feature = "process")]
    read_output: fn(&[u8]) -> Result<P::Output, exact::Error>,
}

/// Appends to what is there, up to a length of it all.
#[cfg(feature = "process")]
type Append<T> = fn(&mut Vec<u8>, &T, usize) -> Result<(), exact::Error>;

impl<P: Payload> Codec<P> {
    /// A codec by serde's derives.
    ///
    /// What does not fit is named by type, field and index: `Order.lines[1].count: invalid value: integer `-1`, expected u32`. For that, what fails is written or read once
    /// more; below `#[serde(flatten)]`, and in untagged enums, serde does not tell, and the place is that of the whole.
    pub fn serde() -> Self
    where
        P: Serialize + DeserializeOwned,
        P::Output: Serialize + DeserializeOwned,
    {
        Self {
            payload_to_json: lossless::to_json,
            payload_from_json: |json| unfit::read(|| json),
            output_to_json: lossless::to_json,
            output_from_json: |json| unfit::read(|| json),
            #[cfg(feature = "process")]
            append_payload: exact::append,
            #[cfg(feature = "process")]
            read_payload: |bytes| exact::from_whole(bytes),
            #[cfg(feature = "process")]
            append_output: exact::append,
            #[cfg(feature = "process")]
            read_output: |bytes| exact::from_whole(bytes),
        }
    }

    pub(crate) fn payload_to_json(&self, payload: &P) -> serde_json::Result<Json> {
        payload_of::<P, _>(contained(|| (self.payload_to_json)(payload), Unfit::whole))
    }

    pub(crate) fn payload_from_json(&self, json: &Json) -> serde_json::Result<P> {
        payload_of::<P, _>(contained(|| whole::read(json, self.payload_from_json), Unfit::whole))
    }

    pub(crate) fn output_to_json(&self, output: &P::Output) -> serde_json::Result<Json> {
        output_of::<P, _>(contained(|| (self.output_to_json)(output), Unfit::whole))
    }

    pub(crate) fn output_from_json(&self, json: &Json) -> serde_json::Result<P::Output> {
        output_of::<P, _>(contained(|| whole::read(json, self.output_from_json), Unfit::whole))
    }
}

/// Appended to what is there, up to a length of it all; read from all of the bytes.
#[cfg(feature = "process")]
impl<P: Payload> Codec<P> {
    pub(crate) fn append_payload(&self, bytes: &mut Vec<u8>, payload: &P, max: usize) -> Result<(), exact::Error> {
        contained(|| (self.append_payload)(bytes, payload, max), serde::de::Error::custom)
    }

    pub(crate) fn read_payload(&self, bytes: &[u8]) -> Result<P, exact::Error> {
        contained(|| (self.read_payload)(bytes), serde::de::Error::custom)
    }

    pub(crate) fn append_output(
        &self,
        bytes: &mut Vec<u8>,
        output: &P::Output,
        max: usize,
    ) -> Result<(), exact::Error> {
        contained(|| (self.append_output)(bytes, output, max), serde::de::Error::custom)
    }

    pub(crate) fn read_output(&self, bytes: &[u8]) -> Result<P::Output, exact::Error> {
        contained(|| (self.read_output)(bytes), serde::de::Error::custom)
    }
}

/// A panic in the user's serialization is an error like any other of it.
fn contained<T, E>(body: impl FnOnce() -> Result<T, E>, failed: impl FnOnce(String) -> E) -> Result<T, E> {
    unwind::catch(body).unwrap_or_else(|panic| Err(failed(format!("it panicked: {panic}"))))
}

fn payload_of<P: Payload, T>(result: Result<T, Unfit>) -> serde_json::Result<T> {
    result.map_err(|unfit| serde::de::Error::custom(unfit.of(name_of::<P>())))
}

fn output_of<P: Payload, T>(result: Result<T, Unfit>) -> serde_json::Result<T> {
    result.map_err(|unfit| serde::de::Error::custom(unfit.of(format_args!("output of {}", name_of::<P>()))))
}

// By hand: a derive would ask the payload to be `Clone`.
impl<P: Payload> Clone for Codec<P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Payload> Copy for Codec<P> {}

impl<P: Payload> fmt::Debug for Codec<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Codec<{}>", crate::event::name_of::<P>())
    }
}

/// Makes a type with serde's derives an event: writes its [`Payload`] impl, codec included.
///
/// `event!(Tick);` returns nothing, `event!(UserLogin => String);` has handlers that return a `String`. Each further
/// `name = value` calls that method of [`EventOptions`] for every event of the type.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use std::time::Duration;
/// use threadbus::*;
///
/// #[derive(Serialize, Deserialize)]
/// struct Tick { n: u32 }
/// event!(Tick);
///
/// #[derive(Serialize, Deserialize)]
/// struct Fetch { url: String }
/// event!(Fetch => Vec<u8>, timeout = Duration::from_secs(5), priority = Priority::HIGH);
///
/// assert_eq!(Fetch::event_type(), "Fetch");
/// assert!(Tick::codec().is_some());
/// ```
#[macro_export]
macro_rules! event {
    ($ty:ident $(, $opt:ident = $val:expr)* $(,)?) => { $crate::event!($ty => () $(, $opt = $val)*); };
    ($ty:ident => $out:ty $(, $opt:ident = $val:expr)* $(,)?) => {
        impl $crate::Payload for $ty {
            type Output = $out;
            fn event_type() -> &'static str { stringify!($ty) }
            fn codec() -> ::core::option::Option<$crate::Codec<Self>> { ::core::option::Option::Some($crate::Codec::serde()) }
            fn options() -> $crate::EventOptions { $crate::EventOptions::new()$(.$opt($val))* }
        }
    };
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event::{Knob, Priority};
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Login {
        name: String,
    }
    event!(Login => Option<u8>, timeout = Duration::from_secs(5), priority = Priority::HIGH,);

    #[derive(Serialize, Deserialize)]
    struct Tick;
    event!(Tick);

    struct Raw<T>(T);
    impl<T: Send + Sync + 'static> Payload for Raw<T> {
        type Output = ();
    }

    #[test]
    fn the_macro_sets_name_options_and_codec() {
        assert_eq!((Login::event_type(), Login::version()), ("Login", "0.0.1"));
        let options = Login::options();
        assert_eq!((options.timeout, options.priority), (Knob::After(Duration::from_secs(5)), Some(Priority::HIGH)));
        assert_eq!(Tick::options().timeout, Knob::Unset);
        assert!(Tick::codec().is_some());
    }

    #[test]
    fn a_hand_written_payload_is_named_after_its_type_and_has_no_codec() {
        assert_eq!(Raw::<Option<Tick>>::event_type(), "Raw<Option<Tick>>");
        assert!(Raw::<Tick>::codec().is_none());
    }

    #[test]
    fn a_codec_leads_there_and_back() -> Result<(), serde_json::Error> {
        let codec = Codec::<Login>::serde();
        let login = Login { name: "ada".into() };
        let json = codec.payload_to_json(&login)?;
        assert_eq!(json, serde_json::json!({ "name": "ada" }));
        assert_eq!(codec.payload_from_json(&json)?, login);
        assert!(codec.payload_from_json(&serde_json::json!({ "name": 1 })).is_err());
        assert_eq!(codec.output_to_json(&Some(3))?, serde_json::json!(3));
        assert_eq!(codec.output_from_json(&Json::Null)?, None);
        assert!(codec.output_from_json(&serde_json::json!("x")).is_err());
        assert_eq!(format!("{codec:?}"), "Codec<Login>");
        Ok(())
    }
}
