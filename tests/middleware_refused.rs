//! Middlewares that were asked about an event hear how it ended: `on_refused`, and panics in `on_emit`.

mod common;

use common::{PATIENCE, done, eventually, idle, lock, payload, warnings_naming, within};
use std::sync::{Arc, Mutex};
use std::thread;
use threadbus::{
    AnyEvent, BoxError, BusBuilder, EmitError, EventBus, EventId, EventOptions, EventStatus, HistoryPolicy, Middleware,
    OnFull, Shutdown, WaitError,
};

payload!(Job { n: usize });
payload!(Note);

/// What it was told of each event, in order.
#[derive(Clone, Debug, Default)]
struct Ledger(Arc<Mutex<Vec<(EventId, String)>>>);

impl Ledger {
    fn push(&self, event: &AnyEvent, what: impl Into<String>) {
        lock(&self.0).push((event.id(), what.into()));
    }
    /// Of everything, without the ids.
    fn told(&self) -> Vec<String> {
        lock(&self.0).iter().map(|(_, what)| what.clone()).collect()
    }
    fn clear(&self) {
        lock(&self.0).clear();
    }
    /// Each that was asked about came or was refused, and once.
    #[track_caller]
    fn adds_up(&self) -> (usize, usize) {
        let mut fates = std::collections::BTreeMap::<EventId, Vec<String>>::new();
        lock(&self.0).iter().for_each(|(id, what)| fates.entry(*id).or_default().push(what.clone()));
        let came = fates.values().filter(|fate| fate[..] == ["asked", "came"]).count();
        let refused = fates.values().filter(|fate| fate.len() == 2 && fate[1].starts_with("refused")).count();
        assert_eq!(came + refused, fates.len(), "{fates:?}");
        (came, refused)
    }
}

impl Middleware for Ledger {
    fn on_emit(&self, _: &EventBus, event: &AnyEvent) -> Result<(), BoxError> {
        self.push(event, "asked");
        Ok(())
    }
    fn on_refused(&self, bus: &EventBus, event: &AnyEvent, error: &EmitError) {
        self.push(event, format!("refused: {}", error.to_string().replace(bus.label(), "bus")));
    }
    fn on_event_change(&self, _: &EventBus, event: &AnyEvent, status: EventStatus) {
        if status == EventStatus::Pending {
            self.push(event, "came");
        }
    }
}

/// Refuses what is odd, by an error or a panic.
struct Odd {
    panics: bool,
}
impl Middleware for Odd {
    fn on_emit(&self, _: &EventBus, event: &AnyEvent) -> Result<(), BoxError> {
        match event.payload::<Job>() {
            Some(job) if job.n % 2 == 1 && self.panics => panic!("an odd one: {}", job.n),
            Some(job) if job.n % 2 == 1 => Err("odd".into()),
            _ => Ok(()),
        }
    }
}

fn with_ledger(name: &str) -> (Ledger, BusBuilder) {
    let ledger = Ledger::default();
    (ledger.clone(), EventBus::builder(name).middleware(ledger))
}

#[test]
fn whatever_refuses_it_later_is_told() {
    let id = EventId(uuid::Uuid::from_u128(0x1234_0000_0000_4000_8000_0000_0000_0001));
    let own = EventOptions::new().id(id);
    type Change = fn(BusBuilder) -> BusBuilder;
    let cases: [(&str, Change); 6] = [
        ("queue", |b| b.queue_capacity(1, OnFull::Reject)),
        ("short wait", |b| b.queue_capacity(1, OnFull::BlockFor(std::time::Duration::from_millis(1)))),
        ("history", |b| b.max_history(Some(1)).history_policy(HistoryPolicy::Reject)),
        ("rate", |b| b.max_emit_rate(0.001, 1).queue_capacity(9, OnFull::Reject)),
        ("id", |b| b),
        ("handler", |b| b.require_handler(true)),
    ];
    for (name, change) in cases {
        let (ledger, builder) = with_ledger(name);
        let bus = change(builder).build().unwrap();
        bus.pause();
        let first = bus.try_emit_with(Job { n: 0 }, own.clone());
        let second =
            if name == "id" { bus.try_emit_with(Job { n: 2 }, own.clone()) } else { bus.try_emit(Job { n: 2 }) };
        let told = ledger.told();
        let error = second.unwrap_err().error.to_string().replace(bus.label(), "bus");
        if name == "handler" {
            assert!(first.is_err());
            assert_eq!(told[..2], ["asked".to_owned(), format!("refused: {error}")], "{name}");
        } else {
            assert_eq!(told, ["asked", "came", "asked", &format!("refused: {error}")], "{name}");
        }
        bus.resume();
        idle(&bus);
    }
}

#[test]
fn those_before_the_one_that_refuses_hear_of_it_and_nobody_else() {
    for panics in [false, true] {
        let (before, after) = (Ledger::default(), Ledger::default());
        let builder = EventBus::builder("Between").middleware(before.clone()).middleware(Odd { panics });
        let bus = builder.middleware(after.clone()).build().unwrap();
        let errors = warnings_naming(bus.label());
        let refused = bus.try_emit(Job { n: 7 }).unwrap_err();
        assert_eq!(refused.payload.n, 7);
        let EmitError::Refused { reason, .. } = &refused.error else { panic!("{:?}", refused.error) };
        assert_eq!(reason.contains("an odd one: 7"), panics, "{reason}");
        let text = refused.error.to_string().replace(bus.label(), "bus");
        assert_eq!(before.told(), ["asked".to_owned(), format!("refused: {text}")]);
        assert_eq!(after.told(), [""; 0]);
        assert_eq!(bus.metrics().rejected, 1);
        eventually(|| errors().iter().any(|line| line.contains("panicked in on_emit")) == panics);
        before.clear();
        done(&bus.emit(Job { n: 8 }));
        assert_eq!(
            (before.told(), after.told()),
            (vec!["asked".into(), "came".into()], vec!["asked".into(), "came".into()])
        );
    }
}

#[test]
fn a_panic_in_on_emit_refuses_by_every_way_in() {
    let bus = EventBus::builder("Closed").middleware(Odd { panics: true }).build().unwrap();
    let source = EventBus::new("Source");
    bus.on_any(|_: &AnyEvent| {});
    let refused =
        |error: &EmitError| matches!(error, EmitError::Refused { reason, .. } if reason.contains("an odd one"));
    let event = bus.emit(Job { n: 1 });
    assert!(matches!(event.wait(), Err(WaitError::Rejected(error)) if refused(&error)));
    assert!(matches!(bus.emit_now(Job { n: 1 }).wait(), Err(WaitError::Rejected(error)) if refused(&error)));
    assert!(refused(&bus.forward(done(&source.emit(Job { n: 1 }))).unwrap_err()));
    let batch = bus.batch();
    batch.extend((0..4).map(|n| Job { n }));
    assert_eq!(batch.wait_timeout(PATIENCE).map(|p| (p.never_ran, p.total)), Ok((2, 4)));
    assert!(bus.history().iter().all(|event| event.payload::<Job>().is_some_and(|job| job.n % 2 == 0)));
    // An error whose text panics refuses as well.
    struct Unsaid;
    impl std::fmt::Display for Unsaid {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("no words")
        }
    }
    impl std::fmt::Debug for Unsaid {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Unsaid")
        }
    }
    impl std::error::Error for Unsaid {}
    struct Speechless;
    impl Middleware for Speechless {
        fn on_emit(&self, _: &EventBus, _: &AnyEvent) -> Result<(), BoxError> {
            Err(Box::new(Unsaid))
        }
    }
    let bus = EventBus::builder("Speechless").middleware(Speechless).build().unwrap();
    assert!(bus.try_emit(Note).unwrap_err().error.to_string().contains("no words"));
}

#[test]
fn a_forward_that_is_refused_is_told_where_it_was_asked() {
    let source = EventBus::new("From");
    let (ledger, builder) = with_ledger("To");
    let target = builder.queue_capacity(1, OnFull::Reject).build().unwrap();
    target.pause();
    let events: Vec<_> = (0..3).map(|n| done(&source.emit(Job { n }))).collect();
    assert!(target.forward(&events[0]).is_ok());
    let error = target.forward(&events[1]).unwrap_err();
    assert!(matches!(error, EmitError::QueueFull { .. }));
    // It is there already: nobody is asked.
    assert!(target.forward(&events[0]).is_ok());
    assert_eq!(ledger.adds_up(), (1, 1));
    target.shutdown(Shutdown::Now, PATIENCE);
    assert!(matches!(target.forward(&events[2]), Err(EmitError::Closed { .. })));
    assert_eq!(ledger.adds_up(), (1, 1), "before anybody was asked");
}

#[test]
fn what_falls_out_of_a_full_queue_came() {
    let (ledger, builder) = with_ledger("Oldest");
    let bus = builder.queue_capacity(1, OnFull::DropOldest).build().unwrap();
    bus.pause();
    (0..5).for_each(|n| drop(bus.emit(Job { n })));
    assert_eq!(ledger.adds_up(), (5, 0));
    bus.resume();
    idle(&bus);
}

#[test]
fn asked_is_came_and_refused_with_many_emitters() {
    within(6 * PATIENCE, || {
        let (first, builder) = with_ledger("Crowd");
        let last = Ledger::default();
        let builder = builder.middleware(Odd { panics: false }).middleware(last.clone());
        let bus = builder.queue_capacity(3, OnFull::Reject).build().unwrap();
        bus.on(|_: &threadbus::Event<Job>| thread::yield_now());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..250).for_each(|n| drop(bus.try_emit(Job { n }))));
            }
        });
        idle(&bus);
        let ((came, refused), (came_last, refused_last)) = (first.adds_up(), last.adds_up());
        assert_eq!((came + refused, came_last + refused_last), (1000, 500));
        assert_eq!((came, refused), (came_last, 500 + refused_last));
        assert_eq!((bus.metrics().emitted, bus.metrics().rejected), (came as u64, refused as u64));
    });
}

#[test]
fn a_call_may_panic_or_emit() {
    struct Noisy;
    impl Middleware for Noisy {
        fn on_refused(&self, bus: &EventBus, event: &AnyEvent, _: &EmitError) {
            if event.is::<Job>() {
                // It is not asked about it, nor told if that is refused.
                let _ = bus.try_emit(Job { n: 1 });
                bus.emit(Note);
                assert!(matches!(bus.wait_until_idle(), Err(WaitError::Deadlock(_))));
                panic!("on purpose");
            }
        }
    }
    within(PATIENCE, || {
        let (ledger, builder) = with_ledger("Noisy");
        let bus = builder.middleware(Noisy).middleware(Odd { panics: false }).build().unwrap();
        let errors = warnings_naming(bus.label());
        assert!(bus.try_emit(Job { n: 1 }).is_err());
        idle(&bus);
        assert_eq!(ledger.adds_up(), (1, 2));
        eventually(|| errors().iter().filter(|line| line.contains("panicked in on_refused")).count() == 1);
        assert_eq!(bus.history().len(), 1);
    });
}
