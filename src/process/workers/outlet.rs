//! How a worker sends to its pool: answers, and its log.

use super::frame::{self, no_tail};
use super::message::{Message, Outcome, hello};
use crate::exact;
use crate::sys::one_line::OneLine;
use crate::sys::sync::Mutex;
use log::{Log, Metadata, Record};
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// A record that is longer is cut. In bytes.
const LONGEST_RECORD: usize = 16 * 1024;

/// A record's target that is longer is cut. In characters.
const LONGEST_TARGET: usize = 256;

/// The worker's end of the socket for sending, one frame at a time.
pub(crate) struct Outlet {
    socket: Mutex<UnixStream>,
    max_frame: usize,
}

impl Outlet {
    pub(crate) fn new(socket: UnixStream, max_frame: usize) -> Self {
        Outlet { socket: Mutex::new(socket), max_frame }
    }

    pub(crate) fn hello(&self) -> io::Result<()> {
        self.write(&frame::of_bytes(0, hello().as_bytes()))
    }

    pub(crate) fn send(&self, request: u64, message: &Message) -> io::Result<()> {
        // The pool's limit is for what handlers return; messages about that are small.
        let frame = frame::encode(request, message, usize::MAX, no_tail);
        self.write(&frame.map_err(|_| io::Error::other("a message cannot be written"))?)
    }

    /// Sends how a request ended that has no output. In the place of what is too long it sends an answer that says so.
    pub(crate) fn done(&self, request: u64, event_type: &str, outcome: Outcome) -> io::Result<()> {
        match frame::encode(request, &Message::Done(outcome), self.max_frame.max(frame::LEAST), no_tail) {
            Ok(frame) => self.write(&frame),
            Err(_) => {
                let why = self.too_large("error", event_type);
                self.send(request, &Message::Done(Outcome::Refused(why)))
            }
        }
    }

    /// Sends a request's output, which `append` puts behind the bytes that there are. In the place of an output that cannot be sent it sends an
    /// answer that says so.
    pub(crate) fn output(
        &self,
        request: u64,
        event_type: &str,
        append: impl FnOnce(&mut Vec<u8>, usize) -> Result<(), exact::Error>,
    ) -> io::Result<()> {
        let why = match frame::encode(request, &Message::Done(Outcome::Value), self.max_frame, append) {
            Ok(frame) => return self.write(&frame),
            Err(error) if error.is_too_long() => self.too_large("output", event_type),
            Err(error) => format!("the output of {event_type} cannot be sent: {error}"),
        };
        self.done(request, event_type, Outcome::Refused(why))
    }

    fn too_large(&self, what: &str, event_type: &str) -> String {
        format!("the {what} of {event_type} is larger than the pool's max_frame, {} bytes", self.max_frame)
    }

    fn write(&self, frame: &[u8]) -> io::Result<()> {
        frame::send(&*self.socket.lock(), frame)
    }
}

/// The logger of a worker.
pub(crate) struct SocketLog(pub(crate) Arc<Outlet>);

impl Log for SocketLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let mut text = OneLine(record.args()).to_string();
            if text.len() > LONGEST_RECORD {
                let end = (0..=LONGEST_RECORD).rev().find(|at| text.is_char_boundary(*at));
                text.truncate(end.unwrap_or_default());
                text.push('…');
            }
            let (level, target) = (record.level(), record.target().chars().take(LONGEST_TARGET).collect());
            // An error means that the pool is gone.
            let _ = self.0.send(0, &Message::Log { level, target, text });
        }
    }

    fn flush(&self) {}
}
