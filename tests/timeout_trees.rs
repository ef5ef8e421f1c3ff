//! TMO over trees of events: who ends how, and whose timeout is named as the cause, when some level times out.
//! Handlers that must overstay stand at a gate that opens at the end of the test.

mod common;
#[path = "common/overtime.rs"]
mod overtime;

use common::{Gate, Log, capped, done, eventually, in_order, ms, payload};
use overtime::*;
use threadbus::{
    AnyEvent, AnyOutput, Cause, CauseKind, Event, EventBus, EventId, EventOptions, HandlerOptions, HandlerResult,
    ResultStatus, WaitError,
};

payload!(Child);
payload!(Top);
payload!(QueuedChild);
payload!(AwaitedChild);
payload!(QueuedGrandchild);
payload!(ImmediateGrandchild);
payload!(Grandchild => u32);
payload!(Sibling);
payload!(Level { n: usize });

#[test]
fn tmo_028_multi_level_cascade() {
    let (bus, gate, log) = (serial("Tmo028"), Gate::new(), Log::new());
    let _opener = gate.opener();
    for name in ["queued 1", "queued 2"] {
        notes::<QueuedChild>(&bus, &log, name);
        notes::<QueuedGrandchild>(&bus, &log, name);
    }
    overstays::<ImmediateGrandchild>(&bus, &log, &gate, "immediate 1");
    notes::<ImmediateGrandchild>(&bus, &log, "immediate 2");
    notes::<AwaitedChild>(&bus, &log, "awaited 1");
    let awaited = bus.on({
        let (gate, log) = (gate.clone(), log.clone());
        move |event: &Event<AwaitedChild>| {
            event.bus().emit_with(QueuedGrandchild, capped(5000));
            drop(event.bus().emit_with(ImmediateGrandchild, capped(5000)).wait());
            gate.wait();
            log.push("awaited 2");
        }
    });
    let top_handler = bus.on({
        let (gate, log) = (gate.clone(), log.clone());
        move |event: &Event<Top>| {
            event.bus().emit_with(QueuedChild, capped(5000));
            drop(event.bus().emit_with(AwaitedChild, capped(150)).wait());
            log.push("top after awaited");
            gate.wait();
        }
    });
    let top = done(&bus.emit_with(Top, capped(600)));
    timed_out(&top.results()[0], 600);

    let queued = child::<QueuedChild>(&top);
    assert_eq!(queued.results().len(), 2);
    for result in queued.results() {
        let cause = cancelled(&result);
        assert_eq!((cause.kind, cause.event), (CauseKind::HandlerTimeout, top.id()));
        assert_eq!(cause.handler, Some(top_handler.id()));
    }
    let awaited_child = child::<AwaitedChild>(&top);
    let results = awaited_child.results();
    assert_eq!((results.len(), results[0].status), (2, ResultStatus::Completed));
    timed_out(&results[1], 150);

    let below_awaited = |cause: Cause| {
        assert_eq!((cause.kind, cause.event), (CauseKind::HandlerTimeout, awaited_child.id()), "the nearest timeout");
        assert_eq!((cause.handler, cause.after), (Some(awaited.id()), Some(ms(150))));
    };
    let results = child::<ImmediateGrandchild>(&awaited_child).results();
    assert_eq!(results.len(), 2);
    below_awaited(aborted(&results[0]));
    below_awaited(cancelled(&results[1]));
    let results = child::<QueuedGrandchild>(&awaited_child).results();
    assert_eq!(results.len(), 2);
    results.iter().map(cancelled).for_each(below_awaited);

    assert_eq!(log.entries(), ["awaited 1", "immediate 1", "top after awaited"]);
    works_on_in_time(&bus, &gate);
    assert!(log.count("queued 1") + log.count("queued 2") + log.count("immediate 2") == 0);
}

/// The tree of 029 and 030: `cap` makes the options of an event from its time.
struct ThreeLevels {
    log: Log,
    top: Event<Top>,
    child: Event<Child>,
    grandchild: Event<Grandchild>,
}

impl ThreeLevels {
    fn run(name: &str, gate: &Gate, cap: fn(u64) -> EventOptions) -> (EventBus, Self) {
        let (bus, log) = (serial(name), Log::new());
        for (name, instant) in [("gc_a", false), ("gc_b", true), ("gc_c", false), ("gc_d", true), ("gc_e", false)] {
            let (gate, log) = (gate.clone(), log.clone());
            bus.on_with(HandlerOptions::new().name(name), move |_: &Event<Grandchild>| {
                log.push(name);
                if !instant {
                    gate.wait();
                    log.push(format_args!("{name}_end"));
                }
                1
            });
        }
        notes::<QueuedGrandchild>(&bus, &log, "queued_gc");
        notes::<Sibling>(&bus, &log, "sibling");
        bus.on({
            let (gate, log) = (gate.clone(), log.clone());
            move |event: &Event<Child>| {
                let grandchild = event.bus().emit_with(Grandchild, cap(100));
                event.bus().emit_with(QueuedGrandchild, cap(2500));
                drop(grandchild.wait());
                log.push("child_after_grandchild");
                gate.wait();
                log.push("child_end");
            }
        });
        notes::<Top>(&bus, &log, "top_fast");
        bus.on({
            let (gate, log) = (gate.clone(), log.clone());
            move |event: &Event<Top>| {
                drop(event.bus().emit_with(Child, cap(1000)).wait());
                log.push("top_main_after_child");
                event.bus().emit_with(Sibling, cap(2500));
                gate.wait();
                log.push("top_main_end");
            }
        });
        let top = done(&bus.emit_with(Top, cap(1600)));
        let child = child::<Child>(&top);
        let grandchild = self::child::<Grandchild>(&child);
        (bus, ThreeLevels { log, top, child, grandchild })
    }

    /// What 029 and 030 have in common.
    fn check(&self, bus: &EventBus, gate: &Gate, cause: CauseKind) {
        let queued = child::<QueuedGrandchild>(&self.child);
        let sibling = child::<Sibling>(&self.top);
        let cancelled_by = |results: Vec<HandlerResult<()>>, by: EventId| {
            assert_eq!(results.len(), 1);
            let found = cancelled(&results[0]);
            assert_eq!((found.kind, found.event), (cause, by));
        };
        assert_eq!((self.log.count("queued_gc"), self.log.count("sibling")), (0, 0), "{:?}", self.log.entries());
        cancelled_by(queued.results(), self.child.id());
        cancelled_by(sibling.results(), self.top.id());
        let top = self.top.results();
        assert_eq!(top[0].status, ResultStatus::Completed);
        in_order(&self.log, &["top_fast", "gc_a", "child_after_grandchild", "top_main_after_child"]);
        assert!(self.log.entries().iter().all(|entry| !entry.ends_with("_end")), "{:?}", self.log.entries());
        assert_eq!(self.top.children().iter().map(AnyEvent::event_type).collect::<Vec<_>>(), ["Child", "Sibling"]);
        assert_eq!(self.child.children().len(), 2);
        let tree = [self.top.as_ref(), self.child.as_ref(), self.grandchild.as_ref()];
        assert!(tree.iter().all(|event| event.completed_at().is_some()));
        assert!(queued.completed_at().is_some() && sibling.completed_at().is_some());
        let times = |r: &HandlerResult<AnyOutput>| r.started_at.is_some() && r.completed_at.is_some();
        assert!(tree[0].results().iter().all(times));
        works_on_in_time(bus, gate);
        assert_eq!((self.log.count("queued_gc"), self.log.count("sibling")), (0, 0));
    }
}

#[test]
fn tmo_029_three_levels_of_handler_timeouts() {
    let gate = Gate::new();
    let _opener = gate.opener();
    let (bus, tree) = ThreeLevels::run("Tmo029", &gate, capped);
    let results = tree.grandchild.results();
    assert_eq!(results.len(), 5);
    for (at, result) in results.iter().enumerate() {
        assert!(result.started_at.is_some() && result.completed_at.is_some());
        if at % 2 == 0 { timed_out(result, 100) } else { assert_eq!(result.value, Some(1)) }
    }
    timed_out(&tree.child.results()[0], 1000);
    timed_out(&tree.top.results()[1], 1600);
    tree.check(&bus, &gate, CauseKind::HandlerTimeout);
}

#[test]
fn tmo_030_three_levels_of_event_caps() {
    let gate = Gate::new();
    let _opener = gate.opener();
    let (bus, tree) = ThreeLevels::run("Tmo030", &gate, |cap| EventOptions::new().timeout(ms(cap)));
    let results = tree.grandchild.results();
    assert_eq!(results.len(), 5);
    assert_eq!(aborted(&results[0]).event, tree.grandchild.id());
    for result in &results[1..] {
        assert_eq!(cancelled(result).event, tree.grandchild.id());
    }
    assert_eq!((tree.log.count("gc_b"), tree.log.count("gc_d")), (0, 0));
    assert_eq!(aborted(&tree.child.results()[0]).kind, CauseKind::EventTimeout);
    assert_eq!(aborted(&tree.top.results()[1]).event, tree.top.id());
    tree.check(&bus, &gate, CauseKind::EventTimeout);
}

/// Sixty handlers wait on one another; the one at the top has the timeout. All of them end, and one thread was abandoned.
#[test]
fn tmo_030b_a_timeout_at_the_top_of_a_deep_chain() {
    const DEPTH: usize = 60;
    let (bus, gate, log) = (serial("Tmo030b"), Gate::new(), Log::new());
    let _opener = gate.opener();
    bus.on({
        let (gate, log) = (gate.clone(), log.clone());
        move |event: &Event<Level>| {
            if event.n + 1 == DEPTH {
                gate.wait();
            } else {
                let waited = event.bus().emit(Level { n: event.n + 1 }).wait();
                log.push(format_args!("{:?}", waited.map(drop)));
            }
        }
    });
    let top = done(&bus.emit_with(Level { n: 0 }, capped(500)));
    timed_out(&top.results()[0], 500);
    let below = top.descendants();
    assert_eq!(below.len(), DEPTH - 1);
    for event in &below {
        let cause = aborted(&event.results()[0]);
        assert_eq!((cause.kind, cause.event), (CauseKind::HandlerTimeout, top.id()));
    }
    works_on_in_time(&bus, &gate);
    eventually(|| log.len() == DEPTH - 1);
}

/// A timeout in the middle of the chain: below it all ends, above it all goes on.
#[test]
fn tmo_030c_a_timeout_in_the_middle_of_a_deep_chain() {
    const DEPTH: usize = 60;
    let (bus, gate) = (serial("Tmo030c"), Gate::new());
    let _opener = gate.opener();
    bus.on({
        let gate = gate.clone();
        move |event: &Event<Level>| -> Result<(), WaitError> {
            if event.n + 1 == DEPTH {
                gate.wait();
                return Ok(());
            }
            let options = if event.n == DEPTH / 2 { capped(500) } else { EventOptions::new() };
            event.bus().emit_with(Level { n: event.n + 1 }, options).wait().map(drop)
        }
    });
    let top = done(&bus.emit(Level { n: 0 }));
    let mut chain = vec![AsRef::<AnyEvent>::as_ref(&top).clone()];
    chain.extend(top.descendants());
    for (n, event) in chain.iter().enumerate() {
        let result = event.results().remove(0);
        match n.cmp(&(DEPTH / 2 + 1)) {
            std::cmp::Ordering::Less => assert!(result.error.is_none(), "{n}: {:?}", result.error),
            std::cmp::Ordering::Equal => timed_out(&result, 500),
            std::cmp::Ordering::Greater => assert_eq!(aborted(&result).event, chain[DEPTH / 2 + 1].id()),
        }
    }
    works_on_in_time(&bus, &gate);
}
