//! Every event mode × handler mode × {ok, error, panic, timeout, event cap} × {plain, queue-jump, forwarded}: order, final states, all permits
//! back, idle buses. One runtime per test, so that a global permit that leaks stops what comes after it.

mod common;

use common::{Gate, Gauge, Log, clean, done, eventually, idle, linger, payload};
use std::collections::HashSet;
use std::time::Duration;
use threadbus::{
    AnyEvent, CauseKind, Event, EventBus, EventConcurrency as Events, EventOptions, EventStatus,
    HandlerConcurrency as Handlers, HandlerError, HandlerFailure, HandlerOptions, HandlerResult, ResultStatus, Runtime,
    WaitError,
};

payload!(Subject { n: usize } => usize);
payload!(Outer);
payload!(Bystander);
payload!(FollowUp);

const EVENTS: usize = 3;
const CAP: Duration = Duration::from_millis(50);
/// Of the whole event. The handlers before the one that overstays have to be done by then.
const EVENT_CAP: Duration = Duration::from_millis(150);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Ok,
    Error,
    Panic,
    Timeout,
    /// The event's own timeout passes while the second handler runs.
    EventCap,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// Emitted from outside, one after the other without waiting.
    Plain,
    /// Emitted and awaited by a handler on the same bus.
    Jump,
    /// Emitted on another bus of the same modes, which forwards everything.
    Forwarded,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    events: Events,
    handlers: Handlers,
    outcome: Outcome,
    way: Way,
}

/// One cell's buses and what happened on them.
struct Run {
    cell: Cell,
    runtime: Runtime,
    bus: EventBus,
    log: Log,
    /// Handlers inside, over all events and for each.
    inside: [Gauge; 1 + EVENTS],
    gate: Gate,
}

impl Run {
    fn new(runtime: &Runtime, cell: Cell) -> Self {
        let bus = bus(runtime, "Target", cell);
        let inside = std::array::from_fn(|_| Gauge::new());
        Run { cell, runtime: runtime.clone(), bus, log: Log::new(), inside, gate: Gate::new() }
    }

    /// Three handlers: the first and the last succeed, the one between them does what the cell says.
    fn register(&self) {
        for at in 0..3 {
            let (log, inside, gate) = (self.log.clone(), self.inside.clone(), self.gate.clone());
            let outcome_of_cell = self.cell.outcome;
            let outcome = if at == 1 { outcome_of_cell } else { Outcome::Ok };
            let options = HandlerOptions::new();
            let options = if outcome == Outcome::Timeout { options.timeout(CAP) } else { options };
            self.bus.on_with(options, move |event: &Event<Subject>| -> Result<usize, HandlerError> {
                log.push(format_args!("{}.{at}", event.n));
                if matches!(outcome, Outcome::Timeout | Outcome::EventCap) {
                    gate.wait();
                    return Ok(99);
                }
                let counts = [&inside[0], &inside[1 + event.n]];
                counts.into_iter().for_each(|gauge| {
                    gauge.enter();
                });
                if outcome_of_cell != Outcome::EventCap {
                    linger();
                }
                counts.into_iter().for_each(Gauge::leave);
                match outcome {
                    Outcome::Error => Err("boom".into()),
                    Outcome::Panic => panic!("ouch"),
                    _ => Ok(10 * event.n + at),
                }
            });
        }
    }

    fn options(&self) -> EventOptions {
        let options = EventOptions::new();
        if self.cell.outcome == Outcome::EventCap { options.timeout(EVENT_CAP) } else { options }
    }

    /// One after the other; without waiting in between, unless each would spend its time in line for the one before.
    fn emit(&self, bus: &EventBus) -> Vec<Event<Subject>> {
        let emit = |n| bus.emit_with(Subject { n }, self.options());
        if self.cell.outcome == Outcome::EventCap {
            return (0..EVENTS).map(|n| done(&emit(n))).collect();
        }
        let events: Vec<_> = (0..EVENTS).map(emit).collect();
        events.iter().map(done).collect()
    }

    /// Emits the subjects and waits for them. The second value: those of the handlers that forwarded.
    fn subjects(&self) -> (Vec<Event<Subject>>, usize) {
        match self.cell.way {
            Way::Plain => (self.emit(&self.bus), 0),
            Way::Forwarded => {
                let source = bus(&self.runtime, "Source", self.cell);
                source.forward_all_to(&self.bus);
                let events = self.emit(&source);
                assert!(events.iter().all(|e| e.path() == [source.label(), self.bus.label()]), "{:?}", self.cell);
                idle(&source);
                // The source is without handlers of its own, but for the forward.
                clean(&source.emit(FollowUp));
                idle(&source);
                (events, 1)
            }
            Way::Jump => {
                let (jumping, bystanding) = (Gate::new(), Gate::new());
                self.bus.on({
                    let (log, jumping, bystanding) = (self.log.clone(), jumping.clone(), bystanding.clone());
                    let options = self.options();
                    move |outer: &Event<Outer>| -> Result<(), WaitError> {
                        jumping.open();
                        bystanding.wait();
                        for n in 0..EVENTS {
                            outer.bus().emit_with(Subject { n }, options.clone()).wait()?;
                            log.push(format_args!("waited {n}"));
                        }
                        log.push("outer_end");
                        Ok(())
                    }
                });
                self.bus.on({
                    let log = self.log.clone();
                    move |_: &Event<Bystander>| log.push("bystander")
                });
                let outer = self.bus.emit(Outer);
                jumping.wait();
                let bystander = self.bus.emit(Bystander);
                bystanding.open();
                clean(&outer);
                clean(&bystander);
                (outer.children().iter().filter_map(AnyEvent::downcast).collect(), 0)
            }
        }
    }

    fn check_states(&self, events: &[Event<Subject>], forwards: usize) {
        let Cell { outcome, .. } = self.cell;
        assert_eq!(events.len(), EVENTS);
        for event in events {
            assert_eq!((event.status(), event.pending_handlers()), (EventStatus::Completed, 0));
            let results = &event.results()[forwards..];
            assert_eq!(results.len(), 3);
            for (at, result) in results.iter().enumerate() {
                if outcome == Outcome::EventCap && at == 2 && self.ended_by_the_cap(result) {
                    continue;
                }
                assert!(result.started_at.is_some() && result.completed_at.is_some() && result.attempts == 1);
                if at != 1 || outcome == Outcome::Ok {
                    assert_eq!((result.status, result.value), (ResultStatus::Completed, Some(10 * event.n + at)));
                    continue;
                }
                assert_eq!((result.status, result.value), (ResultStatus::Error, None));
                match (outcome, result.error.as_deref()) {
                    (Outcome::Error, Some(HandlerFailure::Failed(error))) => assert_eq!(error.to_string(), "boom"),
                    (Outcome::Panic, Some(HandlerFailure::Panicked(text))) => assert_eq!(text, "ouch"),
                    (Outcome::Timeout, Some(HandlerFailure::TimedOut { after, .. })) => assert_eq!(*after, CAP),
                    (Outcome::EventCap, Some(HandlerFailure::Aborted { cause })) => {
                        assert_eq!((cause.kind, cause.event), (CauseKind::EventTimeout, event.id()));
                    }
                    (_, other) => panic!("{other:?}"),
                }
            }
            let failures = event.errors().len() - usize::from(self.ended_by_the_cap(&results[2]));
            assert_eq!(failures, usize::from(outcome != Outcome::Ok));
        }
    }

    /// The last handler did not start: its turn never came. Parallel ones have no turn, and mostly run.
    fn ended_by_the_cap(&self, last: &HandlerResult<usize>) -> bool {
        if self.cell.outcome != Outcome::EventCap {
            return false;
        }
        let ended = matches!(last.error.as_deref(), Some(HandlerFailure::Cancelled { .. }));
        assert!(self.cell.handlers == Handlers::Parallel || ended && last.started_at.is_none());
        ended
    }

    fn check_order(&self) {
        let Cell { events, handlers, way, .. } = self.cell;
        let log = &self.log;
        let starts: Vec<_> = log.entries().into_iter().filter(|entry| entry.contains('.')).collect();
        let capped = self.cell.outcome == Outcome::EventCap;
        let once = starts.iter().collect::<HashSet<_>>().len() == starts.len();
        assert!(once && (capped || starts.len() == 3 * EVENTS), "every handler once: {starts:?}");
        let each = if capped { 2 } else { 3 };
        let one_by_one = events != Events::Parallel || way == Way::Jump;
        let in_turn = handlers != Handlers::Parallel;
        if one_by_one && in_turn {
            let expected: Vec<_> = (0..EVENTS).flat_map(|n| (0..each).map(move |at| format!("{n}.{at}"))).collect();
            assert_eq!(starts, expected);
        } else if one_by_one {
            let event_of = |start: &String| start.split('.').next().map(str::to_owned);
            assert!(starts.iter().map(event_of).is_sorted(), "{starts:?}");
        }
        for n in 0..EVENTS {
            let own: Vec<_> = starts.iter().filter(|start| start.starts_with(&format!("{n}."))).collect();
            assert!(!in_turn || own.is_sorted(), "{own:?}");
            assert!(!in_turn || self.inside[1 + n].peak() == 1);
        }
        if matches!(handlers, Handlers::GlobalSerial | Handlers::BusSerial) || one_by_one && in_turn {
            assert_eq!(self.inside[0].peak(), 1);
        }
        if way == Way::Jump {
            common::in_order(log, &["waited 0", "waited 1", "waited 2", "outer_end"]);
            if events != Events::Parallel {
                common::in_order(log, &["outer_end", "bystander"]);
            }
        }
    }

    /// Nothing runs, nothing is held, and nobody is left behind.
    fn check_rest(&self) {
        idle(&self.bus);
        assert!(self.bus.is_idle() && self.bus.pending() == 0 && !self.gate.is_open());
        self.follow_up();
        self.gate.open();
        eventually(|| self.runtime.stats().abandoned == 0);
        eventually(|| self.runtime.stats().busy == 0 && self.runtime.stats().waiting == 0);
        self.follow_up();
    }

    /// One on this bus, and one that needs all global permits.
    fn follow_up(&self) {
        let global = Cell { events: Events::GlobalSerial, handlers: Handlers::GlobalSerial, ..self.cell };
        for bus in [self.bus.clone(), bus(&self.runtime, "Global", global)] {
            let log = Log::new();
            let info = bus.on({
                let log = log.clone();
                move |_: &Event<FollowUp>| log.push("ran")
            });
            clean(&bus.emit(FollowUp));
            assert_eq!(log.entries(), ["ran"]);
            bus.off(&info);
            idle(&bus);
        }
    }
}

fn bus(runtime: &Runtime, name: &str, cell: Cell) -> EventBus {
    let builder = EventBus::builder(name).event_concurrency(cell.events).handler_concurrency(cell.handlers);
    builder.handler_timeout(None).runtime(runtime).build().expect("a bus")
}

/// What `results()` shows as not ended.
trait Pending {
    fn pending_handlers(&self) -> usize;
}

impl Pending for Event<Subject> {
    fn pending_handlers(&self) -> usize {
        let open = |r: &HandlerResult<usize>| matches!(r.status, ResultStatus::Pending | ResultStatus::Started);
        self.results().iter().filter(|result| open(result)).count()
    }
}

/// All handler modes and outcomes for one event mode and one way.
fn row(events: Events, way: Way) {
    let runtime = Runtime::builder().thread_name("matrix").keep_alive(CAP).build().expect("a runtime");
    for handlers in [Handlers::GlobalSerial, Handlers::BusSerial, Handlers::EventSerial, Handlers::Parallel] {
        for outcome in [Outcome::Ok, Outcome::Error, Outcome::Panic, Outcome::Timeout, Outcome::EventCap] {
            let cell = Cell { events, handlers, outcome, way };
            // Says which cell it was, when a check fails.
            let name = Named(cell);
            let run = Run::new(&runtime, cell);
            let _opener = run.gate.opener();
            run.register();
            let (events, forwards) = run.subjects();
            run.check_states(&events, forwards);
            run.check_order();
            run.check_rest();
            drop(name);
        }
    }
    eventually(|| runtime.buses().is_empty());
    eventually(|| runtime.stats().threads == 0);
}

struct Named(Cell);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in {:?}", self.0);
        }
    }
}

#[test]
fn matrix_global_serial_plain() {
    row(Events::GlobalSerial, Way::Plain);
}

#[test]
fn matrix_global_serial_jump() {
    row(Events::GlobalSerial, Way::Jump);
}

#[test]
fn matrix_global_serial_forwarded() {
    row(Events::GlobalSerial, Way::Forwarded);
}

#[test]
fn matrix_bus_serial_plain() {
    row(Events::BusSerial, Way::Plain);
}

#[test]
fn matrix_bus_serial_jump() {
    row(Events::BusSerial, Way::Jump);
}

#[test]
fn matrix_bus_serial_forwarded() {
    row(Events::BusSerial, Way::Forwarded);
}

#[test]
fn matrix_parallel_plain() {
    row(Events::Parallel, Way::Plain);
}

#[test]
fn matrix_parallel_jump() {
    row(Events::Parallel, Way::Jump);
}

#[test]
fn matrix_parallel_forwarded() {
    row(Events::Parallel, Way::Forwarded);
}
