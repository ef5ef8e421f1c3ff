//! Which task it is: labels of events, where people read of them.

mod common;

use common::{Gate, PATIENCE, done, eventually, payload, warnings_naming, within};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use threadbus::*;

payload!(Plain);

#[derive(Serialize, Deserialize)]
struct Compile {
    file: String,
}
impl Payload for Compile {
    type Output = ();
    fn describe(&self) -> Option<String> {
        match self.file.as_str() {
            "" => None,
            "bomb" => panic!("on purpose"),
            file => Some(file.to_owned()),
        }
    }
    fn codec() -> Option<Codec<Self>> {
        Some(Codec::serde())
    }
}

fn compile(file: &str) -> Compile {
    Compile { file: file.to_owned() }
}

fn labelled(label: &str) -> EventOptions {
    EventOptions::new().label(label)
}

fn shape() -> TreeStyle {
    TreeStyle::new().ids(false).times(false)
}

#[test]
fn a_payload_or_its_emitter_says_which_one_it_is() {
    let bus = EventBus::new("Names");
    let shown = |event: &AnyEvent| event.to_string().split_once(' ').map(|(_, label)| label.to_owned());
    assert_eq!(shown(bus.emit(compile("main.c")).as_ref()).as_deref(), Some("(main.c)"));
    assert_eq!(shown(bus.emit(compile("")).as_ref()), None);
    assert_eq!(shown(bus.emit(Plain).as_ref()), None);
    assert_eq!(shown(bus.emit_with(Plain, labelled("disk 7")).as_ref()).as_deref(), Some("(disk 7)"));
    assert_eq!(shown(bus.emit_with(compile("a.c"), labelled("b.c")).as_ref()).as_deref(), Some("(b.c)"));
    assert_eq!(shown(bus.emit_now(compile("now.c")).as_ref()).as_deref(), Some("(now.c)"));
    assert_eq!(shown(bus.try_emit(compile("try.c")).unwrap().as_ref()).as_deref(), Some("(try.c)"));
    let event = bus.emit(compile("x.c"));
    assert!(event.to_string().starts_with("Compile#"), "type and id come first: {event}");
}

#[test]
fn a_label_stays_on_its_line_and_is_cut() {
    let bus = EventBus::new("Lines");
    let named = |label: &str| bus.emit_with(Plain, labelled(label)).to_string();
    assert!(named("a\nb\tc\u{1b}[31m").ends_with(" (a b c [31m)"));
    // Nor may it break the line elsewhere than here, or show what follows in another order.
    assert!(named("a\u{2028}b\u{2029}c\u{202e}d\u{2066}e").ends_with(" (a b c d e)"));
    assert!(named(&"x".repeat(80)).ends_with(&format!(" ({})", "x".repeat(80))));
    assert!(named(&"x".repeat(1000)).ends_with(&format!(" ({}…)", "x".repeat(79))));
    assert!(!named(" \n ").contains('('), "nothing is left of it");
}

#[test]
fn a_describe_that_panics_says_nothing_and_is_told() {
    let bus = EventBus::new("Bomb");
    let warned = warnings_naming("the describe of a Compile panicked");
    let event = done(&bus.emit(compile("bomb")));
    assert!(!event.to_string().contains('('));
    eventually(|| warned().len() == 1);
}

#[test]
fn trees_name_it_with_and_without_ids() {
    let bus = EventBus::new("build");
    bus.on_with(HandlerOptions::new().name("cc"), |_: &Event<Compile>| {});
    let event = done(&bus.emit(compile("main.c")));
    assert_eq!(event.log_tree_with(&shape()), "└── ✅ Compile (main.c)\n    └── ✅ build.cc\n");
    assert!(bus.log_tree().contains(&format!("✅ {event} [")), "{}", bus.log_tree());
}

#[test]
fn what_came_as_json_describes_itself_too() {
    let bus = EventBus::new("Json");
    bus.on(|_: &Event<Compile>| {});
    let json = bus.emit(compile("main.c")).to_json().unwrap().to_string();
    assert!(!json.contains("event_label"), "{json}");
    let other = EventBus::new("Json");
    other.on(|_: &Event<Compile>| {});
    assert!(other.emit_json_str(&json).unwrap().to_string().ends_with(" (main.c)"));
}

#[test]
fn warnings_name_it() {
    within(PATIENCE, || {
        let bus = EventBus::builder("Slow")
            .handler_slow_after(Some(Duration::from_millis(20)))
            .event_slow_after(Some(Duration::from_millis(20)))
            .queue_capacity(1, OnFull::DropOldest)
            .max_history(Some(1))
            .build()
            .unwrap();
        let warned = warnings_naming("(slow.c)");
        let gate = Gate::new();
        let (closed, _open) = (gate.clone(), gate.opener());
        bus.on(move |_: &Event<Compile>| closed.wait());
        bus.emit(compile("slow.c"));
        eventually(|| warned().iter().any(|line| line.contains("slow handler")));
        eventually(|| warned().iter().any(|line| line.contains("slow event")));
        let (dropped, left) = (warnings_naming("(dropped.c)"), warnings_naming("(slow.c) leaves"));
        bus.emit(compile("dropped.c"));
        bus.emit(compile("next.c"));
        eventually(|| dropped().iter().any(|line| line.contains("was dropped")));
        eventually(|| !left().is_empty());
        gate.open();
    });
}

#[test]
fn dead_ends_name_it() {
    within(PATIENCE, || {
        let bus = EventBus::new("Circle");
        let itself = bus.emit_with(Plain, labelled("before"));
        done(&itself);
        bus.on(|compile: &Event<Compile>| match compile.wait() {
            Err(WaitError::Deadlock(text)) => Err::<(), _>(text),
            _ => Err("no dead end".to_owned()),
        });
        let event = done(&bus.emit(compile("round.c")));
        let text = event.errors()[0].to_string();
        assert!(text.contains(&event.to_string()) && text.contains("(round.c)"), "{text}");
    });
}
