//! Payloads of older versions become those of the current version on their way in.

use super::read::Arrival;
use super::spelling::is_reserved;
use crate::bus::{EventBus, Upcaster, callback};
use crate::event::{BuildError, Fields, HandlerError, Json, JsonError, KnownType};
use std::sync::Arc;

/// The version of an event that names none, as in [`Payload::version`](crate::Payload::version).
const UNSAID: &str = "0.0.1";

impl EventBus {
    /// Registers an upcaster: it makes a payload of an older version one of a later version, before any handler of this bus sees it.
    ///
    /// It is called for each event of that type that comes as JSON with that `event_version`; one without counts as `0.0.1`, as in
    /// [`Payload::version`](crate::Payload::version). Upcasters chain: what comes out goes through the one that takes that version, until the version
    /// of the type that this bus knows is reached, or no upcaster takes it. The event then has the payload and the version that came out, also where
    /// it is passed on. `upcaster` gets the payload without the event's own fields, and returns an object as well. An error or a panic in it
    /// counts as a payload that does not fit its type: see [`emit_json`](EventBus::emit_json).
    ///
    /// Upcasters stay for as long as their bus. Register them before the first event comes: those that have come are not changed.
    ///
    /// **Blocking**: never.
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use serde_json::json;
    /// use threadbus::{Codec, Event, EventBus, Payload};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Paid { cents: u64, currency: String }
    /// impl Payload for Paid {
    ///     type Output = String;
    ///     fn version() -> &'static str { "3" }
    ///     fn codec() -> Option<Codec<Self>> { Some(Codec::serde()) }
    /// }
    ///
    /// let bus = EventBus::new("shop");
    /// bus.on(|paid: &Event<Paid>| format!("{} {}", paid.cents, paid.currency));
    /// bus.upcast("Paid", "1", "2", |mut paid| {
    ///     paid["currency"] = json!("EUR"); // there was no other
    ///     Ok(paid)
    /// })?;
    /// bus.upcast("Paid", "2", "3", |mut paid| {
    ///     let amount = paid["amount"].take().as_u64().ok_or("no amount")?;
    ///     paid["cents"] = json!(amount * 100);
    ///     Ok(paid)
    /// })?;
    ///
    /// let old = bus.emit_json(&json!({ "event_type": "Paid", "event_version": "1", "amount": 7 }))?;
    /// assert_eq!(old.version(), "3");
    /// assert_eq!(old.downcast::<Paid>().ok_or("typed")?.result()?, "700 EUR");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`BuildError`], if there is one for that type and version, or if they would lead in a circle.
    pub fn upcast(
        &self,
        event_type: &str,
        from: &str,
        to: &str,
        upcaster: impl Fn(Json) -> Result<Json, HandlerError> + Send + Sync + 'static,
    ) -> Result<(), BuildError> {
        self.core().upcasters.add(event_type, from, Upcaster { to: to.into(), call: Arc::new(upcaster) })
    }

    /// Makes payload and version of an arrival those that this bus is to have. After an error they are as they came.
    pub(super) fn upcast_arrival(&self, arrival: &mut Arrival, known: Option<&KnownType>) -> Result<(), JsonError> {
        let event_type = &arrival.event_type;
        let mut reached: Option<(Arc<str>, Json)> = None;
        loop {
            let version = match &reached {
                Some((version, _)) => version,
                None => arrival.origin.version.as_deref().unwrap_or(UNSAID),
            };
            let upcaster = self.core().upcasters.from(event_type, version);
            let Some(upcaster) = upcaster.filter(|_| known.is_none_or(|known| (known.version)() != version)) else {
                break;
            };
            let older = reached.as_ref().map_or(&arrival.payload, |(_, payload)| payload).clone();
            match call(&upcaster, older) {
                Ok(newer) => reached = Some((upcaster.to, Json::Object(newer))),
                Err(reason) => {
                    let (from, to) = (version.to_owned(), upcaster.to.to_string());
                    return Err(JsonError::Upcast { event_type: event_type.clone(), from, to, reason });
                }
            }
        }
        if let Some((version, payload)) = reached {
            arrival.origin.version = Some(version.to_string());
            arrival.payload = payload;
        }
        Ok(())
    }
}

fn call(upcaster: &Upcaster, payload: Json) -> Result<Fields, String> {
    // An error's text is written by the user's code as well.
    let called = callback(|| (upcaster.call)(payload).map_err(|error| error.to_string()));
    match called.map_err(|panic| format!("it panicked: {panic}"))?? {
        Json::Object(fields) => match fields.keys().find(|field| is_reserved(field)) {
            Some(field) => Err(format!("field {field} is reserved")),
            None => Ok(fields),
        },
        _ => Err("what came out is no object".to_owned()),
    }
}
