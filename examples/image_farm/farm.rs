//! Tiles on a bus, drawn in worker processes of which one is killed.

use crate::args::Request;
use crate::picture::{self, Picture};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use threadbus::process::{self, Command, ProcessPool, run_command};
use threadbus::{
    Event, EventBus, EventConcurrency, HandlerConcurrency, HandlerFailure, HandlerOptions, Progress, Retry, Shutdown,
    event,
};

/// Some rows of the picture.
#[derive(Serialize, Deserialize)]
struct Tile {
    size: usize,
    first: usize,
    end: usize,
}
event!(Tile => Drawn);

/// By whom, and what.
#[derive(Clone, Serialize, Deserialize)]
struct Drawn {
    pid: u32,
    counts: Vec<u16>,
}

/// The variable that tells a worker how long to take until it serves.
const START: &str = "IMAGE_FARM_START_MS";

/// In a worker: draws tiles, and exits when the pool lets it go. Elsewhere: nothing.
pub(crate) fn serve() {
    process::serve(|worker| {
        // What a real one loads here, a model or an index, takes its time too, and is not taken from a tile's.
        let start = std::env::var(START).ok().and_then(|ms| ms.parse().ok()).unwrap_or_default();
        std::thread::sleep(Duration::from_millis(start));
        worker.on(|tile: &Event<Tile>| {
            log::debug!("rows {} to {}", tile.first, tile.end);
            Drawn { pid: std::process::id(), counts: picture::rows(tile.size, tile.first..tile.end) }
        });
    });
}

pub(crate) struct Report {
    tiles: usize,
    workers: usize,
    started: u64,
    recycled: u64,
    killed: Option<u32>,
    again: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tiles drawn by {} processes", self.tiles, self.workers)?;
        write!(f, " of {}, of which {} were recycled", self.started, self.recycled)?;
        match self.killed {
            Some(pid) => write!(f, "; {pid} was killed, tiles begun again: {}", self.again),
            None => write!(f, "; none was killed"),
        }
    }
}

pub(crate) fn draw(request: &Request) -> Result<(Picture, Report), Box<dyn Error>> {
    let bus = EventBus::builder("farm")
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::Parallel)
        .build()?;
    // What a worker leaks goes with it, after so many tiles. The first two start while the tiles are put together.
    let pool = ProcessPool::builder()
        .max_processes(request.workers)
        .min_processes(request.workers.min(2))
        .max_events(request.recycle as u64)
        .env(START, request.start.to_string())
        .niceness(5)
        .build()?;
    // Whatever kills a worker may be over with the next attempt; an error of the drawing itself would not.
    let again = Retry::attempts(3)
        .only_if(|failure| matches!(failure, HandlerFailure::Worker(_) | HandlerFailure::WorkerStart(_)));
    bus.on_process_with::<Tile>(HandlerOptions::new().timeout(Duration::from_secs(300)).retry(again), &pool);
    bus.on(run_command);

    let batch = bus.batch();
    let killer = Arc::new(Killer { bus: bus.clone(), pool: pool.clone(), killed: Mutex::new(None) });
    let kill = request.kill.then(|| Arc::clone(&killer));
    batch.on_progress(move |progress| {
        show(progress);
        if let Some(killer) = kill.as_ref().filter(|_| progress.completed * 4 >= progress.total) {
            killer.kill_one();
        }
    });
    let size = request.size;
    let tile = |first| Tile { size, first, end: (first + request.rows).min(size) };
    let tiles = batch.extend((0..size).step_by(request.rows).map(tile));
    batch.wait()?;
    let _ = writeln!(io::stderr());

    let mut picture = Picture::new(size);
    let mut workers = BTreeSet::new();
    for tile in &tiles {
        let drawn = tile.result()?;
        picture.set_rows(tile.first, &drawn.counts);
        workers.insert(drawn.pid);
    }
    let again = tiles.iter().filter(|tile| tile.results().iter().any(|result| result.attempts > 1)).count();
    let killed = *killer.killed.lock().unwrap_or_else(PoisonError::into_inner);
    let (started, recycled) = (pool.stats().started, pool.stats().recycled);
    bus.shutdown(Shutdown::Drain, Duration::from_secs(10));
    Ok((picture, Report { tiles: tiles.len(), workers: workers.len(), started, recycled, killed, again }))
}

/// The progress, on a line that is written over.
fn show(Progress { completed, total, .. }: Progress) {
    let _ = write!(io::stderr(), "\r{completed} of {total} tiles");
}

/// Kills one worker, once.
struct Killer {
    bus: EventBus,
    pool: ProcessPool,
    killed: Mutex<Option<u32>>,
}

impl Killer {
    fn kill_one(&self) {
        let mut killed = self.killed.lock().unwrap_or_else(PoisonError::into_inner);
        if let (None, Some(pid)) = (*killed, self.pool.pids().first()) {
            *killed = Some(*pid);
            let _ = write!(io::stderr(), "\nkilling worker {pid} on purpose\n");
            self.bus.emit(Command::new("kill").args(["-9", &pid.to_string()]));
        }
    }
}
