//! Conformance, section LOGT: the tree of what happened.

mod common;

use common::{Gate, PATIENCE, done, eventually, idle, payload};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use threadbus::{
    Event, EventBus, EventConcurrency, EventOptions, HandlerCompletion, HandlerConcurrency, HandlerContext,
    HandlerError, HandlerOptions, Retry, Shutdown, TreeStyle, WaitError, event,
};

#[derive(Serialize, Deserialize)]
struct RootEvent;
event!(RootEvent => String);
#[derive(Serialize, Deserialize)]
struct ChildEvent;
event!(ChildEvent => Vec<i16>);
#[derive(Serialize, Deserialize)]
struct GrandchildEvent;
event!(GrandchildEvent => String);
payload!(Plain { n: u32 });
payload!(Other);

#[derive(Debug, thiserror::Error)]
#[error("ValueError: {0}")]
struct ValueError(&'static str);

fn named(name: &str) -> HandlerOptions {
    HandlerOptions::new().name(name)
}

/// What does not change from run to run.
fn shape() -> TreeStyle {
    TreeStyle::new().ids(false).times(false)
}

/// Columns of a line, where every sign of the tree is two wide.
fn columns(line: &str) -> usize {
    line.chars().map(|c| if "⏳🏃✅❌⏰🚫🛑".contains(c) { 2 } else { 1 }).sum()
}

#[test]
fn logt_001_one_completed_event() {
    let bus = EventBus::new("One");
    let event = done(&bus.emit(RootEvent));
    let tree = bus.log_tree();
    assert!(tree.contains("└── ✅ RootEvent#"), "{tree}");
    let line = tree.lines().find(|line| line.contains("RootEvent#")).unwrap();
    let time = line.split_once('[').and_then(|(_, rest)| rest.split_once(']')).unwrap().0;
    let (at, lasted) = time.split_once(' ').unwrap();
    assert_eq!(at, event.created_at().format("%H:%M:%S%.3f").to_string());
    assert!(lasted.starts_with('(') && lasted.ends_with("s)"), "{line}");
    // The event's own tree is the same without the title.
    assert_eq!(tree.lines().skip(1).collect::<Vec<_>>(), event.log_tree().lines().collect::<Vec<_>>());
}

#[test]
fn logt_003_a_handler_that_fails() {
    let bus = EventBus::new("Fails");
    bus.on_with(named("error_handler"), |_: &Event<RootEvent>| -> Result<String, ValueError> {
        Err(ValueError("Test error message"))
    });
    done(&bus.emit(RootEvent));
    let tree = bus.log_tree();
    assert!(tree.contains(&format!("{}.error_handler#", bus.label())), "{tree}");
    assert!(tree.contains("ValueError: Test error message"), "{tree}");
}

#[test]
fn logt_004_a_family_of_three() {
    let bus = EventBus::new("Family");
    bus.on_with(named("root"), |event: &Event<RootEvent>| -> Result<String, WaitError> {
        event.bus().emit(ChildEvent).wait()?;
        Ok("Root processed".to_owned())
    });
    bus.on_with(named("child"), |event: &Event<ChildEvent>| -> Result<Vec<i16>, WaitError> {
        event.bus().emit(GrandchildEvent).wait()?;
        Ok(vec![1, 2, 3])
    });
    bus.on_with(named("grandchild"), |_: &Event<GrandchildEvent>| -> Option<String> { None });
    done(&bus.emit(RootEvent));
    assert_eq!(
        bus.log_tree_with(&shape()),
        "\
Family: 3 events
└── ✅ RootEvent
    └── ✅ Family.root → \"Root processed\"
        └── ✅ ChildEvent
            └── ✅ Family.child → list(3 items)
                └── ✅ GrandchildEvent
                    └── ✅ Family.grandchild → None
"
    );
    let tree = bus.log_tree();
    for part in ["✅ RootEvent#", "✅ ChildEvent#", "✅ GrandchildEvent#"] {
        assert!(tree.contains(part), "{tree}");
    }
    for part in ["root", "child", "grandchild"] {
        assert!(tree.contains(&format!("✅ {}.{part}#", bus.label())), "{tree}");
    }
    for part in ["→ \"Root processed\"", "→ list(3 items)", "→ None"] {
        assert!(tree.contains(part), "{tree}");
    }
}

#[test]
fn logt_005_two_roots() {
    let bus = EventBus::new("Two");
    done(&bus.emit(RootEvent));
    done(&bus.emit(RootEvent));
    let tree = bus.log_tree();
    assert_eq!(tree.matches("├── ✅ RootEvent#").count(), 1, "{tree}");
    assert_eq!(tree.matches("└── ✅ RootEvent#").count(), 1, "{tree}");
}

#[test]
fn logt_007_a_handler_still_running() {
    let bus = EventBus::new("Runs");
    let (began, gate) = (Gate::new(), Gate::new());
    let _open = gate.opener();
    let (begins, stands) = (began.clone(), gate.clone());
    bus.on_with(named("running_handler"), move |_: &Event<RootEvent>| {
        begins.open();
        stands.wait();
        String::new()
    });
    bus.emit(RootEvent);
    bus.emit(ChildEvent);
    began.wait();
    let tree = bus.log_tree();
    assert!(tree.contains(&format!("🏃 {}.running_handler#", bus.label())), "{tree}");
    assert!(tree.contains("🏃 RootEvent#") && tree.contains("so far)]"), "{tree}");
    assert!(tree.contains("⏳ ChildEvent#"), "{tree}");
    gate.open();
    idle(&bus);
    assert!(!bus.log_tree().contains('🏃'));
}

#[test]
fn logt_009_roots_and_children_each_once() {
    // The parent runs on `a` and emits on `b`, whose handler emits on `a` again.
    let (a, b) = (EventBus::new("A"), EventBus::new("B"));
    let other = b.downgrade();
    bus_on_root(&a, move || other.upgrade().map(|b| b.emit(Plain { n: 1 })));
    let back = a.downgrade();
    b.on_with(named("middle"), move |_: &Event<Plain>| drop(back.upgrade().map(|a| a.emit(Other))));
    done(&a.emit(RootEvent));
    let whole = "\
└── ✅ RootEvent
    └── ✅ A.root → \"\"
        └── ✅ Plain
            └── ✅ B.middle
                └── ✅ Other
";
    assert_eq!(a.log_tree_with(&shape()), format!("A: 2 events\n{whole}"));
    // On `b` the parent is not in the history.
    assert_eq!(b.log_tree_with(&shape()), "B: 1 event\n└── ✅ Plain\n    └── ✅ B.middle\n        └── ✅ Other\n");
    let root = a.find::<RootEvent>().first().unwrap();
    assert_eq!(root.log_tree_with(&shape()), whole);
}

fn bus_on_root<R: 'static>(bus: &EventBus, emit: impl Fn() -> R + Send + Sync + 'static) {
    bus.on_with(named("root"), move |_: &Event<RootEvent>| {
        emit();
        String::new()
    });
}

#[test]
fn logt_009b_children_are_under_the_handler_that_emitted_them() {
    let bus = EventBus::new("Under");
    for n in 0..2 {
        bus.on_with(named(&format!("handler{n}")), move |event: &Event<RootEvent>| {
            event.bus().emit(Plain { n });
            event.bus().emit(Other);
            n.to_string()
        });
    }
    let root = bus.emit(RootEvent);
    done(&root);
    // A parent given from outside: no handler emitted it.
    done(&bus.emit_with(Other, EventOptions::new().parent(&root)));
    assert_eq!(
        bus.log_tree_with(&shape()),
        "\
Under: 6 events
└── ✅ RootEvent
    ├── ✅ Under.handler0 → \"0\"
    │   ├── ✅ Plain
    │   └── ✅ Other
    ├── ✅ Under.handler1 → \"1\"
    │   ├── ✅ Plain
    │   └── ✅ Other
    └── ✅ Other
"
    );
}

#[test]
fn an_evicted_parent_makes_its_child_a_root() {
    let bus = EventBus::builder("Evicted").max_history(Some(1)).build().unwrap();
    bus.on_with(named("root"), |event: &Event<RootEvent>| -> Result<String, WaitError> {
        event.bus().emit(Other).wait()?;
        Ok(String::new())
    });
    let root = done(&bus.emit(RootEvent));
    bus.take(root.id());
    let child = bus.history();
    if !child.is_empty() {
        assert_eq!(bus.log_tree_with(&shape()), "Evicted: 1 event\n└── ✅ Other\n");
    }
    assert!(root.log_tree_with(&shape()).contains("        └── ✅ Other"));
}

#[test]
fn timeouts_cancellations_and_what_was_given_up_are_told_apart() {
    let bus = EventBus::builder("Apart")
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::EventSerial)
        .build()
        .unwrap();
    let stop = || -> Result<(), HandlerError> {
        let context = HandlerContext::current().ok_or("outside of a handler")?;
        Ok(context.sleep(PATIENCE)?)
    };
    bus.on_with(named("slow").timeout(Duration::from_millis(20)), move |_: &Event<Plain>| stop());
    bus.on_with(named("panics"), |_: &Event<Plain>| panic!("two\nlines"));
    let timed_out = done(&bus.emit(Plain { n: 0 }));
    assert_eq!(
        timed_out.log_tree_with(&shape()),
        "\
└── ❌ Plain
    ├── ⏰ Apart.slow: timed out after 20ms, sleeps for 10s
    └── ❌ Apart.panics: handler panicked: two lines
"
    );

    let (began, other) = (Gate::new(), EventBus::new("Cancel"));
    let begins = began.clone();
    other.on_with(named("runs"), move |_: &Event<Other>| {
        begins.open();
        stop()
    });
    other.on_with(named("waits"), |_: &Event<Other>| {});
    let (running, queued) = (other.emit(Other), other.emit(Other));
    began.wait();
    queued.cancel();
    running.cancel();
    done(&running);
    idle(&other);
    let cause = "cancellation of Other";
    let tree = other.log_tree_with(&shape().width(200));
    let lines: Vec<_> = tree.lines().map(|line| line.split('#').next().unwrap()).collect();
    let expected = [
        "Cancel: 2 events".to_owned(),
        "├── 🛑 Other".to_owned(),
        format!("│   ├── 🛑 Cancel.runs: abandoned while running: {}", cause),
        format!("│   └── 🚫 Cancel.waits: cancelled before it started: {}", cause),
        "└── 🚫 Other: cancelled".to_owned(),
        format!("    ├── 🚫 Cancel.runs: cancelled before it started: {}", cause),
        format!("    └── 🚫 Cancel.waits: cancelled before it started: {}", cause),
    ];
    assert_eq!(lines, expected, "{tree}");
}

#[test]
fn a_lost_first_is_told_too() {
    let bus = EventBus::builder("First").handler_completion(HandlerCompletion::First).build().unwrap();
    bus.on_with(named("wins"), |_: &Event<RootEvent>| "1".to_owned());
    bus.on_with(named("late"), |_: &Event<RootEvent>| "2".to_owned());
    let tree = done(&bus.emit(RootEvent)).log_tree_with(&shape());
    assert!(tree.contains("✅ First.wins → \"1\"") && tree.contains("🚫 First.late\n"), "{tree}");
    assert!(tree.contains("cancelled before it started: ") && tree.contains(" was first on RootEvent"), "{tree}");
}

#[test]
fn a_refused_event_says_why() {
    let bus = EventBus::new("Closed");
    bus.shutdown(Shutdown::Now, PATIENCE);
    let tree = bus.emit(Other).log_tree_with(&shape());
    assert_eq!(tree, format!("└── 🚫 Other: refused: {} is shut down\n", bus.label()));
    assert_eq!(bus.log_tree_with(&shape()), "Closed: no events\n");
}

#[test]
fn an_event_is_well_only_if_its_handlers_were() {
    for (how, sign) in [(0, "✅"), (1, "❌"), (2, "❌"), (3, "⏰")] {
        let bus = EventBus::new("Signs");
        bus.on_with(named("good"), |_: &Event<Plain>| {});
        let options = named("bad").timeout(if how == 3 { Duration::from_millis(20) } else { PATIENCE });
        bus.on_with(options, move |_: &Event<Plain>| -> Result<(), HandlerError> {
            match how {
                0 => Ok(()),
                1 => Err("x".into()),
                2 => panic!("on purpose"),
                _ => Ok(HandlerContext::current().ok_or("outside of a handler")?.sleep(PATIENCE)?),
            }
        });
        let tree = done(&bus.emit(Plain { n: 0 })).log_tree_with(&shape());
        assert!(tree.starts_with(&format!("└── {sign} Plain\n    ├── ✅ Signs.good\n")), "{tree}");
        assert!(tree.contains(&format!("└── {sign} Signs.bad")), "{tree}");
    }
    // What failed below is shown there.
    let bus = EventBus::new("Below");
    bus.on_with(named("parent"), |parent: &Event<RootEvent>| {
        parent.bus().emit(Other);
        String::new()
    });
    bus.on_with(named("child"), |_: &Event<Other>| Err::<(), _>("x"));
    let tree = done(&bus.emit(RootEvent)).log_tree_with(&shape());
    assert!(tree.starts_with("└── ✅ RootEvent\n") && tree.contains("└── ❌ Other\n"), "{tree}");
}

#[test]
fn a_tree_outlives_the_shutdown() {
    for mode in [Shutdown::Drain, Shutdown::Now] {
        let bus = EventBus::new("Ended");
        bus.on_with(named("works"), |_: &Event<Other>| {});
        let event = done(&bus.emit(Other));
        let before = bus.log_tree();
        bus.shutdown(mode, PATIENCE);
        assert_eq!(bus.log_tree(), before);
        assert!(before.contains(&event.to_string()), "{before}");
        assert_eq!((bus.history_len(), bus.log_tree_with(&shape()).lines().count()), (0, 3));
    }
    let runtime = threadbus::Runtime::builder().build().unwrap();
    let bus = EventBus::builder("Ended").runtime(&runtime).build().unwrap();
    done(&bus.emit(Other));
    runtime.shutdown(Shutdown::Drain, PATIENCE);
    assert!(bus.log_tree().contains("✅ Other#"), "{}", bus.log_tree());
}

#[test]
fn attempts_are_counted() {
    let bus = EventBus::new("Attempts");
    let options = named("tries").retry(Retry::attempts(3));
    bus.on_with(options, |_: &Event<Other>| match HandlerContext::current().map_or(0, |c| c.attempt()) {
        3 => Ok(()),
        n => Err(format!("attempt {n}")),
    });
    assert!(done(&bus.emit(Other)).log_tree_with(&shape()).contains("✅ Attempts.tries (3 attempts)"));
}

#[test]
fn handlers_of_all_buses_are_there() {
    let (a, b) = (EventBus::new("A"), EventBus::new("B"));
    a.forward_all_to(&b);
    b.on_with(named("there"), |_: &Event<Other>| {});
    let tree = done(&a.emit(Other)).log_tree_with(&shape());
    let expected = format!("└── ✅ Other\n    ├── ✅ A.forward to {} → None\n    └── ✅ B.there\n", b.label());
    assert_eq!(tree, expected);
    assert!(b.log_tree_with(&shape()).ends_with(&tree));
}

#[test]
fn every_line_fits_and_only_ids_and_times_differ() {
    payload!(AnEventWithQuiteALongNameForOne { n: usize } => String);
    type Long = AnEventWithQuiteALongNameForOne;
    let run = || {
        let bus = EventBus::new("ABusWithQuiteALongName");
        bus.on(|event: &Event<Long>| -> Result<String, WaitError> {
            if event.n < 12 {
                event.bus().emit(Long { n: event.n + 1 }).wait()?;
                event.bus().emit(Long { n: 100 + event.n }).wait()?;
            }
            Ok("a value that takes some room, ".repeat(event.n))
        });
        bus.on(|event: &Event<Long>| -> Result<String, String> {
            Err("it did not work, and that at length ".repeat(event.n))
        });
        done(&bus.emit(Long { n: 0 }));
        bus
    };
    let (first, second) = (run(), run());
    for tree in [first.log_tree(), first.log_tree_with(&shape())] {
        assert!(tree.lines().all(|line| columns(line) <= 80), "{tree}");
    }
    assert_eq!(first.log_tree_with(&shape()), second.log_tree_with(&shape()));
    assert_eq!(first.log_tree().lines().count() - 1, first.history_len() * 5);
}

#[test]
fn colours_are_optional() {
    let bus = EventBus::new("Colours");
    bus.on_with(named("bad"), |_: &Event<Other>| Err::<(), _>("no"));
    done(&bus.emit(Other));
    assert!(!bus.log_tree().contains('\x1b'));
    let coloured = bus.log_tree_with(&TreeStyle::new().colour(true));
    assert!(coloured.contains("\x1b[31mColours#"), "{coloured:?}");
}

#[test]
fn ten_thousand_levels_and_five_thousand_children_are_no_trouble() {
    payload!(Deep { n: u32 });
    let bus = EventBus::builder("Deep").max_history(None).build().unwrap();
    bus.on_with(named("next"), |event: &Event<Deep>| {
        if event.n > 0 {
            event.bus().emit(Deep { n: event.n - 1 });
        }
    });
    let root = bus.emit(Deep { n: 10_000 });
    done(&root);
    let tree = root.log_tree();
    assert_eq!(tree.lines().count(), 2 * 10_001);
    assert!(tree.lines().all(|line| columns(line) <= 80));

    let wide = EventBus::builder("Wide").max_history(None).build().unwrap();
    wide.on_with(named("many"), |event: &Event<Other>| {
        for n in 0..5000 {
            event.bus().emit(Plain { n });
        }
    });
    done(&wide.emit(Other));
    eventually(|| wide.is_idle());
    // The event has let the oldest children go; the history has them.
    let tree = wide.log_tree_with(&shape());
    assert_eq!(tree.lines().count(), 3 + 5000);
    assert_eq!(tree.matches("\n        ").count(), 5000);
}
