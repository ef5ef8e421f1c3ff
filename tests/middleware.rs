//! conformance/bus.md, section MW: middlewares.

mod common;
#[path = "common/recorder.rs"]
mod recorder;

use common::{Gate, Log, PATIENCE, done, idle, lock, payload};
use recorder::{Recorder, Told};
use std::sync::Mutex;
use std::time::Duration;
use threadbus::{
    AnyEvent, AnyOutput, Event, EventBus, EventConcurrency, EventOptions, EventStatus, HandlerConcurrency,
    HandlerContext, HandlerFailure, HandlerResult, Middleware, ResultStatus, middleware::LogEvents,
};

payload!(Job => String);
payload!(Tick { n: usize });

const EVENT: [EventStatus; 3] = [EventStatus::Pending, EventStatus::Started, EventStatus::Completed];
const SUCCESS: [ResultStatus; 3] = [ResultStatus::Pending, ResultStatus::Started, ResultStatus::Completed];
const FAILURE: [ResultStatus; 3] = [ResultStatus::Pending, ResultStatus::Started, ResultStatus::Error];

#[test]
fn mw_003_a_bus_tells_of_its_own_handlers() {
    let (of_a, a) = Recorder::on("a");
    let (of_b, b) = Recorder::on("b");
    let (a, b) = (a.build().unwrap(), b.build().unwrap());
    let on_b = b.on(|_: &Event<Job>| String::from("b"));
    let target = b.clone();
    let on_a = a.on(move |job: &Event<Job>| target.forward(job).map(|()| String::from("a")));

    let job = done(&a.emit(Job));
    assert_eq!((of_a.of_handler(&job, &on_a), of_a.of_handler(&job, &on_b)), (SUCCESS.into(), vec![]));
    assert_eq!((of_b.of_handler(&job, &on_b), of_b.of_handler(&job, &on_a)), (SUCCESS.into(), vec![]));
    assert_eq!((of_a.statuses(&job), of_b.statuses(&job)), (EVENT.into(), EVENT.into()));
    assert_eq!((of_a.emits(), of_b.emits()), (1, 1));
    of_a.check();
    of_b.check();
}

#[test]
fn mw_004_an_event_without_handlers() {
    let (recorder, bus) = Recorder::on("nobody");
    let bus = bus.build().unwrap();
    let job = done(&bus.emit(Job));
    assert_eq!(recorder.statuses(&job), EVENT);
    assert!(recorder.results(&job).is_empty());
}

#[test]
fn mw_005_every_event_of_many_batches() {
    let (recorder, bus) = Recorder::on("batches");
    let bus = bus.event_concurrency(EventConcurrency::Parallel).handler_concurrency(HandlerConcurrency::Parallel);
    let bus = bus.build().unwrap();
    bus.on(|_: &Event<Tick>| {});
    for _ in 0..5 {
        let ticks: Vec<_> = (0..50).map(|n| bus.emit(Tick { n })).collect();
        for tick in &ticks {
            assert_eq!(recorder.statuses(done(tick)), EVENT);
        }
    }
    assert_eq!(recorder.events().len(), 250);
    recorder.check();
}

/// Two parallel handlers that overstay a cap of the event, and come back when the gate opens.
fn overstaying(name: &str) -> (Recorder, EventBus, Gate, Event<Job>) {
    let (recorder, bus) = Recorder::on(name);
    let bus = bus.handler_concurrency(HandlerConcurrency::Parallel).build().unwrap();
    let gate = Gate::new();
    for _ in 0..2 {
        let gate = gate.clone();
        bus.on(move |_: &Event<Job>| {
            gate.wait();
            String::from("late")
        });
    }
    let job = bus.emit_with(Job, EventOptions::new().timeout(Duration::from_millis(500)));
    (recorder, bus, gate, job)
}

#[test]
fn mw_006_nothing_starts_after_it_has_ended() {
    let (recorder, bus, gate, job) = overstaying("monotonic");
    let _open = gate.opener();
    done(&job);
    gate.open();
    idle(&bus);
    for handler in bus.handlers() {
        assert_eq!(recorder.of_handler(&job, &handler), FAILURE);
    }
    recorder.check();
}

#[test]
fn mw_007_a_late_return_changes_nothing() {
    let (recorder, bus, gate, job) = overstaying("hard timeout");
    let _open = gate.opener();
    done(&job);
    let told = || -> Vec<_> {
        let results = recorder.results(&job).into_iter();
        results.map(|r| (r.id, r.status, r.error.map(|error| error.to_string()))).collect()
    };
    let before = told();
    assert!(job.results().iter().all(|result| result.status == ResultStatus::Error));
    gate.open();
    common::eventually(|| bus.metrics().late_results == 2);
    assert_eq!(told(), before);
}

#[test]
fn mw_008_what_a_timeout_makes_of_them() {
    let (recorder, bus) = Recorder::on("taxonomy");
    let bus = bus.build().unwrap();
    let gate = Gate::new();
    let _open = gate.opener();
    for _ in 0..2 {
        let gate = gate.clone();
        bus.on(move |_: &Event<Job>| {
            gate.wait();
            String::new()
        });
    }
    let job = done(&bus.emit_with(Job, EventOptions::new().timeout(Duration::from_millis(500))));
    let ended = |recorder: &Recorder, job: &Event<Job>| -> Vec<_> {
        recorder.results(job).into_iter().filter_map(|result| result.error).collect()
    };
    let serial = ended(&recorder, &job);
    assert!(matches!(*serial[0], HandlerFailure::Aborted { .. }), "{serial:?}");
    assert!(matches!(*serial[1], HandlerFailure::Cancelled { .. }), "{serial:?}");

    let (recorder, _bus, gate, job) = overstaying("taxonomy in parallel");
    let _open = gate.opener();
    let parallel = ended(&recorder, &done(&job));
    assert!(parallel.iter().all(|failure| matches!(**failure, HandlerFailure::Aborted { .. })), "{parallel:?}");

    let (recorder, bus) = Recorder::on("wrong type");
    let bus = bus.build().unwrap();
    bus.on_named("Job", |_| AnyOutput::new(7));
    let wrong = ended(&recorder, &done(&bus.emit(Job)));
    assert!(matches!(*wrong[0], HandlerFailure::WrongType { .. }), "{wrong:?}");
}

#[test]
fn mw_009_handlers_by_type_by_name_and_wildcard() {
    let (recorder, bus) = Recorder::on("patterns");
    let bus = bus.build().unwrap();
    let handlers = [
        bus.on(|_: &Event<Job>| String::from("class-result")),
        bus.on_named("Job", |_| AnyOutput::new(String::from("string-result"))),
        bus.on_any(|event| AnyOutput::new(format!("wildcard:{}", event.event_type()))),
    ];
    assert_eq!(recorder.handlers(true), ["Job", "Job", "*"]);
    assert!(handlers.iter().all(|handler| handler.bus_label() == bus.label()));

    let job = done(&bus.emit(Job));
    assert_eq!(recorder.statuses(&job), EVENT);
    for handler in &handlers {
        assert_eq!(recorder.of_handler(&job, handler), SUCCESS);
    }
    assert_eq!(job.result_list().unwrap(), ["class-result", "string-result", "wildcard:Job"]);

    assert!(recorder.handlers(false).is_empty());
    assert!(handlers.iter().all(|handler| bus.off(handler)));
    assert_eq!(recorder.handlers(false), ["Job", "Job", "*"]);
    assert!(!bus.off(&handlers[0]));
    assert_eq!(recorder.handlers(false).len(), 3);
}

#[test]
fn mw_010_handlers_of_a_type_that_only_has_a_name() {
    let (recorder, bus) = Recorder::on("ad hoc");
    let bus = bus.build().unwrap();
    let text = |event: &AnyEvent, with: &str| AnyOutput::json(format!("{with}:{}", event.event_type()).into());
    let handlers = [bus.on_named("T", move |e| text(e, "string")), bus.on_any(move |e| text(e, "wildcard"))];
    assert_eq!(recorder.handlers(true), ["T", "*"]);

    let event = common::done(&bus.emit_json(&serde_json::json!({ "event_type": "T" })).unwrap());
    assert_eq!((recorder.statuses(&event), recorder.emits()), (EVENT.into(), 1));
    for handler in &handlers {
        assert_eq!(recorder.of_handler(&event, handler), SUCCESS);
    }
    let values: Vec<_> = event.results().into_iter().filter_map(|r| r.value?.to_json().ok()).collect();
    assert_eq!(values, ["string:T", "wildcard:T"]);

    assert_eq!(bus.off_named("T") + bus.off_named("*"), 2);
    assert_eq!(recorder.handlers(false), ["T", "*"]);
}

#[test]
fn mw_011_a_handler_that_succeeds() {
    let (recorder, bus) = Recorder::on("success");
    let bus = bus.build().unwrap();
    let seen = recorder.clone();
    bus.on(move |job: &Event<Job>| {
        // Its start was told before it started.
        let told = seen.results(job);
        format!("{:?}", told.last().map(|result| result.status))
    });
    let job = done(&bus.emit(Job));
    assert_eq!(job.result().unwrap(), "Some(Started)");
    let results = recorder.results(&job);
    let [_, started, completed] = &results[..] else { panic!("{results:?}") };
    assert!(started.started_at.is_some() && started.completed_at.is_none() && started.value.is_none());
    assert!(completed.completed_at.is_some());
    assert_eq!(completed.value.as_ref().and_then(|v| v.downcast::<String>()).as_deref(), Some("Some(Started)"));
}

#[test]
fn mw_012_a_handler_that_fails() {
    let (recorder, bus) = Recorder::on("failure");
    let bus = bus.build().unwrap();
    bus.on(|_: &Event<Job>| -> Result<String, &str> { Err("ValueError") });
    let job = done(&bus.emit(Job));
    assert_eq!(recorder.statuses(&job), EVENT);
    let results = recorder.results(&job);
    assert_eq!(results.iter().map(|result| result.status).collect::<Vec<_>>(), FAILURE);
    assert!(results[..2].iter().all(|result| result.error.is_none()));
    assert_eq!(results[2].error.as_ref().map(|error| error.to_string()).as_deref(), Some("ValueError"));
}

#[test]
fn mw_013_an_event_that_times_out() {
    let (recorder, bus) = Recorder::on("timeout lifecycle");
    let bus = bus.build().unwrap();
    let slow = bus.on(|_: &Event<Job>| -> Result<String, threadbus::HandlerError> {
        HandlerContext::current().ok_or("outside")?.sleep(PATIENCE)?;
        Ok(String::new())
    });
    let pending = bus.on(|_: &Event<Job>| String::new());
    let job = done(&bus.emit_with(Job, EventOptions::new().timeout(Duration::from_millis(100))));
    assert_eq!(recorder.statuses(&job), EVENT);
    assert_eq!(recorder.of_handler(&job, &slow), FAILURE);
    assert_eq!(recorder.of_handler(&job, &pending), [ResultStatus::Pending, ResultStatus::Error]);
}

/// The log, for this process.
fn captured() -> &'static Mutex<Vec<(log::Level, String)>> {
    static CAPTURED: Captured = Captured(Mutex::new(Vec::new()));
    struct Captured(Mutex<Vec<(log::Level, String)>>);
    impl log::Log for Captured {
        fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
            metadata.target() == "threadbus::events"
        }
        fn log(&self, record: &log::Record<'_>) {
            if self.enabled(record.metadata()) {
                lock(&self.0).push((record.level(), record.args().to_string()));
            }
        }
        fn flush(&self) {}
    }
    drop(log::set_logger(&CAPTURED));
    log::set_max_level(log::LevelFilter::Trace);
    &CAPTURED.0
}

#[test]
fn mw_026_events_in_the_log() {
    use log::Level::{Debug, Trace, Warn};
    let log = captured();
    let bus = EventBus::builder("logged").middleware(LogEvents::new()).build().unwrap();
    let info = bus.on_with(threadbus::HandlerOptions::new().name("work"), |tick: &Event<Tick>| match tick.n {
        0 => Ok(()),
        _ => Err("no"),
    });
    let (good, bad, none) = (done(&bus.emit(Tick { n: 0 })), done(&bus.emit(Tick { n: 1 })), done(&bus.emit(Job)));
    bus.off(&info);

    let lines = |what: String| -> Vec<_> {
        let lines = lock(log).clone().into_iter().filter(|(_, line)| line.contains(&what));
        lines.map(|(level, line)| (level, line.split(&what).last().unwrap_or_default().to_owned())).collect()
    };
    let (bus, work) = (bus.label(), info.label());
    let expect = |event: &str, expected: &[(log::Level, &str)]| {
        let found = lines(format!("{event} on {bus}: "));
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for ((level, line), (expected_level, part)) in found.iter().zip(expected) {
            assert!(level == expected_level && line.contains(part), "{line} is not {part}");
        }
    };
    let (running, started) = (format!("{work} is to run"), format!("{work} started"));
    let before = [(Debug, "emitted"), (Trace, &*running), (Debug, "started"), (Debug, &*started)];
    let success = format!("{work} succeeded after ");
    expect(&good.to_string(), &[&before[..], &[(Debug, &success), (Debug, "completed after ")]].concat());
    let failure = format!("{work} failed after ");
    expect(&bad.to_string(), &[&before[..], &[(Warn, &failure), (Debug, "1 of 1 handlers failed")]].concat());
    expect(&none.to_string(), &[(Debug, "emitted"), (Debug, "started"), (Debug, "without a handler")]);
    let handlers = lines(format!("{work} for Tick on {bus}: "));
    assert_eq!(handlers, [(Debug, "registered".to_owned()), (Debug, "not registered any more".to_owned())]);
}

#[test]
fn mw_026b_an_end_from_outside_is_a_warning_if_time_was_up_and_no_news_otherwise() {
    use log::Level::{Debug, Warn};
    let log = captured();
    let bus = EventBus::builder("ended").middleware(LogEvents::new()).build().unwrap();
    let gate = Gate::new();
    let _open = gate.opener();
    let stands = gate.clone();
    bus.on(move |_: &Event<Tick>| stands.wait());
    let late = done(&bus.emit_with(Tick { n: 0 }, EventOptions::new().timeout(Duration::from_millis(20))));
    let cancelled = bus.emit(Tick { n: 1 });
    common::eventually(|| cancelled.started_at().is_some());
    assert!(cancelled.cancel());
    let level_of = |tick: &Event<Tick>| {
        let start = format!("{} on {}: ", done(tick), bus.label());
        let found = |(_, line): &&(log::Level, String)| line.starts_with(&start) && line.contains(" failed");
        lock(log).iter().find(found).map(|(level, _)| *level)
    };
    assert_eq!((level_of(&late), level_of(&cancelled)), (Some(Warn), Some(Debug)));
}

#[test]
fn core_048_a_bus_that_is_let_go_of_still_tells() {
    /// Says how long it lived.
    struct Last(Gate, Log);
    impl Middleware for Last {
        fn on_event_change(&self, bus: &EventBus, _: &AnyEvent, status: EventStatus) {
            self.1.push(format_args!("{} {status:?}", bus.name()));
        }
        fn on_result_change(&self, bus: &EventBus, _: &AnyEvent, _: &HandlerResult<AnyOutput>) {
            if bus.emit(Tick { n: 0 }).is_completed() {
                self.1.push("refused");
            }
        }
    }
    impl Drop for Last {
        fn drop(&mut self) {
            self.0.open();
        }
    }
    let (gone, log) = (Gate::new(), Log::new());
    let bus = EventBus::builder("b").middleware(Last(gone.clone(), log.clone())).build().unwrap();
    bus.pause();
    bus.on(|_: &Event<Job>| String::new());
    let job = bus.emit(Job);
    drop(bus);
    // The event lives on, and keeps neither bus nor middleware.
    gone.wait();
    assert_eq!(log.entries(), ["b Pending", "refused", "b Started", "refused", "refused", "b Completed"]);
    assert!(job.wait_timeout(PATIENCE).is_ok());
}

#[test]
fn each_call_has_its_bus_and_its_event() {
    let (recorder, bus) = Recorder::on("calls");
    let bus = bus.build().unwrap();
    bus.on(|_: &Event<Job>| String::new());
    let job = done(&bus.emit(Job));
    let calls: Vec<_> = recorder
        .all()
        .iter()
        .map(|told| match told {
            Told::Emit(_) => "emit".to_owned(),
            Told::Event(_, status) => format!("event {status:?}"),
            Told::Result(_, result) => format!("result {:?}", result.status),
            Told::Handler(_, registered) => format!("handler {registered}"),
        })
        .collect();
    assert_eq!(
        calls,
        [
            "handler true",
            "emit",
            "event Pending",
            "result Pending",
            "event Started",
            "result Started",
            "result Completed",
            "event Completed",
        ]
    );
    assert!(job.is_completed());
}
