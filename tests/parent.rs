//! PARENT: who emitted an event, and what it waits for before it is complete.

mod common;

use common::{Gate, Log, done, eventually, idle, linger, payload};
use threadbus::{AnyEvent, Event, EventBus, EventOptions, EventStatus, HandlerConcurrency, HandlerId, WaitError};

payload!(Parent);
payload!(Child { n: usize });
payload!(Grandchild);
payload!(Stranger);

/// A bus where `Parent` emits one `Child` and that one a `Grandchild`, without waiting.
fn three_generations(name: &str) -> EventBus {
    let bus = EventBus::new(name);
    bus.on(|event: &Event<Parent>| drop(event.bus().emit(Child { n: 0 })));
    bus.on(|event: &Event<Child>| drop(event.bus().emit(Grandchild)));
    bus.on(|_: &Event<Grandchild>| {});
    bus
}

/// The payloads' numbers of the children, sorted.
fn numbers(children: &[AnyEvent]) -> Vec<usize> {
    let mut numbers: Vec<_> = children.iter().filter_map(|c| c.payload::<Child>()).map(|c| c.n).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn parent_002_a_chain_of_three_names_its_parents() {
    let bus = three_generations("Parent002");
    let root = done(&bus.emit(Parent));
    let child = root.children().remove(0);
    let grandchild = child.children().remove(0);
    assert_eq!(root.parent_id(), None);
    assert_eq!(child.parent_id(), Some(root.id()));
    assert_eq!(grandchild.parent_id(), Some(child.id()));
    assert_eq!(root.descendants().iter().map(AnyEvent::id).collect::<Vec<_>>(), [child.id(), grandchild.id()]);
}

#[test]
fn parent_004_the_plain_bus_handle_links_too() {
    let bus = EventBus::new("Parent004");
    bus.on({
        let plain = bus.downgrade();
        move |_: &Event<Parent>| drop(plain.upgrade().expect("the bus lives").emit(Child { n: 0 }))
    });
    let parent = done(&bus.emit(Parent));
    let child = parent.children().remove(0);
    assert_eq!(child.parent_id(), Some(parent.id()));
    let results = parent.results();
    let emitter = results.iter().find(|r| Some(r.handler.id()) == child.emitted_by()).expect("the emitting handler");
    assert_eq!(emitter.children, [child.id()]);
}

#[test]
fn parent_005_a_plain_handle_of_another_bus_links_too() {
    let [one, two] = ["One", "Two"].map(EventBus::new);
    let handler = one.on({
        let two = two.downgrade();
        move |_: &Event<Parent>| drop(two.upgrade().expect("the bus lives").emit(Child { n: 0 }))
    });
    let parent = done(&one.emit(Parent));
    let child = two.history().remove(0);
    assert_eq!(child.parent_id(), Some(parent.id()));
    assert_eq!(child.emitted_by(), Some(handler.id()));
    assert_eq!(child.path(), [two.label()]);
    assert!(child.is_completed(), "its parent waited for it");
}

#[test]
fn parent_006_an_emit_from_outside_has_no_parent_while_handlers_run_elsewhere() {
    let [one, two, three] = ["One", "Two", "Three"].map(EventBus::new);
    let gate = Gate::new();
    let _opener = gate.opener();
    let running = [&one, &two].map(|bus| {
        let gate = gate.clone();
        bus.on(move |_: &Event<Parent>| gate.wait());
        bus.emit(Parent)
    });
    eventually(|| running.iter().all(|event| event.status() == EventStatus::Started));
    let stranger = done(&three.emit(Stranger));
    assert_eq!((stranger.parent_id(), stranger.emitted_by()), (None, None));
    assert!(stranger.parent().is_none());
    gate.open();
    for event in &running {
        assert!(done(event).children().is_empty());
    }
}

#[test]
fn parent_007_parallel_handlers_are_told_apart() {
    let bus = EventBus::builder("Parent007").handler_concurrency(HandlerConcurrency::Parallel).build().expect("a bus");
    let (both, first_in, second_in) = (common::Gauge::new(), Gate::new(), Gate::new());
    let emitters: Vec<HandlerId> = [(0, first_in.clone(), second_in.clone()), (1, second_in, first_in)]
        .map(|(n, mine, other)| {
            let both = both.clone();
            bus.on(move |event: &Event<Parent>| {
                both.enter();
                mine.open();
                other.wait();
                event.bus().emit(Child { n });
                both.leave();
            })
            .id()
        })
        .into();
    let parent = done(&bus.emit(Parent));
    assert!(parent.errors().is_empty(), "{:?}", parent.errors());
    assert_eq!(both.peak(), 2);
    let children = parent.children();
    assert_eq!(numbers(&children), [0, 1]);
    for child in children {
        let n = child.payload::<Child>().expect("a child").n;
        assert_eq!(child.parent_id(), Some(parent.id()));
        assert_eq!(child.emitted_by(), Some(emitters[n]));
        let results = parent.results();
        assert_eq!(results.iter().find(|r| r.handler.id() == emitters[n]).expect("its result").children, [child.id()]);
    }
}

#[test]
fn parent_008_an_explicit_parent_beats_the_running_handler() {
    let bus = EventBus::new("Parent008");
    let other = done(&bus.emit(Stranger));
    bus.on({
        let other = other.clone();
        move |event: &Event<Parent>| {
            event.bus().emit_with(Child { n: 7 }, EventOptions::new().parent(&other));
        }
    });
    let parent = done(&bus.emit(Parent));
    idle(&bus);
    assert!(parent.children().is_empty());
    assert_eq!(numbers(&other.children()), [7]);
    assert_eq!(other.children()[0].parent_id(), Some(other.id()));
    let outside = bus.emit_with(Child { n: 8 }, EventOptions::new().parent(&parent));
    assert_eq!(done(&outside).parent_id(), Some(parent.id()));
    assert_eq!(outside.emitted_by(), None);
}

#[test]
fn parent_009_the_link_is_seen_on_a_second_bus() {
    let [one, two] = ["One", "Two"].map(EventBus::new);
    one.on({
        let two = two.downgrade();
        move |event: &Event<Parent>| {
            let child = event.bus().emit(Child { n: 0 });
            two.upgrade().expect("the bus lives").forward(&child)
        }
    });
    let parent = done(&one.emit(Parent));
    assert!(parent.errors().is_empty(), "{:?}", parent.errors());
    let on_two = two.history().remove(0);
    assert_eq!(on_two.parent_id(), Some(parent.id()));
    assert_eq!(on_two.path(), [one.label(), two.label()]);
    assert_eq!(parent.children().len(), 1);
}

#[test]
fn parent_010_a_handler_that_fails_after_emitting_is_still_the_emitter() {
    let bus = EventBus::new("Parent010");
    let emitters = [0, 1, 2].map(|n| {
        bus.on(move |event: &Event<Parent>| -> Result<(), String> {
            event.bus().emit(Child { n });
            if n == 1 { Err("failed after emitting".to_owned()) } else { Ok(()) }
        })
        .id()
    });
    let parent = done(&bus.emit(Parent));
    let children = parent.children();
    assert_eq!(numbers(&children), [0, 1, 2]);
    for (child, emitter) in children.iter().zip(emitters) {
        assert_eq!((child.parent_id(), child.emitted_by()), (Some(parent.id()), Some(emitter)));
        assert!(child.is_completed() && child.errors().is_empty());
    }
    let errors: Vec<String> = parent.errors().iter().map(ToString::to_string).collect();
    assert_eq!(errors, ["failed after emitting"]);
}

#[test]
fn parent_011_every_level_lists_its_own_children() {
    let bus = three_generations("Parent011");
    let parent = done(&bus.emit(Parent));
    let children = parent.children();
    assert_eq!(children.len(), 1);
    assert!(children[0].is::<Child>());
    let grandchildren = children[0].children();
    assert_eq!(grandchildren.len(), 1);
    assert!(grandchildren[0].is::<Grandchild>() && grandchildren[0].children().is_empty());
}

#[test]
fn parent_012_one_handler_emits_three() {
    let bus = EventBus::new("Parent012");
    bus.on(|event: &Event<Parent>| {
        for n in 0..3 {
            event.bus().emit(Child { n });
        }
    });
    let parent = done(&bus.emit(Parent));
    let children = parent.children();
    assert_eq!(children.iter().filter_map(|c| c.payload::<Child>()).map(|c| c.n).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(children.iter().all(|c| c.parent_id() == Some(parent.id())));
}

#[test]
fn parent_013_children_of_several_handlers_are_in_one_list() {
    let bus = EventBus::new("Parent013");
    bus.on(|event: &Event<Parent>| drop(event.bus().emit(Child { n: 0 })));
    bus.on(|event: &Event<Parent>| {
        event.bus().emit(Child { n: 1 });
        event.bus().emit(Child { n: 2 });
    });
    let parent = done(&bus.emit(Parent));
    assert_eq!(numbers(&parent.children()), [0, 1, 2]);
    let per_handler: Vec<usize> = parent.results().iter().map(|r| r.children.len()).collect();
    assert_eq!(per_handler, [1, 2]);
}

#[test]
fn parent_014_a_handler_that_emits_nothing_has_no_children() {
    let bus = EventBus::new("Parent014");
    bus.on(|_: &Event<Parent>| {});
    let parent = done(&bus.emit(Parent));
    assert!(parent.children().is_empty() && parent.descendants().is_empty());
    assert!(parent.results()[0].children.is_empty());
}

#[test]
fn parent_015_a_parent_is_complete_when_its_children_are() {
    let (bus, log, gate) = (EventBus::new("Parent015"), Log::new(), Gate::new());
    let _opener = gate.opener();
    bus.on({
        let log = log.clone();
        move |event: &Event<Parent>| {
            event.bus().emit(Child { n: 0 });
            event.bus().emit(Child { n: 1 });
            log.push("parent_end");
        }
    });
    bus.on({
        let (log, gate) = (log.clone(), gate.clone());
        move |_: &Event<Child>| {
            log.push("child_start");
            gate.wait();
        }
    });
    let parent = bus.emit(Parent);
    eventually(|| log.count("child_start") == 1);
    linger();
    assert_eq!(log.entries()[0], "parent_end");
    assert!(!parent.children().is_empty());
    assert_eq!((parent.completed_at(), parent.status()), (None, EventStatus::Started));
    assert!(parent.results().iter().all(|r| r.completed_at.is_some()), "its own handler is through");
    gate.open();
    done(&parent);
    let children = parent.children();
    assert_eq!(children.len(), 2);
    assert!(parent.status() == EventStatus::Completed && children.iter().all(AnyEvent::is_completed));
    assert!(children.iter().all(|child| child.completed_at() <= parent.completed_at()));
}

#[test]
fn parent_016_a_forward_makes_no_child() {
    let [one, two] = ["One", "Two"].map(EventBus::new);
    let log = Log::new();
    one.forward_all_to(&two);
    two.on({
        let log = log.clone();
        move |_: &Event<Parent>| log.push("two")
    });
    let parent = done(&one.emit(Parent));
    assert_eq!(log.entries(), ["two"]);
    assert!(parent.children().is_empty() && parent.is_completed());
    assert_eq!(parent.parent_id(), None);
}

#[test]
fn parent_017_is_child_of_holds_downwards_at_any_depth() {
    let bus = three_generations("Parent017");
    let parent = done(&bus.emit(Parent));
    let stranger = done(&bus.emit(Stranger));
    let child = parent.children().remove(0);
    let grandchild = child.children().remove(0);
    assert!(child.is_child_of(&parent));
    assert!(grandchild.is_child_of(&child) && grandchild.is_child_of(&parent));
    assert!(!parent.is_child_of(&child) && !parent.is_child_of(&grandchild) && !child.is_child_of(&grandchild));
    assert!(!stranger.is_child_of(&parent) && !child.is_child_of(&stranger));
    assert!(!parent.is_child_of(&parent) && !child.is_child_of(&child));
}

#[test]
fn children_that_have_ended_are_let_go_of_also_behind_one_that_has_not() {
    let (bus, other, gate) = (EventBus::new("Many"), EventBus::new("Stands"), Gate::new());
    let _open = gate.opener();
    let stands = gate.clone();
    other.on(move |_: &Event<Grandchild>| stands.wait());
    let emits = other.clone();
    bus.on(move |event: &Event<Parent>| -> Result<(), WaitError> {
        emits.emit(Grandchild);
        for n in 0..5000 {
            event.bus().emit(Child { n }).wait()?;
        }
        Ok(())
    });
    let parent = bus.emit(Parent);
    eventually(|| parent.results().iter().any(|result| result.completed_at.is_some()));
    let children = parent.children();
    assert!(children[0].is::<Grandchild>() && !children[0].is_completed());
    assert!((1000..=2001).contains(&children.len()), "{}", children.len());
    assert_eq!(numbers(&children[children.len() - 1..]), [4999]);
    gate.open();
    assert!(done(&parent).errors().is_empty());
}
