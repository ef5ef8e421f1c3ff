//! Conformance, sections FIND and DEB: looking for events in the history and among those to come.

mod common;

use common::{Gate, Log, PATIENCE, done, eventually, idle, linger, payload, stands, warnings_naming, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use threadbus::{
    AnyEvent, EmitError, Event, EventBus, EventOptions, EventStatus, HandlerContext, HandlerError, Payload, Priority,
    Shutdown, WaitError,
};

payload!(Parent);
payload!(Child);
payload!(Grandchild);
payload!(Special);
payload!(System);
payload!(Shot { target: u32 });
payload!(Action { action: &'static str, user: &'static str });
payload!(Tab { url: String });
payload!(Navigate { url: &'static str });

/// Short enough to pass in a test, for finds that are to find nothing.
const SOON: Duration = Duration::from_millis(50);

/// A finder on a thread of its own: the find waits until it finds, or for [`PATIENCE`].
fn finder<R: Send + 'static>(bus: &EventBus, find: impl FnOnce(&EventBus) -> R + Send + 'static) -> JoinHandle<R> {
    let bus = bus.clone();
    thread::spawn(move || find(&bus))
}

/// Emits again and again until the finder has returned: whenever it began to wait, one of them came later.
#[track_caller]
fn emit_until_found<P: Payload, R>(finder: JoinHandle<R>, mut emit: impl FnMut() -> Event<P>) -> R {
    eventually(|| {
        emit();
        finder.is_finished()
    });
    finder.join().unwrap()
}

/// Stands until `event` is older than `age`.
fn grow_old(event: &AnyEvent, age: Duration) {
    let age = chrono::TimeDelta::from_std(age).unwrap();
    eventually(|| chrono::Utc::now().signed_duration_since(event.created_at()) > age);
}

fn shots(bus: &EventBus) -> usize {
    bus.find::<Shot>().all().len()
}

/// Parents emit a child and wait for it; children a grandchild.
fn with_family(name: &str) -> EventBus {
    let bus = EventBus::new(name);
    bus.on(|event: &Event<Parent>| -> Result<(), WaitError> { event.bus().emit(Child).wait().map(drop) });
    bus.on(|event: &Event<Child>| -> Result<(), WaitError> { event.bus().emit(Grandchild).wait().map(drop) });
    bus
}

#[test]
fn find_001_the_newest_past_match_wins() {
    let bus = EventBus::new("Newest");
    done(&bus.emit(Parent));
    let second = done(&bus.emit(Parent));
    assert_eq!(bus.find::<Parent>().past(true).first().unwrap().id(), second.id());
}

#[test]
fn find_001b_all_are_there_newest_first_however_many() {
    let bus = EventBus::builder("All").max_history(None).build().unwrap();
    for target in 0..3000 {
        bus.emit(Shot { target });
        bus.emit(Special);
    }
    let all: Vec<_> = bus.find::<Shot>().all().into_iter().map(|shot| shot.target).collect();
    assert_eq!(all, (0..3000).rev().collect::<Vec<_>>());
    assert_eq!(bus.find::<Shot>().filter(|shot| shot.target == 1).first().unwrap().target, 1);
    assert_eq!(bus.find_named("*").all().len(), 6000);
}

#[test]
fn find_002_an_empty_history_has_nothing() {
    assert!(EventBus::new("Empty").find::<Parent>().past(true).first().is_none());
}

#[test]
fn find_003_each_bus_finds_its_own() {
    let (a, b) = (EventBus::new("A"), EventBus::new("B"));
    let event = done(&b.emit(Parent));
    assert!(a.find::<Parent>().first().is_none());
    assert_eq!(b.find::<Parent>().first().unwrap().id(), event.id());
}

#[test]
fn find_004_what_is_found_knows_its_path() {
    let bus = EventBus::new("Path");
    done(&bus.emit(Parent));
    assert_eq!(bus.find::<Parent>().first().unwrap().path(), [bus.label()]);
}

#[test]
fn find_005_a_window_holds_the_newer_one() {
    let bus = EventBus::new("Window");
    let window = Duration::from_millis(300);
    let old = done(&bus.emit(Shot { target: 1 }));
    grow_old(old.as_ref(), window);
    // On a very busy machine a fresh one may have grown old before it is looked for: the next one then.
    eventually(|| {
        let new = bus.emit(Shot { target: 2 });
        let found = bus.find::<Shot>().past_within(window).first();
        assert!(found.as_ref().is_none_or(|found| found.target == 2));
        found.is_some_and(|found| found.id() == new.id())
    });
}

#[test]
fn find_006_an_event_leaves_the_window() {
    let bus = EventBus::new("Leaves");
    let event = done(&bus.emit(Parent));
    grow_old(event.as_ref(), SOON);
    assert!(bus.find::<Parent>().past_within(SOON).first().is_none());
    assert!(bus.find::<Parent>().first().is_some());
}

/// Whatever its date says: an event counts from when the bus took it.
#[test]
fn find_007_a_window_counts_from_the_arrival() {
    for date in ["2999-01-01T00:00:00Z", "1999-01-01T00:00:00Z", "1600-01-01T00:00:00Z"] {
        let bus = EventBus::new("Dated");
        let json = serde_json::json!({ "event_type": "Refresh", "event_created_at": date });
        let event = bus.emit_json(&json).unwrap();
        idle(&bus);
        assert!(
            bus.find_named("Refresh").past_within(PATIENCE).first().is_some_and(|found| found.id() == event.id()),
            "{date}"
        );
        eventually(|| bus.find_named("Refresh").past_within(SOON).first().is_none());
        let found = bus.find_named("Refresh").first().expect("without a window");
        assert_eq!(found.created_at().to_rfc3339()[..4], date[..4]);
    }
}

/// Not from when another bus took it.
#[test]
fn find_007b_a_forwarded_event_counts_from_the_forward() {
    let (source, target) = (EventBus::new("Source"), EventBus::new("Target"));
    let event = source.emit(Parent);
    done(&event);
    eventually(|| source.find::<Parent>().past_within(SOON).first().is_none());
    target.forward(&event).unwrap();
    idle(&target);
    assert!(target.find::<Parent>().past_within(PATIENCE).first().is_some());
    assert!(source.find::<Parent>().past_within(SOON).first().is_none());
    eventually(|| target.find::<Parent>().past_within(SOON).first().is_none());
}

/// Trees and durations, too.
#[test]
fn a_foreign_date_lengthens_nothing() {
    for date in ["2999-01-01T00:00:00Z", "1999-01-01T00:00:00Z"] {
        let bus = EventBus::new("Dated");
        bus.on_named("Refresh", |_: &AnyEvent| ());
        let json = serde_json::json!({ "event_type": "Refresh", "event_created_at": date });
        let event = bus.emit_json(&json).unwrap();
        idle(&bus);
        assert!(event.created_at().to_rfc3339().starts_with(&date[..4]));
        assert!(bus.metrics().queue_time.max < PATIENCE && bus.metrics().handler_time.max < PATIENCE);
        let tree = bus.log_tree();
        let first = tree.lines().find(|line| line.contains("Refresh")).unwrap();
        assert!(first.contains("00:00:00.000 ("), "{tree}");
        assert!(first.contains("ms)") || first.contains("µs)") || first.contains("ns)"), "{tree}");
    }
}

#[test]
fn find_008_a_later_event_is_found() {
    let bus = EventBus::new("Later");
    let finder = finder(&bus, |bus| bus.find::<Shot>().past(false).future(PATIENCE).first());
    let mut target = 0;
    let found = emit_until_found(finder, || {
        target += 1;
        bus.emit(Shot { target })
    });
    assert!(found.is_some());
}

#[test]
fn find_009_a_history_of_nothing_does_not_keep_finds_from_waiting() {
    let bus = EventBus::builder("Zero").max_history(Some(0)).build().unwrap();
    let finder = finder(&bus, |bus| bus.find::<Parent>().past(false).future(PATIENCE).first());
    let found = done(&emit_until_found(finder, || bus.emit(Parent)).unwrap());
    idle(&bus);
    assert!(bus.event(found.id()).is_none());
    assert!(bus.find::<Parent>().first().is_none());
}

#[test]
fn find_010_by_name() {
    let bus = EventBus::new("Named");
    let finder = finder(&bus, |bus| bus.find_named("Parent").past(false).future(PATIENCE).first());
    let found = emit_until_found(finder, || {
        bus.emit(Child);
        bus.emit(Parent)
    });
    assert!(found.unwrap().is::<Parent>());
}

#[test]
fn find_012_what_is_past_is_not_future() {
    let bus = EventBus::new("NotFuture");
    done(&bus.emit(Parent));
    assert!(bus.find::<Parent>().past(false).future(SOON).first().is_none());
}

#[test]
fn find_013_nor_is_what_is_running() {
    let bus = EventBus::new("InFlight");
    let gate = Gate::new();
    let _open = gate.opener();
    let stands = gate.clone();
    bus.on(move |_: &Event<Parent>| stands.wait());
    let event = bus.emit(Parent);
    assert!(bus.find::<Parent>().past(false).future(SOON).first().is_none());
    assert!(!event.is_completed());
}

#[test]
fn find_014_nothing_comes() {
    assert!(EventBus::new("Nothing").find::<Parent>().future(SOON).first().is_none());
}

#[test]
fn find_015_neither_past_nor_future() {
    let bus = EventBus::new("Neither");
    done(&bus.emit(Parent));
    assert!(bus.find::<Parent>().past(false).first().is_none());
    assert!(bus.find::<Parent>().past(false).future(Duration::ZERO).first().is_none());
    assert!(bus.find::<Parent>().past(false).all().is_empty());
}

#[test]
fn find_016_by_default_the_past_and_no_waiting() {
    let bus = EventBus::new("Defaults");
    assert!(bus.find::<Parent>().first().is_none());
    let event = bus.emit(Parent);
    assert_eq!(bus.find::<Parent>().first().unwrap().id(), event.id());
}

#[test]
fn find_017_a_past_match_needs_no_waiting() {
    let bus = EventBus::new("Both");
    let event = done(&bus.emit(Parent));
    let found = within(PATIENCE, move || bus.find::<Parent>().past(true).future_forever().first());
    assert_eq!(found.unwrap().id(), event.id());
}

#[test]
fn find_018_without_one_it_waits() {
    let bus = EventBus::new("BothWait");
    let finder = finder(&bus, |bus| bus.find::<Parent>().past(true).future(PATIENCE).first());
    // One emit is enough: it is past or future.
    bus.emit(Parent);
    assert!(finder.join().unwrap().is_some());
}

#[test]
fn find_019_too_old_and_nothing_new() {
    let bus = EventBus::new("TooOld");
    let event = bus.emit(Parent);
    grow_old(event.as_ref(), SOON);
    assert!(bus.find::<Parent>().past_within(SOON).future(SOON).first().is_none());
}

#[test]
fn find_020_without_a_window_nothing_is_too_old() {
    let bus = EventBus::new("NoWindow");
    let event = bus.emit(Parent);
    grow_old(event.as_ref(), SOON);
    assert_eq!(bus.find::<Parent>().past(true).future(PATIENCE).first().unwrap().id(), event.id());
}

#[test]
fn find_021_too_old_and_something_new() {
    let bus = EventBus::new("SomethingNew");
    let old = bus.emit(Parent);
    grow_old(old.as_ref(), SOON);
    let finder = finder(&bus, |bus| bus.find::<Parent>().past_within(SOON).future(PATIENCE).first());
    let found = emit_until_found(finder, || bus.emit(Parent));
    assert_ne!(found.unwrap().id(), old.id());
}

#[test]
fn find_023_both_kinds_of_limit() {
    let bus = EventBus::new("Limits");
    let event = done(&bus.emit(Parent));
    let found = bus.find::<Parent>().past_within(Duration::from_secs(60)).future(PATIENCE).first();
    assert_eq!(found.unwrap().id(), event.id());
}

#[test]
fn find_024_a_filter() {
    let bus = EventBus::new("Filter");
    bus.emit(Shot { target: 1 });
    let b = bus.emit(Shot { target: 2 });
    bus.emit(Shot { target: 3 });
    assert_eq!(bus.find::<Shot>().filter(|shot| shot.target == 2).first().unwrap().id(), b.id());
}

#[test]
fn find_025_by_status() {
    let bus = EventBus::new("Status");
    bus.pause();
    let event = bus.emit(Parent);
    assert_eq!(bus.find::<Parent>().status(EventStatus::Pending).first().unwrap().id(), event.id());
    assert!(bus.find::<Parent>().status(EventStatus::Completed).first().is_none());
    bus.resume();
    done(&event);
    assert_eq!(bus.find::<Parent>().status(EventStatus::Completed).first().unwrap().id(), event.id());
    assert!(bus.find::<Parent>().status(EventStatus::Pending).first().is_none());
}

#[test]
fn find_025b_a_find_that_waits_waits_for_the_completion() {
    let bus = EventBus::new("Completion");
    let finder =
        finder(&bus, |bus| bus.find::<Shot>().past(false).future(PATIENCE).status(EventStatus::Completed).first());
    bus.pause();
    for target in 0..100 {
        bus.emit(Shot { target });
    }
    assert!(!finder.is_finished());
    bus.resume();
    let found = emit_until_found(finder, || bus.emit(Shot { target: 100 }));
    assert_eq!(found.unwrap().status(), EventStatus::Completed);
}

#[test]
fn find_026_by_what_an_event_tells_of_itself() {
    let bus = EventBus::new("Fields");
    let a = bus.emit_with(Parent, EventOptions::new().priority(Priority::LOW));
    bus.emit_with(Parent, EventOptions::new().priority(Priority::HIGH));
    let with =
        |priority| bus.find::<Parent>().filter(|e| e.id() == a.id()).filter(move |e| e.priority() == priority).first();
    assert_eq!(with(Priority::LOW).unwrap().id(), a.id());
    assert!(with(Priority::HIGH).is_none());
}

#[test]
fn find_027_by_the_payload() {
    let bus = EventBus::new("Payload");
    let login = bus.emit(Action { action: "login", user: "U1" });
    bus.emit(Action { action: "login", user: "U2" });
    let with =
        |action: &'static str| bus.find::<Action>().filter(move |e| e.action == action && e.user == "U1").first();
    assert_eq!(with("login").unwrap().id(), login.id());
    assert!(with("signup").is_none());
}

#[test]
fn find_031_each_waiter_gets_its_own() {
    let bus = EventBus::new("Waiters");
    let shot = finder(&bus, |bus| bus.find::<Shot>().future(PATIENCE).first().map(AnyEvent::from));
    let special = finder(&bus, |bus| bus.find::<Special>().future(PATIENCE).first().map(AnyEvent::from));
    let system = finder(&bus, |bus| bus.find_named("System").future(PATIENCE).first());
    let emitted = [bus.emit(Shot { target: 1 }).id(), bus.emit(System).id(), bus.emit(Special).id()];
    let found = [shot, system, special].map(|finder| finder.join().unwrap().unwrap().id());
    assert_eq!(found, emitted);
}

#[test]
fn find_032_children() {
    let bus = with_family("Children");
    let parent = done(&bus.emit(Parent));
    let child = bus.find::<Child>().child_of(&parent).first().unwrap();
    assert_eq!(child.parent_id(), Some(parent.id()));
}

#[test]
fn find_034_and_theirs() {
    let bus = with_family("Grandchildren");
    let parent = done(&bus.emit(Parent));
    let child = bus.find::<Child>().child_of(&parent).first().unwrap();
    let grandchild = bus.find::<Grandchild>().child_of(&parent).first().unwrap();
    assert_eq!(grandchild.parent_id(), Some(child.id()));
    assert!(bus.find::<Parent>().child_of(&parent).first().is_none());
}

#[test]
fn find_035_on_the_bus_that_has_them() {
    let (main, auth) = (EventBus::new("Main"), with_family("Auth"));
    main.forward_all_to(&auth);
    let parent = main.emit(Parent);
    let child = auth.find::<Child>().child_of(&parent).past_within(PATIENCE).future(PATIENCE).first().unwrap();
    assert_eq!(child.parent_id(), Some(parent.id()));
    assert!(main.find::<Child>().child_of(&parent).first().is_none());
    done(&parent);
}

#[test]
fn find_036_of_the_right_parent() {
    let bus = EventBus::new("Tabs");
    bus.on(|event: &Event<Navigate>| drop(event.bus().emit(Tab { url: format!("tab_for_{}", event.url) })));
    let sites = [done(&bus.emit(Navigate { url: "site1" })), done(&bus.emit(Navigate { url: "site2" }))];
    let tabs = sites.map(|site| bus.find::<Tab>().child_of(&site).first().unwrap().url.clone());
    assert_eq!(tabs, ["tab_for_site1", "tab_for_site2"]);
}

#[test]
fn find_038_a_filter_and_a_window() {
    let bus = EventBus::new("FilterWindow");
    let window = Duration::from_millis(300);
    let old = bus.emit(Shot { target: 1 });
    grow_old(old.as_ref(), window);
    let with = |target| bus.find::<Shot>().past_within(window).filter(move |shot| shot.target == target).first();
    eventually(|| {
        bus.emit(Shot { target: 2 });
        with(2).is_some()
    });
    assert!(with(1).is_none());
}

#[test]
fn find_039_children_within_a_window() {
    let bus = with_family("ChildWindow");
    let parent = done(&bus.emit(Parent));
    assert!(bus.find::<Child>().child_of(&parent).past_within(Duration::from_secs(60)).first().is_some());
}

#[test]
fn find_040_all_conditions_at_once() {
    let bus = with_family("Everything");
    let parent = done(&bus.emit(Parent));
    let find = |wanted: bool| {
        let window = Duration::from_secs(60);
        bus.find::<Child>().filter(move |_| wanted).child_of(&parent).past_within(window).future(Duration::ZERO).first()
    };
    assert!(find(true).is_some());
    assert!(find(false).is_none());
}

#[test]
fn find_041_a_running_event_is_past() {
    let bus = EventBus::new("Running");
    let (gate, began) = stands::<Parent>(&bus);
    let _open = gate.opener();
    let event = bus.emit(Parent);
    began.wait();
    let found = bus.find::<Parent>().past(true).first().unwrap();
    assert_eq!((found.id(), found.status()), (event.id(), EventStatus::Started));
}

#[test]
fn find_042_an_event_is_found_as_soon_as_it_is_emitted() {
    let bus = EventBus::new("AtEmit");
    let finder = finder(&bus, |bus| bus.find::<Parent>().past(false).future(PATIENCE).first());
    bus.pause();
    let found = emit_until_found(finder, || bus.emit(Parent)).unwrap();
    assert_eq!(found.status(), EventStatus::Pending);
    bus.resume();
    assert_eq!(done(&found).status(), EventStatus::Completed);
}

#[test]
fn find_044_a_waiting_find_holds_nobody_up() {
    let bus = EventBus::new("Meanwhile");
    let finder = finder(&bus, |bus| bus.find::<Special>().future(PATIENCE).first());
    done(&bus.emit(Parent));
    assert!(!finder.is_finished());
    assert!(emit_until_found(finder, || bus.emit(Special)).is_some());
}

#[test]
fn find_045_the_newest_may_be_running() {
    let bus = EventBus::new("NewestRuns");
    let gate = Gate::new();
    let _open = gate.opener();
    let stands = gate.clone();
    bus.on(move |shot: &Event<Shot>| {
        if shot.target == 2 {
            stands.wait()
        }
    });
    done(&bus.emit(Shot { target: 1 }));
    bus.emit(Shot { target: 2 });
    let found = bus.find::<Shot>().past(true).future(PATIENCE).first().unwrap();
    assert_eq!((found.target, found.is_completed()), (2, false));
}

#[test]
fn find_046_what_is_found_has_a_usable_bus() {
    let bus = EventBus::new("Usable");
    bus.emit(Parent);
    let found = bus.find::<Parent>().first().unwrap();
    assert_eq!(found.bus().name(), "Usable");
    done(&found.bus().emit(Child));
    assert!(bus.find::<Child>().first().is_some());
}

#[test]
fn find_049_a_slow_handler_does_not_hold_a_find_up() {
    let bus = EventBus::new("Slow");
    let gate = Gate::new();
    let _open = gate.opener();
    let stands = gate.clone();
    bus.on(move |_: &Event<Parent>| stands.wait());
    let finder = finder(&bus, |bus| bus.find::<Parent>().past(false).future(PATIENCE).first());
    let found = emit_until_found(finder, || bus.emit(Parent)).unwrap();
    assert!(!found.is_completed());
    gate.open();
    idle(&bus);
    assert!(done(&found).results().iter().all(|result| result.completed_at.is_some()));
}

#[test]
fn find_050_conditions_that_only_the_second_meets() {
    let bus = EventBus::new("Second");
    let finder = finder(&bus, |bus| {
        bus.find::<Action>()
            .past(false)
            .future(PATIENCE)
            .filter(|e| e.action == "login")
            .filter(|e| e.user != "U1")
            .first()
    });
    let found = emit_until_found(finder, || {
        bus.emit(Action { action: "login", user: "U1" });
        bus.emit(Action { action: "login", user: "U2" })
    });
    assert_eq!(found.unwrap().user, "U2");
}

#[test]
fn find_051_waiting_finds_end_with_the_bus() {
    let bus = EventBus::new("Ends");
    let finders: Vec<_> = (0..4).map(|_| finder(&bus, |bus| bus.find::<Parent>().future_forever().first())).collect();
    bus.shutdown(Shutdown::Now, PATIENCE);
    within(PATIENCE, move || assert!(finders.into_iter().all(|finder| finder.join().unwrap().is_none())));
    assert!(bus.find::<Parent>().future_forever().first().is_none(), "a closed bus has no future");
}

#[test]
fn edge_013_also_when_its_last_handle_is_dropped() {
    // A find borrows its bus, so the last handle outlives it, but for one inside a handler of a bus without handles.
    let bus = EventBus::new("Orphan");
    let (began, dropped, log) = (Gate::new(), Gate::new(), Log::new());
    let (begins, waits, logs) = (began.clone(), dropped.clone(), log.clone());
    bus.on(move |event: &Event<Parent>| {
        begins.open();
        waits.wait();
        let found = event.bus().find::<Special>().future(SOON).first();
        logs.push(found.is_none());
    });
    bus.emit(Parent);
    began.wait();
    drop(bus);
    dropped.open();
    eventually(|| log.entries() == ["true"]);
}

#[test]
fn find_052_typed_and_untyped() {
    let bus = EventBus::new("Typing");
    bus.emit(Shot { target: 7 });
    let typed: Option<Event<Shot>> = bus.find::<Shot>().first();
    let untyped: Option<AnyEvent> = bus.find_named("*").first();
    assert_eq!(typed.unwrap().target, 7);
    assert_eq!(untyped.unwrap().payload::<Shot>().unwrap().target, 7);
}

#[test]
fn edge_018_a_predicate_that_panics_is_no_match_and_hurts_nobody() {
    let bus = EventBus::new("Panics");
    bus.emit(Shot { target: 1 });
    bus.emit(Shot { target: 2 });
    let odd = |shot: &Event<Shot>| if shot.target == 2 { panic!("even") } else { true };
    assert_eq!(bus.find::<Shot>().filter(odd).first().unwrap().target, 1);
    let finder = finder(&bus, move |bus| bus.find::<Shot>().past(false).future(PATIENCE).filter(odd).first());
    let emitted = AtomicUsize::new(0);
    let found = emit_until_found(finder, || {
        emitted.fetch_add(1, Ordering::Relaxed);
        done(&bus.emit(Shot { target: 2 }));
        done(&bus.emit(Shot { target: 3 }))
    });
    assert_eq!(found.unwrap().target, 3);
    assert_eq!(shots(&bus), (2 + 2 * emitted.into_inner()).min(100));
}

/// Neither in silence nor once for each event: at once for the first one, and with how many there were at the end.
#[test]
fn a_predicate_that_always_panics_is_told_at_once_and_counted_at_the_end() {
    let bus = EventBus::new("Broken");
    let told = warnings_naming("filter panicked on ");
    let of_this = |event: &Event<Shot>| told().iter().filter(|told| told.contains(&event.to_string())).count();
    let first = done(&bus.emit(Shot { target: 1 }));
    let (close, ended) = (bus.clone(), Gate::new());
    let ends = ended.clone();
    let finder = std::thread::spawn(move || {
        let found = close.find::<Shot>().future_forever().filter(|_| panic!("broken")).first();
        ends.open();
        found.is_none()
    });
    eventually(|| of_this(&first) == 1);
    assert!(told().iter().any(|told| told.ends_with("which is no match: broken")), "{:?}", told());
    let others: Vec<_> = (0..20).map(|target| done(&bus.emit(Shot { target }))).collect();
    assert!(!ended.is_open(), "another event may be one");
    let all = bus.find::<Shot>().filter(|shot| shot.target == 7 || panic!("broken")).all();
    assert_eq!(all.len(), 1);
    assert!(
        told().iter().any(|told| told.contains("found something: its filter panicked on 20 events")),
        "{:?}",
        told()
    );
    bus.shutdown(Shutdown::Drain, PATIENCE);
    assert!(within(PATIENCE, || finder.join().unwrap()));
    assert_eq!(others.iter().map(of_this).sum::<usize>(), 1, "the first one of the other find");
    let at_the_end = format!("a find on {} found nothing: its filter panicked on 21 events", bus.label());
    assert_eq!(told().iter().filter(|told| **told == at_the_end).count(), 1, "{:?}", told());
}

#[test]
fn a_predicate_is_not_asked_after_the_find_has_ended() {
    let bus = EventBus::new("Ended");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let never = move |_: &Event<Shot>| {
        count.fetch_add(1, Ordering::Relaxed);
        false
    };
    assert!(bus.find::<Shot>().future(Duration::from_millis(5)).filter(never).first().is_none());
    let before = asked.load(Ordering::Relaxed);
    (0..100).for_each(|target| drop(done(&bus.emit(Shot { target }))));
    assert_eq!(asked.load(Ordering::Relaxed), before);
}

#[test]
fn qj_030_a_jumped_child_is_found_below_its_parent() {
    let bus = with_family("Jumped");
    let parent = done(&bus.emit(Parent));
    let child = bus.find::<Child>().child_of(&parent).first().unwrap();
    assert_eq!(bus.event(child.id()).unwrap().id(), child.id());
    assert_eq!(parent.children()[0].id(), child.id());
}

#[test]
fn a_find_in_a_filter_does_not_wait() {
    let bus = EventBus::new("Callback");
    bus.emit(Parent);
    let inner = || bus.find::<Special>().future_forever().first().is_none() && bus.find::<Parent>().first().is_some();
    assert!(
        within(PATIENCE, {
            let bus = bus.clone();
            move || bus.find::<Parent>().filter(|_| bus.find::<Special>().future_forever().first().is_none()).first()
        })
        .is_some()
    );
    bus.emit(Special);
    assert!(!inner());
}

#[test]
fn a_find_in_a_handler_keeps_its_permit_and_sees_what_others_emit() {
    let bus = EventBus::new("InHandler");
    let log = Log::new();
    let (began, logs) = (Gate::new(), log.clone());
    let begins = began.clone();
    bus.on(move |event: &Event<Parent>| {
        begins.open();
        let found = event.bus().find::<Special>().past(true).future(PATIENCE).first();
        logs.push(format_args!("found {}", found.is_some_and(|found| !found.is_completed())));
    });
    let ran = log.clone();
    bus.on(move |_: &Event<Special>| ran.push("special ran"));
    let parent = bus.emit(Parent);
    began.wait();
    done(&bus.emit(Special));
    done(&parent);
    assert_eq!(log.entries(), ["found true", "special ran"]);
}

#[test]
fn a_find_in_a_handler_ends_when_that_is_given_up() {
    let bus = EventBus::new("GivenUp");
    let (began, returned) = (Gate::new(), Gate::new());
    let (begins, returns) = (began.clone(), returned.clone());
    bus.on(move |event: &Event<Parent>| -> Result<(), HandlerError> {
        begins.open();
        let found = event.bus().find::<Special>().future_forever().first();
        assert!(found.is_none());
        // Given up already: at once.
        assert!(event.bus().find::<Special>().future_forever().first().is_none());
        assert!(HandlerContext::current().unwrap().is_cancelled());
        returns.open();
        Ok(())
    });
    let parent = bus.emit(Parent);
    began.wait();
    assert!(parent.cancel());
    returned.wait();
    idle(&bus);
}

#[test]
fn many_finders_and_emitters_miss_nothing() {
    let bus = EventBus::builder("Stress").max_history(None).build().unwrap();
    let found = Arc::new(AtomicUsize::new(0));
    thread::scope(|scope| {
        for n in 0..4 {
            let (bus, found) = (&bus, Arc::clone(&found));
            scope.spawn(move || {
                for round in 0..200 {
                    let target = n * 1000 + round;
                    let wanted = bus.find::<Shot>().future(PATIENCE).filter(|shot| shot.target == target).first();
                    found.fetch_add(usize::from(wanted.is_some()), Ordering::Relaxed);
                }
            });
            scope.spawn(move || (0..200).for_each(|round| drop(bus.emit(Shot { target: n * 1000 + round }))));
        }
    });
    assert_eq!(found.load(Ordering::Relaxed), 800);
    idle(&bus);
}

// DEB: a find and an emit.

#[test]
fn deb_001_what_a_parent_has_already_is_taken_again() {
    let bus = EventBus::new("Reuse");
    bus.on(|event: &Event<Parent>| drop(event.bus().emit(Shot { target: 1 })));
    let parent = done(&bus.emit(Parent));
    let emitted = bus.find::<Shot>().first().unwrap();
    let shot = bus
        .find::<Shot>()
        .past_within(Duration::from_secs(60))
        .child_of(&parent)
        .first()
        .unwrap_or_else(|| bus.emit(Shot { target: 2 }));
    assert_eq!((shot.id(), shot.parent_id()), (emitted.id(), Some(parent.id())));
}

#[test]
fn deb_002_or_one_that_comes_in_time() {
    let bus = EventBus::new("InTime");
    let finder = finder(&bus, |bus| {
        let past = bus.find::<Shot>().filter(|shot| shot.target == 7).first();
        past.or_else(|| bus.find::<Shot>().past(false).future(PATIENCE).first())
            .unwrap_or_else(|| bus.emit(Shot { target: 9 }))
    });
    assert_eq!(emit_until_found(finder, || bus.emit(Shot { target: 1 })).target, 1);
}

fn debounced(bus: &EventBus, target: u32, window: Duration) -> Event<Shot> {
    let fresh = bus.find::<Shot>().past_within(window).filter(|shot| shot.target == target).first();
    fresh.unwrap_or_else(|| bus.emit(Shot { target }))
}

#[test]
fn deb_003_a_fresh_one_is_taken_again() {
    let bus = EventBus::new("Fresh");
    let shot = done(&bus.emit(Shot { target: 1 }));
    assert_eq!(debounced(&bus, 1, Duration::from_secs(60)).id(), shot.id());
}

#[test]
fn deb_004_without_a_match_there_is_a_new_one() {
    let bus = EventBus::new("NoMatch");
    bus.emit(Shot { target: 1 });
    let shot = done(&debounced(&bus, 2, Duration::from_secs(60)));
    assert_eq!((shot.target, shots(&bus)), (2, 2));
}

#[test]
fn deb_005_also_when_the_match_is_stale() {
    let bus = EventBus::new("Stale");
    let stale = done(&bus.emit(Shot { target: 1 }));
    grow_old(stale.as_ref(), SOON);
    assert_ne!(done(&debounced(&bus, 1, SOON)).id(), stale.id());
    assert_eq!(shots(&bus), 2);
}

#[test]
fn deb_006_a_chain_of_three() {
    let bus = EventBus::new("Chain");
    let window = Duration::from_secs(60);
    let [first, second, third] = [1, 1, 2].map(|target| debounced(&bus, target, window));
    assert_eq!(first.id(), second.id());
    assert_ne!(first.id(), third.id());
    assert_eq!(third.target, 2);
}

#[test]
fn deb_007_an_empty_history_has_nothing_fresh() {
    let bus = EventBus::new("NothingFresh");
    assert!(bus.find::<Shot>().past(true).first().is_none());
    assert!(bus.find::<Shot>().past_within(Duration::from_secs(5)).first().is_none());
}

#[test]
fn deb_009_nothing_recent_makes_one_new() {
    let bus = EventBus::new("One");
    let shot = done(&debounced(&bus, 999, Duration::from_secs(5)));
    assert_eq!((shot.target, shots(&bus)), (999, 1));
}

#[test]
fn a_refused_event_is_not_found() {
    let bus = EventBus::builder("Refused").require_handler(true).build().unwrap();
    assert!(matches!(bus.emit(Shot { target: 1 }).wait(), Err(WaitError::Rejected(EmitError::NoHandler { .. }))));
    assert_eq!(shots(&bus), 0);
}

#[test]
fn a_flood_of_others_does_not_keep_a_find_from_ending() {
    let bus = EventBus::builder("Flood").max_history(Some(0)).build().unwrap();
    let stop = Gate::new();
    let (floods, stops) = (bus.clone(), stop.clone());
    let flood = thread::spawn(move || {
        while !stops.is_open() {
            floods.emit(Shot { target: 1 });
        }
    });
    let finder = finder(&bus, |bus| bus.find::<Shot>().future(SOON).filter(|shot| shot.target == 2).first());
    assert!(within(PATIENCE, move || finder.join().unwrap()).is_none());
    stop.open();
    flood.join().unwrap();
    idle(&bus);
}

#[test]
fn find_025c_also_for_that_of_what_is_running_already() {
    let bus = EventBus::new("RunsAlready");
    let gate = Gate::new();
    let _open = gate.opener();
    let stands = gate.clone();
    bus.on(move |_: &Event<Parent>| stands.wait());
    let event = bus.emit(Parent);
    let finds = |past| {
        finder(&bus, move |bus| {
            bus.find::<Parent>()
                .past(past)
                .future(PATIENCE)
                .status(EventStatus::Completed)
                .first()
                .map(|found| found.id())
        })
    };
    let (with_past, without) = (finds(true), finds(false));
    linger();
    assert!(!with_past.is_finished());
    gate.open();
    assert_eq!(with_past.join().unwrap(), Some(event.id()));
    let later = emit_until_found(without, || done(&bus.emit(Parent)));
    assert!(later.is_some_and(|later| later != event.id()));
}
