//! Warnings, timeouts and deadlocks say what is waited for.

#[macro_use]
mod common;

use common::{Gate, PATIENCE, eventually, idle, warnings_naming, within};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use threadbus::*;

payload!(Outer);
payload!(Inner);
payload!(Holder);
payload!(Never);

const SLOW: Duration = Duration::from_millis(60);

fn builder(name: &str, runtime: &Runtime) -> BusBuilder {
    EventBus::builder(name)
        .runtime(runtime)
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::Parallel)
        .event_slow_after(None)
        .handler_slow_after(None)
}

fn named(name: &str) -> HandlerOptions {
    HandlerOptions::new().name(name)
}

/// A handler holds a limit until the gate opens, one stands in line for it, and one waits for that.
struct Line {
    bus: EventBus,
    go: Gate,
}

impl Line {
    fn new(name: &str, limit: Limit, outer: EventOptions) -> (Line, Event<Outer>) {
        let runtime = Runtime::builder().build().unwrap();
        let bus = builder(name, &runtime).build().unwrap();
        let (entered, go) = (Gate::new(), Gate::new());
        let (inside, gone) = (entered.clone(), go.clone());
        bus.on_with(named("holds").limit(limit.clone()), move |_: &Event<Holder>| {
            inside.open();
            gone.wait();
        });
        bus.on_with(named("inner").limit(limit), |_: &Event<Inner>| {});
        bus.on_with(named("outer"), |outer: &Event<Outer>| outer.bus().emit(Inner).result());
        bus.emit(Holder);
        entered.wait();
        let outer = bus.emit_with(Outer, outer);
        (Line { bus, go }, outer)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.go.open();
    }
}

#[test]
fn a_slow_warning_names_the_limit_and_who_has_it() {
    within(PATIENCE, || {
        let warnings = warnings_naming("TextsSlow");
        let options = EventOptions::new().handler_slow_after(SLOW);
        let (line, outer) = Line::new("TextsSlow", Limit::named("printer", 1), options);
        eventually(|| warnings().iter().any(|w| w.contains("slow handler: outer#")));
        let warning = warnings().into_iter().find(|w| w.contains("slow handler: outer#")).unwrap();
        assert!(warning.contains(", waits for Inner#"), "{warning}");
        assert!(
            warning.contains("whose inner#") && warning.contains("the limit printer (1), which holds#"),
            "{warning}"
        );
        assert!(warning.contains(" on Holder#"), "{warning}");
        line.go.open();
        outer.wait().unwrap();
        idle(&line.bus);
    });
}

#[test]
fn a_timeout_says_what_the_handler_waited_for() {
    within(PATIENCE, || {
        let options = EventOptions::new().handler_timeout(SLOW);
        let (line, outer) = Line::new("TextsTimeout", Limit::new(1), options);
        outer.wait().unwrap();
        let error = outer.errors().pop().unwrap();
        let HandlerFailure::TimedOut { after, detail, .. } = &*error else { panic!("{error}") };
        assert_eq!(*after, SLOW);
        let detail = detail.as_deref().unwrap();
        assert!(detail.starts_with("waits for Inner#") && detail.contains("a limit of 1, which holds#"), "{detail}");
        assert_eq!(error.to_string(), format!("timed out after {SLOW:?}, {detail}"));
        line.go.open();
        idle(&line.bus);
    });
}

/// Whatever it is that a handler is parked for, and nothing where it is not parked.
#[test]
fn each_call_that_waits_is_named() {
    type Parks = fn(&Event<Outer>, &EventBus);
    let ways: [(&str, Parks); 8] = [
        ("waits to find Never on Texts", |outer, _| {
            drop(outer.bus().find::<Never>().past(false).future(PATIENCE).first());
        }),
        ("waits to receive ", |outer, _| drop(outer.bus().subscribe::<Never>().recv())),
        ("sleeps for 10s", |_, _| drop(HandlerContext::current().unwrap().sleep(PATIENCE))),
        ("waits for other#", |_, other| drop(other.wait_until_idle())),
        ("waits for Holder#", |_, other| drop(other.emit(Holder).wait())),
        ("waits for Holder#", |_, other| {
            let batch = other.batch();
            batch.emit(Holder);
            drop(batch.wait());
        }),
        // It runs on the very stack of the one that waits.
        ("waits for Inner#", |outer, _| drop(outer.bus().emit(Inner).wait())),
        ("", |_, _| thread::sleep(3 * SLOW)),
    ];
    for (expected, parks) in ways {
        within(2 * PATIENCE, move || {
            let runtime = Runtime::builder().build().unwrap();
            let bus = builder("Texts", &runtime).build().unwrap();
            let other = builder("other", &runtime).build().unwrap();
            let go = Gate::new();
            let (gone, back) = (go.clone(), other.clone());
            other.on(move |_: &Event<Holder>| gone.wait());
            other.emit(Holder);
            let gone = go.clone();
            bus.on(move |_: &Event<Inner>| gone.wait());
            bus.on(move |outer: &Event<Outer>| parks(outer, &back));
            let outer = bus.emit_with(Outer, EventOptions::new().handler_timeout(SLOW)).wait().unwrap();
            let error = outer.errors().pop().unwrap();
            let HandlerFailure::TimedOut { detail, .. } = &*error else { panic!("{error}") };
            match expected {
                "" => assert_eq!(*detail, None),
                _ => assert!(detail.as_deref().unwrap().starts_with(expected), "{expected}: {detail:?}"),
            }
            go.open();
            idle(&other);
        });
    }
}

#[test]
fn a_retry_of_a_timeout_keeps_what_it_waited_for() {
    within(PATIENCE, || {
        let options = EventOptions::new().handler_timeout(SLOW).retry(Retry::attempts(2));
        let (line, outer) = Line::new("TextsRetry", Limit::named("scanner", 1), options);
        outer.wait().unwrap();
        let error = outer.errors().pop().unwrap();
        assert!(error.to_string().contains("the limit scanner (1)"), "{error}");
        line.go.open();
        idle(&line.bus);
    });
}

/// Each has one limit, and waits for an event of somebody else that needs the other's.
#[test]
fn a_deadlock_over_limits_names_them() {
    within(PATIENCE, || {
        let runtime = Runtime::builder().build().unwrap();
        let bus = builder("TextsDeadlock", &runtime).build().unwrap();
        let (scale, press) = (Limit::named("scale", 1), Limit::named("press", 1));
        let meet = Arc::new(std::sync::Barrier::new(2));
        let foreign: Arc<std::sync::OnceLock<(Event<Inner>, Event<Never>)>> = Arc::default();
        let go = Gate::new();
        let (awaited, met, gone) = (Arc::clone(&foreign), Arc::clone(&meet), go.clone());
        let have_places = Gate::new();
        let begun = have_places.clone();
        bus.on_with(named("weighs").limit(scale.clone()), move |_: &Event<Outer>| {
            met.wait();
            begun.open();
            gone.wait();
            awaited.get().unwrap().0.wait().map(drop)
        });
        let (awaited, gone) = (Arc::clone(&foreign), go.clone());
        bus.on_with(named("presses").limit(press.clone()), move |_: &Event<Holder>| {
            meet.wait();
            gone.wait();
            awaited.get().unwrap().1.wait().map(drop)
        });
        bus.on_with(named("inner").limit(press), |_: &Event<Inner>| {});
        bus.on_with(named("never").limit(scale), |_: &Event<Never>| {});
        let (outer, holder) = (bus.emit(Outer), bus.emit(Holder));
        have_places.wait();
        let _ = foreign.set((bus.emit(Inner), bus.emit(Never)));
        eventually(|| runtime.stats().busy <= 2);
        go.open();
        outer.wait().unwrap();
        holder.wait().unwrap();
        let told: Vec<String> = outer.errors().iter().chain(&holder.errors()).map(ToString::to_string).collect();
        assert!(told.iter().any(|t| t.contains("can never end")), "{told:?}");
        let named = |text: &String| text.contains("the limit scale (1)") || text.contains("the limit press (1)");
        assert!(told.iter().filter(|t| t.contains("can never end")).all(named), "{told:?}");
        idle(&bus);
    });
}

/// Its handlers have ended, and its children have not: nothing of it is on any stack.
#[test]
fn an_event_of_which_only_children_run_is_warned_about_once() {
    for (deep, waits_for) in [(false, "which needs its child Inner#"), (true, "which needs its child Never#")] {
        within(2 * PATIENCE, move || {
            let name = if deep { "TextsChildren2" } else { "TextsChildren1" };
            let warnings = warnings_naming(name);
            let runtime = Runtime::builder().build().unwrap();
            let bus = builder(name, &runtime).build().unwrap();
            let (go, entered) = (Gate::new(), Gate::new());
            let (gone, inside) = (go.clone(), entered.clone());
            bus.on_with(named("stands"), move |_: &Event<Inner>| {
                inside.open();
                gone.wait();
            });
            bus.on(|never: &Event<Never>| drop(never.bus().emit(Inner)));
            bus.on(move |outer: &Event<Outer>| match deep {
                true => drop(outer.bus().emit(Never)),
                false => drop(outer.bus().emit(Inner)),
            });
            let outer = bus.emit_with(Outer, EventOptions::new().slow_after(SLOW));
            // One that is complete in time, and one without a limit of its own.
            bus.emit_with(Never, EventOptions::new());
            entered.wait();
            eventually(|| warnings().iter().any(|w| w.starts_with("slow event: Outer#")));
            let warning = warnings().into_iter().find(|w| w.starts_with("slow event: Outer#")).unwrap();
            assert!(warning.contains("its handlers have ended") && warning.contains(waits_for), "{warning}");
            assert!(warning.contains("which stands#"), "{warning}");
            assert!(!outer.is_completed());
            go.open();
            outer.wait().unwrap();
            idle(&bus);
            assert_eq!(warnings().iter().filter(|w| w.starts_with("slow event")).count(), 1, "{:?}", warnings());
        });
    }
}

#[test]
fn a_handler_error_shows_its_error() {
    let error = HandlerError::from("no paper");
    assert_eq!(error.to_string(), "no paper");
    assert_eq!(format!("{}", HandlerError::permanent("x".parse::<u8>().unwrap_err())), "invalid digit found in string");
    let wait = HandlerError::from(ResultError::Wait(WaitError::Rejected(EmitError::Aborted)));
    assert_eq!(wait.to_string(), "event was rejected: the emitting handler was already abandoned");
}
