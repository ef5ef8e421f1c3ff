//! The two buses: one that works, one that watches it.

use crate::events::{FileFound, FileRead, FileStats, ReadError};
use crate::progress::Progress;
use crate::read::read_file;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use threadbus::{BuildError, Event, EventBus, EventConcurrency, HandlerConcurrency, HandlerError, Runtime, Shutdown};

/// A file that takes longer is given up as a failure: its storage hangs. One timeout for both buses, since a wait runs here and now only
/// what cannot end earlier than the handler that waits; the rest costs a hop to another thread.
const FILE_TIMEOUT: Duration = Duration::from_secs(600);
/// All files are through when the pipeline is finished, so this is never reached.
const GRACE: Duration = Duration::from_secs(10);

/// Events by type.
pub(crate) type EventCounts = BTreeMap<String, u64>;

pub(crate) struct Pipeline {
    runtime: Runtime,
    files: EventBus,
    counts: Arc<Mutex<EventCounts>>,
    /// Forwarding holds its target weakly: this keeps the audit bus alive.
    _audit: EventBus,
}

impl Pipeline {
    pub(crate) fn new(progress: &Arc<Progress>) -> Result<Self, BuildError> {
        let runtime = Runtime::builder().max_threads(threads()).thread_name("index").build()?;
        let counts = Arc::default();
        let audit = audit_bus(&runtime, &counts)?;
        let files = files_bus(&runtime, progress)?;
        files.forward_all_to(&audit);
        Ok(Pipeline { runtime, files, counts, _audit: audit })
    }

    /// Never blocks: holding back is the walker's part.
    pub(crate) fn emit(&self, path: PathBuf) -> Event<FileFound> {
        self.files.emit(FileFound { path: path.into() })
    }

    /// Ends both buses and tells what the audit bus saw.
    pub(crate) fn finish(self) -> EventCounts {
        self.runtime.shutdown(Shutdown::Drain, GRACE);
        std::mem::take(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reading waits for disks, counting for processors: two threads for each.
fn threads() -> usize {
    2 * std::thread::available_parallelism().map_or(1, usize::from)
}

/// Many events at once, the handlers of one event one after another. The history keeps unfinished events only: memory stays bounded.
fn parallel_bus(name: &str, runtime: &Runtime) -> Result<EventBus, BuildError> {
    EventBus::builder(name)
        .runtime(runtime)
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::EventSerial)
        .handler_timeout(Some(FILE_TIMEOUT))
        .max_history(Some(0))
        .build()
}

fn files_bus(runtime: &Runtime, progress: &Arc<Progress>) -> Result<EventBus, BuildError> {
    let bus = parallel_bus("files", runtime)?;

    // A handler that held the bus itself would keep it alive for ever.
    let weak = bus.downgrade();
    bus.on(move |found: &Event<FileFound>| -> Result<FileStats, HandlerError> {
        let bus = weak.upgrade().ok_or("the bus is gone")?;
        let read = bus.emit(FileRead { path: Arc::clone(&found.path) });
        // Runs it here and now, ahead of all files that are queued. Its failure becomes this handler's own.
        Ok(read.result()?)
    });

    let progress = Arc::clone(progress);
    bus.on(move |read: &Event<FileRead>| -> Result<FileStats, ReadError> { read_file(&read.path, &progress) });
    Ok(bus)
}

/// Parallel too: on a serial bus every file would stand in line for what is one look at a table.
fn audit_bus(runtime: &Runtime, counts: &Arc<Mutex<EventCounts>>) -> Result<EventBus, BuildError> {
    let bus = parallel_bus("audit", runtime)?;
    let counts = Arc::clone(counts);
    bus.on_any(move |event| {
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(event.event_type()) {
            Some(count) => *count += 1,
            None => drop(counts.insert(event.event_type().to_owned(), 1)),
        }
    });
    Ok(bus)
}
