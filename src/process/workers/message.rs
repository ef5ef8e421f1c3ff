//! What is in the frames.

use crate::event::Json;
use serde::{Deserialize, Serialize};

/// Both ends are of one build where the program is the current executable; else this tells.
pub(crate) const PROTOCOL: u32 = 1;

/// From the pool to a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// As `to_json` has it, but for its options.
    pub(crate) event: Json,
    /// The most talkative level that the log over here takes.
    pub(crate) log: log::LevelFilter,
    /// A logger over here has emitted it: nothing is logged about it, there or here.
    #[serde(default)]
    pub(crate) unlogged: bool,
}

/// From a worker to the pool.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// The first of all.
    Hello { protocol: u32 },
    /// The handler is about to run.
    Started,
    /// How the request ended.
    Done(Outcome),
    /// A record for the log.
    Log { level: log::Level, target: String, text: String },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Value(Json),
    Nothing,
    Failed {
        text: String,
        permanent: bool,
    },
    Panicked(String),
    /// No fault of the handler's: it was not to be had, or what it returned could not be sent.
    Refused(String),
}
