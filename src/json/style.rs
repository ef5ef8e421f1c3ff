//! For which reader an event is written.

/// For which reader an event is written as JSON by [`to_json_with`](crate::Event::to_json_with). Default: for this crate, as
/// [`to_json`](crate::Event::to_json) does.
///
/// What any style writes, [`emit_json`](crate::EventBus::emit_json) reads.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use serde_json::json;
/// use threadbus::{Event, EventBus, JsonStyle, event};
///
/// #[derive(Serialize, Deserialize)]
/// struct Login { user: String }
/// event!(Login => String);
///
/// let bus = EventBus::new("MainBus");
/// bus.on(|login: &Event<Login>| format!("hello {}", login.user));
/// let login = bus.emit(Login { user: "ann".into() }).wait()?;
///
/// let json = login.to_json_with(JsonStyle::bubus())?;
/// assert_eq!(json["event_path"], json!(["MainBus"])); // `to_json` writes the bus's label: MainBus#17aa
/// assert!(json.get("event_results").is_none());
///
/// let json = login.to_json_with(JsonStyle::bubus().results(true))?;
/// let results = json["event_results"].as_object().ok_or("a mapping")?;
/// assert!(results.values().all(|result| result["result"] == "hello ann"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonStyle {
    pub(crate) reader: Reader,
    pub(crate) results: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    Threadbus,
    Bubus,
}

impl JsonStyle {
    /// For this crate, and for whatever reads what [`to_json`](crate::Event::to_json) writes: that, field by field.
    pub fn new() -> Self {
        JsonStyle { reader: Reader::Threadbus, results: true }
    }

    /// For the Python package `bubus` as it is released (1.5): an event that it takes in and runs as new.
    ///
    /// - **Buses** have their names without a label's suffix. A Python bus has an identifier for a name, so in others every character but ASCII
    ///   letters, digits and `_` becomes `_`, and `bus` comes before a name that does not begin with a letter: `my-bus` is `my_bus`.
    /// - **What happened here** is left out: status, start, completion, results. With [`results(true)`](JsonStyle::results) results are a mapping
    ///   from handlers to what they returned, and `event_processed_at` is when the event completed. The package reads no errors: a result
    ///   that failed has the status `error`, and no text. What was returned must fit the result type of the Python class.
    /// - **What is not set** is absent, so that the Python class's defaults hold. A timeout that is turned off is `null`, which is no timeout
    ///   there as well.
    /// - `event_result_type` is left out: the package writes it as text that it cannot use when it reads it.
    /// - `event_schema` of an event that came with one goes on; without one the Python class sets its own.
    ///
    /// Options that the package does not know (priority, correlation id, modes) it carries along, and writes again. Times have nine digits, of
    /// which it keeps six.
    ///
    /// An event type must be an identifier there, of 64 characters at most, without `_` at its beginning; another one is refused with
    /// [`JsonError::InvalidField`](crate::JsonError::InvalidField).
    pub fn bubus() -> Self {
        JsonStyle { reader: Reader::Bubus, results: false }
    }

    /// Whether the handlers' results are written. Default: `true`, and `false` for [`bubus`](JsonStyle::bubus).
    ///
    /// ```
    /// use threadbus::{EventBus, JsonStyle};
    ///
    /// let bus = EventBus::new("mirror");
    /// let note = bus.emit_json_str(r#"{"event_type": "Note"}"#)?;
    /// assert!(note.to_json_with(JsonStyle::new().results(false))?.get("event_results").is_none());
    /// # Ok::<(), threadbus::JsonError>(())
    /// ```
    pub fn results(self, written: bool) -> Self {
        JsonStyle { results: written, ..self }
    }
}

impl Default for JsonStyle {
    fn default() -> Self {
        Self::new()
    }
}
