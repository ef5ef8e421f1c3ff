//! What is in the bodies of frames.
//!
//! A worker's first frame is a hello ([`hello`]), in a form that never changes. All others are values by [`exact`](crate::exact), some with
//! another one behind: the event's payload, or the handler's output. A frame to a worker without anything in it says that its request is
//! given up.

use crate::event::{EventId, EventOptions, HandlerId, Knob, Origin, Priority};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// The version of all bodies but the hello. Both ends are of one build where the program is the current executable; else this tells them apart.
const PROTOCOL: u32 = 2;

const HELLO: &str = "threadbus worker, protocol ";

/// The body of a worker's first frame.
pub(crate) fn hello() -> String {
    format!("{HELLO}{PROTOCOL}")
}

/// What is wrong with a worker's first body; none if it is a hello of this version.
pub(crate) fn wrong_hello(body: &[u8]) -> Option<String> {
    /// How the first protocol began.
    const FIRST: &str = r#"{"Hello":{"protocol":"#;
    let text = std::str::from_utf8(body).unwrap_or_default();
    let other = text.strip_prefix(HELLO).or_else(|| text.strip_prefix(FIRST)?.strip_suffix("}}"));
    match other.and_then(|protocol| protocol.parse::<u32>().ok()) {
        Some(PROTOCOL) => None,
        Some(protocol) => {
            Some(format!("speaks protocol {protocol}, not {PROTOCOL}: it has another version of this crate"))
        }
        None => Some("sent something before it said hello".to_owned()),
    }
}

/// What the pool sends to a worker; the payload comes behind it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) event_type: String,
    /// The payload's type as the compiler calls it.
    pub(crate) rust_type: String,
    /// The worker is the same program.
    pub(crate) same_program: bool,
    pub(crate) event: Described,
    /// How long the handler may take. `None`: no limit.
    pub(crate) time: Option<Duration>,
    /// The most talkative level that the log of the pool's process takes.
    pub(crate) log: log::LevelFilter,
    /// A logger in the pool's process has emitted the event: nothing is logged about it, in either process.
    pub(crate) unlogged: bool,
}

/// What a worker is told of an event beside its payload.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Described {
    pub(crate) id: Uuid,
    pub(crate) parent: Option<Uuid>,
    pub(crate) emitted_by: Option<Uuid>,
    pub(crate) correlation_id: String,
    pub(crate) label: Option<String>,
    pub(crate) version: String,
    /// Seconds since 1970, and nanoseconds.
    pub(crate) created_at: (i64, u32),
    pub(crate) path: Vec<String>,
    pub(crate) priority: u8,
}

impl Request {
    /// The options with which the worker emits the event: alone, and with the time that it has in the pool's process, whatever its type says.
    pub(crate) fn options(&self) -> EventOptions {
        let Described { id, parent, emitted_by, correlation_id, label, version, created_at, path, priority } =
            &self.event;
        let created_at: Option<DateTime<Utc>> = DateTime::from_timestamp(created_at.0, created_at.1);
        let origin = Origin {
            created_at,
            version: Some(version.clone()),
            parent: parent.map(EventId),
            emitted_by: emitted_by.map(HandlerId),
            path: path.clone(),
            payload: None,
            kept: Default::default(),
        };
        EventOptions {
            id: Some(EventId(*id)),
            timeout: Knob::Off,
            handler_timeout: self.time.map_or(Knob::Off, Knob::After),
            slow_after: Knob::Off,
            handler_slow_after: Knob::Off,
            priority: Priority::new(*priority),
            correlation_id: Some(Arc::from(correlation_id.as_str())),
            label: label.as_deref().map(Arc::from),
            detached: parent.is_some(),
            origin: Some(Arc::new(origin)),
            ..EventOptions::new()
        }
    }
}

/// What a worker sends to the pool, once it has said hello.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// The worker can be given work.
    Ready,
    /// The request's handler is about to run.
    Started,
    /// How the request ended.
    Done(Outcome),
    /// A record for the log.
    Log { level: log::Level, target: String, text: String },
}

/// How a request ended in the worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// The handler returned an output, which comes behind the message.
    Value,
    /// The handler returned none.
    Nothing,
    Failed {
        text: String,
        permanent: bool,
    },
    Panicked(String),
    /// The handler is not at fault: there was none for the event, or what it returned could not be sent.
    Refused(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_is_told_from_another_ones_and_from_noise() {
        assert_eq!(wrong_hello(hello().as_bytes()), None);
        let other = |body: &str| wrong_hello(body.as_bytes()).unwrap_or_default();
        let version = ", not 2: it has another version of this crate";
        assert_eq!(other("threadbus worker, protocol 77"), format!("speaks protocol 77{version}"));
        assert_eq!(other(r#"{"Hello":{"protocol":1}}"#), format!("speaks protocol 1{version}"));
        for noise in ["", "y\ny\n", "threadbus worker, protocol ", "threadbus worker, protocol x", "\0\u{1}"] {
            assert_eq!(other(noise), "sent something before it said hello");
        }
        assert!(wrong_hello(&[0xff, 0xfe]).is_some());
    }
}
