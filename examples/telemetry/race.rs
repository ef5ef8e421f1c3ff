//! Frames make laps, laps make the standing: three events, and a handler for each that emits the next.
//!
//! A handler keeps what it needs in a lock of its own. On a serial bus it is never contended: one handler runs at a time.

use crate::csv::Row;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use threadbus::{Event, EventBus, Handler, HandlerError, HandlerOptions, Payload};

/// One row of telemetry.
pub(crate) struct Frame(pub(crate) Row);
impl Payload for Frame {
    type Output = ();
}

/// A lap is complete: emitted by the first frame of the next.
pub(crate) struct Lap {
    pub(crate) number: u32,
    pub(crate) seconds: f64,
}
impl Payload for Lap {
    type Output = ();
}

/// What the laps so far come to.
#[derive(Clone)]
pub(crate) struct Standing {
    pub(crate) best_lap: u32,
    pub(crate) best_s: f64,
    pub(crate) mean_s: f64,
}
impl Payload for Standing {
    type Output = ();
}

/// Everything that handlers of this race share with the report.
#[derive(Clone, Default)]
pub(crate) struct Race(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    counts: Counts,
    /// The running lap, and when it began.
    running: Option<(u32, f64)>,
    laps_s: f64,
    best: Option<(u32, f64)>,
    standing: Option<Standing>,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) frames: u64,
    pub(crate) laps: u32,
    pub(crate) standings: u64,
}

impl Race {
    pub(crate) fn attach(bus: &EventBus) -> Race {
        let race = Race::default();
        bus.on_with(HandlerOptions::new().name("laps"), LapDetector(race.clone()));
        let state = race.clone();
        bus.on_with(HandlerOptions::new().name("compare"), move |lap: &Event<Lap>| {
            let standing = state.compare(lap);
            lap.bus().emit(standing);
        });
        let state = race.clone();
        bus.on_with(HandlerOptions::new().name("standing"), move |standing: &Event<Standing>| {
            let mut state = state.lock();
            state.counts.standings += 1;
            state.standing = Some(standing.payload().clone());
        });
        race
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().counts
    }

    pub(crate) fn standing(&self) -> Option<Standing> {
        self.lock().standing.clone()
    }

    fn compare(&self, lap: &Lap) -> Standing {
        let mut state = self.lock();
        state.counts.laps += 1;
        state.laps_s += lap.seconds;
        let (best_lap, best_s) =
            state.best.filter(|(_, best)| *best <= lap.seconds).unwrap_or((lap.number, lap.seconds));
        state.best = Some((best_lap, best_s));
        Standing { best_lap, best_s, mean_s: state.laps_s / f64::from(state.counts.laps) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct LapDetector(Race);

impl Handler<Frame> for LapDetector {
    fn handle(&self, frame: &Event<Frame>) -> Result<Option<()>, HandlerError> {
        let Row { lap, time_s, .. } = frame.0;
        let complete = {
            let mut state = self.0.lock();
            state.counts.frames += 1;
            match state.running {
                Some((running, _)) if running == lap => None,
                before => {
                    state.running = Some((lap, time_s));
                    before
                }
            }
        };
        if let Some((number, began)) = complete {
            // Its parent is this frame: `log_tree` would show which one ended the lap.
            frame.bus().emit(Lap { number, seconds: time_s - began });
        }
        Ok(None)
    }
}
