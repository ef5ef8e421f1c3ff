//! What a worker sends to its pool: answers, and its log.

use super::frame::{self, EncodeError};
use super::message::{Message, Outcome};
use crate::sys::sync::Mutex;
use log::{Log, Metadata, Record};
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// A longer record is cut.
const LONGEST_RECORD: usize = 16 * 1024;

/// One frame at a time.
pub(crate) struct Outlet {
    socket: Mutex<UnixStream>,
    max_frame: usize,
}

impl Outlet {
    pub(crate) fn new(socket: UnixStream, max_frame: usize) -> Self {
        Outlet { socket: Mutex::new(socket), max_frame }
    }

    pub(crate) fn send(&self, request: u64, message: &Message) -> io::Result<()> {
        // The limit is for what others put in; what is said about that is small.
        self.send_up_to(request, message, usize::MAX).map_err(|error| match error {
            SendError::Encode(_) => io::Error::other("a message cannot be written"),
            SendError::Io(error) => error,
        })
    }

    /// An answer that is too long is an answer that says so.
    pub(crate) fn done(&self, request: u64, outcome: Outcome) -> io::Result<()> {
        let why = match self.send_up_to(request, &Message::Done(outcome), self.max_frame) {
            Ok(()) => return Ok(()),
            Err(SendError::Io(error)) => return Err(error),
            Err(SendError::Encode(EncodeError::TooLong(long))) => {
                format!(
                    "the answer is {} bytes of JSON, more than the pool's max_frame {}",
                    long.length, self.max_frame
                )
            }
            Err(SendError::Encode(EncodeError::Json(error))) => format!("the answer cannot be JSON: {error}"),
        };
        self.send(request, &Message::Done(Outcome::Refused(why)))
    }

    fn send_up_to(&self, request: u64, message: &Message, max: usize) -> Result<(), SendError> {
        let frame = frame::encode(request, message, max).map_err(SendError::Encode)?;
        frame::send(&*self.socket.lock(), &frame).map_err(SendError::Io)
    }
}

enum SendError {
    Encode(EncodeError),
    Io(io::Error),
}

/// The logger of a worker.
pub(crate) struct SocketLog(pub(crate) Arc<Outlet>);

impl Log for SocketLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let mut text = record.args().to_string();
            if text.len() > LONGEST_RECORD {
                let end = (0..=LONGEST_RECORD).rev().find(|at| text.is_char_boundary(*at));
                text.truncate(end.unwrap_or_default());
                text.push('…');
            }
            let (level, target) = (record.level(), record.target().to_owned());
            // Who should hear it is gone.
            let _ = self.0.send(0, &Message::Log { level, target, text });
        }
    }

    fn flush(&self) {}
}
