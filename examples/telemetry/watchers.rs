//! Two threads that see frames without handling them, each with its own idea of what may be lost.

use crate::csv::HEADER;
use crate::race::Frame;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use threadbus::{Event, RecvError, Subscription};

/// What a watcher saw, and what went past it.
pub(crate) struct Seen {
    pub(crate) frames: u64,
    pub(crate) lost: u64,
}

/// A running watcher; ends with its subscription.
pub(crate) struct Watcher<R>(JoinHandle<R>);

impl<R> Watcher<R> {
    pub(crate) fn finish(self) -> Result<R, &'static str> {
        self.0.join().map_err(|_| "a watcher panicked")
    }
}

/// A frame loop: twenty times a second it takes what is there, and shows the newest. What does not fit into its small backlog between
/// two looks is lost, and nobody waits for it.
pub(crate) fn display(mut frames: Subscription<Event<Frame>>) -> Watcher<Seen> {
    Watcher(thread::spawn(move || {
        let on_terminal = io::stderr().is_terminal();
        let mut seen = 0;
        loop {
            let mut newest = None;
            for frame in frames.try_iter() {
                seen += 1;
                newest = Some(frame);
            }
            if let Some(frame) = newest.filter(|_| on_terminal) {
                let bar = "#".repeat((frame.0.throttle * 20.0) as usize);
                let _ = write!(io::stderr(), "\rlap {:>2} {:>6.1} km/h {bar:<20}", frame.0.lap, frame.0.speed_kmh);
            }
            match frames.try_recv() {
                Err(RecvError::Closed) => break,
                Ok(_) => seen += 1,
                Err(_) => {}
            }
            thread::sleep(Duration::from_millis(50));
        }
        if on_terminal {
            let _ = write!(io::stderr(), "\r{:40}\r", "");
        }
        Seen { frames: seen, lost: frames.lagged() }
    }))
}

/// Writes every frame. Its backlog holds the emitter back, so nothing is lost however slow the disk is.
pub(crate) fn recorder(frames: Subscription<Event<Frame>>, out: Box<dyn Write + Send>) -> Watcher<io::Result<Seen>> {
    Watcher(thread::spawn(move || {
        let mut out = BufWriter::new(out);
        writeln!(out, "{HEADER}")?;
        let mut frames = frames;
        let mut seen = 0;
        for frame in frames.by_ref() {
            frame.0.write(&mut out)?;
            seen += 1;
        }
        out.flush()?;
        Ok(Seen { frames: seen, lost: frames.lagged() })
    }))
}
