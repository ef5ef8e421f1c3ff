//! S12: an event that runs on the thread that emits it.

use crate::measure::{Rounds, median_piece, nanos_each};
use parking_lot::RwLock;
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::hint::black_box;
use threadbus::{Event, EventBus, Payload};

const EVENTS: usize = 1_000;
const PIECES: usize = 50;

struct Ask([u64; 8]);
impl Payload for Ask {
    type Output = u64;
}

/// S12, per event, without timeouts: `emit_now`, and `emit` with `run_pending` on a manual bus.
pub fn emit_now(rounds: &Rounds) {
    let without_timeouts =
        || EventBus::builder("S12").handler_timeout(None).handler_slow_after(None).event_slow_after(None);
    let bus = without_timeouts().build().expect("valid options");
    bus.on(|ask: &Event<Ask>| ask.0[0]);
    let manual = without_timeouts().manual().build().expect("valid options");
    manual.on(|ask: &Event<Ask>| ask.0[0]);
    let by_hand = ByHand::default();
    by_hand.on(|ask: &Ask| ask.0[0]);
    let each = |ask: &dyn Fn(Ask)| nanos_each(EVENTS, || (0..EVENTS).for_each(|n| ask(Ask([n as u64; 8]))));
    rounds.in_turns(
        "S12",
        || median_piece(PIECES, || each(&|ask| drop(bus.emit_now(ask)))),
        || median_piece(PIECES, || each(&|ask| drop(black_box(by_hand.ask(&ask))))),
    );
    let pumped = |ask| {
        drop(manual.emit(ask));
        black_box(manual.run_pending());
    };
    rounds.in_turns(
        "S12 manual",
        || median_piece(PIECES, || each(&pumped)),
        || median_piece(PIECES, || each(&|ask| drop(black_box(by_hand.ask(&ask))))),
    );
    let frame = || {
        nanos_each(EVENTS, || {
            for n in 0..EVENTS {
                drop(manual.emit(Ask([n as u64; 8])));
            }
            assert_eq!(manual.run_pending(), EVENTS);
        })
    };
    rounds.in_turns(
        "S12 frame",
        || median_piece(PIECES, frame),
        || median_piece(PIECES, || each(&|ask| drop(black_box(by_hand.ask(&ask))))),
    );
}

/// The floor: a bus in twenty lines.
#[derive(Default)]
struct ByHand {
    handlers: RwLock<HashMap<TypeId, Vec<Handler>>>,
}

type Handler = Box<dyn Fn(&dyn Any) -> u64 + Send + Sync>;

impl ByHand {
    fn on<P: Any>(&self, handler: impl Fn(&P) -> u64 + Send + Sync + 'static) {
        let of_any = move |payload: &dyn Any| payload.downcast_ref::<P>().map_or(0, &handler);
        self.handlers.write().entry(TypeId::of::<P>()).or_default().push(Box::new(of_any));
    }

    fn ask<P: Any>(&self, payload: &P) -> Vec<u64> {
        let handlers = self.handlers.read();
        let Some(handlers) = handlers.get(&TypeId::of::<P>()) else { return Vec::new() };
        handlers.iter().map(|handler| handler(payload)).collect()
    }
}
