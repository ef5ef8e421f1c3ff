//! Lines: of a limit, of a type's handlers, of commands.

use crate::measure::{elapsed_each, own_time_each, processor_time_each};
use crate::row::{Row, point};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use threadbus::{
    BusBuilder, Event, EventBus, EventConcurrency, HandlerConcurrency, HandlerError, HandlerInfo, HandlerOptions,
    Limit, Payload, Shutdown,
};

pub static ROWS: &[Row] = &[
    Row::new(
        "line",
        "a no-op under Limit::new(1), from its emit into a long line to its end",
        &[
            point("500", || through_a_line(500)),
            point("20,000", || through_a_line(20_000)),
            point("100,000", || through_a_line(100_000)),
        ],
    )
    .times(2.0)
    .at_most(4000.0),
    Row::new(
        "line at full speed",
        "the same where nothing holds up the first",
        &[point("500", || at_full_speed(500)), point("16,000", || at_full_speed(16_000))],
    )
    .times(2.0)
    .at_most(4000.0),
    Row::new(
        "line threads",
        "threads that a line before two places has started",
        &[point("500", || threads_of_a_line(500)), point("16,000", || threads_of_a_line(16_000))],
    )
    .counted()
    .at_most(12.0),
    Row::new(
        "line cancel",
        "cancel of what stands in a line, the last one first",
        &[point("500", || ends(500, cancel)), point("20,000", || ends(20_000, cancel))],
    )
    .times(2.0),
    Row::new(
        "line off",
        "the handler of all that stands in a line is taken off, for each",
        &[point("500", || ends(500, take_off)), point("20,000", || ends(20_000, take_off))],
    )
    .times(2.0),
    Row::new(
        "line shutdown",
        "a shutdown ends what stands in a line, for each",
        &[point("2,000", || ends(2000, shut_down)), point("20,000", || ends(20_000, shut_down))],
    )
    .times(2.0),
    Row::new(
        "off",
        "off of one of many handlers of a type, one after the other from the middle on",
        &[point("1,000", || off(1000)), point("20,000", || off(20_000))],
    )
    .times(2.0),
    #[cfg(unix)]
    Row::new(
        "commands",
        "one of 2,500 commands after one, four at once: by xargs, then by handlers that wait, and by handlers under a limit",
        &[
            point("xargs -P 4", xargs),
            point("waiting", || commands(After::Waiting)),
            point("emitted", || commands(After::Emitted)),
        ],
    )
    .times(1.1)
    .runs(2),
];

struct Step;
impl Payload for Step {
    type Output = ();
}
struct Blocker;
impl Payload for Blocker {
    type Output = ();
}

fn parallel(name: &str) -> BusBuilder {
    EventBus::builder(name)
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::Parallel)
        .max_history(Some(100))
}

fn limited(limit: &Limit) -> HandlerOptions {
    HandlerOptions::new().limit(limit.clone())
}

/// A bus with one place, which is taken until the sender goes, and a no-op that needs it.
fn held() -> (EventBus, HandlerInfo, mpsc::Sender<()>) {
    let bus = parallel("Line").build().expect("a bus");
    let limit = Limit::new(1);
    let (open, gate) = mpsc::channel();
    let (gate, began) = (Mutex::new(gate), Arc::new(AtomicBool::new(false)));
    let begins = Arc::clone(&began);
    bus.on_with(limited(&limit), move |_: &Event<Blocker>| {
        begins.store(true, Ordering::SeqCst);
        let _ = gate.lock().map(|gate| gate.recv());
    });
    let handler = bus.on_with(limited(&limit), |_: &Event<Step>| {});
    bus.emit(Blocker);
    while !began.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
    (bus, handler, open)
}

fn through_a_line(events: usize) -> f64 {
    let (bus, _, open) = held();
    processor_time_each(events, || {
        (0..events).for_each(|_| drop(bus.emit(Step)));
        // As often as a program that watches it would look.
        while bus.pending() > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(open);
        bus.wait_until_idle().expect("outside of handlers");
    })
}

fn at_full_speed(events: usize) -> f64 {
    let bus = parallel("Line").build().expect("a bus");
    bus.on_with(limited(&Limit::new(1)), |_: &Event<Step>| {});
    processor_time_each(events, || {
        (0..events).for_each(|_| drop(bus.emit(Step)));
        bus.wait_until_idle().expect("outside of handlers");
    })
}

fn threads_of_a_line(events: usize) -> f64 {
    let runtime = threadbus::Runtime::builder().build().expect("a runtime");
    let bus = parallel("Line").runtime(&runtime).build().expect("a bus");
    bus.on_with(limited(&Limit::new(2)), |_: &Event<Step>| {});
    (0..events).for_each(|_| drop(bus.emit(Step)));
    bus.wait_until_idle().expect("outside of handlers");
    runtime.stats().peak_threads as f64
}

/// The end of all that stand in a line, for each, by all threads.
fn ends(events: usize, end: fn(&EventBus, &HandlerInfo, &[Event<Step>])) -> f64 {
    let (bus, handler, open) = held();
    let all: Vec<Event<Step>> = (0..events).map(|_| bus.emit(Step)).collect();
    while bus.pending() > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let time = processor_time_each(events, || {
        end(&bus, &handler, &all);
        assert!(all.iter().all(Event::is_completed));
    });
    drop(open);
    bus.shutdown(Shutdown::Now, Duration::from_secs(10));
    time
}

fn cancel(_: &EventBus, _: &HandlerInfo, all: &[Event<Step>]) {
    all.iter().rev().for_each(|event| assert!(event.cancel()));
}

fn take_off(bus: &EventBus, handler: &HandlerInfo, _: &[Event<Step>]) {
    assert!(bus.off(handler));
}

fn shut_down(bus: &EventBus, _: &HandlerInfo, _: &[Event<Step>]) {
    bus.shutdown(Shutdown::Now, Duration::ZERO);
}

/// From the middle on, as a program does that lets go of a part of itself. What those leave is the same however many there are.
fn off(handlers: usize) -> f64 {
    const TAKEN: usize = 500;
    let bus = EventBus::new("Off");
    let infos: Vec<HandlerInfo> = (0..handlers).map(|_| bus.on(|_: &Event<Step>| {})).collect();
    let middle = &infos[handlers / 2..][..TAKEN];
    own_time_each(TAKEN, || middle.iter().for_each(|handler| assert!(bus.off(handler))))
}

const COMMANDS: usize = 2500;

fn command() -> Command {
    let mut command = Command::new("true");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn xargs() -> f64 {
    elapsed_each(COMMANDS, || {
        let line = format!("true && seq {COMMANDS} | xargs -P 4 -n 1 true");
        assert!(Command::new("sh").args(["-c", &line]).status().is_ok_and(|status| status.success()));
    })
}

struct First;
impl Payload for First {
    type Output = ();
}
/// A command that runs after the first one.
struct Task(Event<First>);
impl Payload for Task {
    type Output = ();
}
struct Run;
impl Payload for Run {
    type Output = ();
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    /// Each has a handler that waits for the first, emits its command, and waits for that.
    Waiting,
    /// The first one's handler emits all.
    Emitted,
}

fn commands(after: After) -> f64 {
    let bus = parallel("Tasks").build().expect("a bus");
    bus.on_with(limited(&Limit::new(4)), |_: &Event<Run>| -> Result<(), HandlerError> {
        command().status()?;
        Ok(())
    });
    bus.on(move |first: &Event<First>| -> Result<(), HandlerError> {
        command().status()?;
        if after == After::Emitted {
            (0..COMMANDS).for_each(|_| drop(first.bus().emit(Run)));
        }
        Ok(())
    });
    bus.on(|task: &Event<Task>| -> Result<(), HandlerError> {
        task.0.wait()?;
        task.bus().emit(Run).wait()?;
        Ok(())
    });
    elapsed_each(COMMANDS, || {
        let first = bus.emit(First);
        if after == After::Waiting {
            (0..COMMANDS).for_each(|_| drop(bus.emit(Task(first.clone()))));
        }
        bus.wait_until_idle().expect("outside of handlers");
        assert_eq!(bus.metrics().failed, 0);
    })
}
