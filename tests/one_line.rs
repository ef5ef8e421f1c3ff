//! Text of others in log records and trees: whatever it is, it tears no line, shows nothing in another order than it is written, and a `Display` that panics is contained.
//!
//! `THREADBUS_SEED` says where the property test begins, `THREADBUS_ROUNDS` how long it goes on.

mod common;
#[path = "common/logger.rs"]
mod logger;
#[path = "common/random.rs"]
mod random;

use common::{PATIENCE, done, idle, payload, within};
use log::LevelFilter::Trace;
use logger::Logger;
use random::Random;
use serde_json::json;
use std::fmt;
use std::time::Duration;
use threadbus::middleware::LogEvents;
use threadbus::{
    AnyEvent, AnyOutput, BoxError, Event, EventBus, EventConcurrency, EventOptions, HandlerConcurrency, HandlerContext,
    HandlerOptions, Limit, Middleware, OnFull, Retry, Shutdown, TreeStyle,
};

payload!(Plain => String);
payload!(Quiet);

/// What no reader of a line should meet. Written down here once more, so that the crate does not judge itself.
fn is_hostile(c: char) -> bool {
    let c = u32::from(c);
    c < 0x20
        || (0x7f..0xa0).contains(&c)
        || [0x61c, 0x200e, 0x200f, 0x2028, 0x2029].contains(&c)
        || (0x202a..=0x202e).contains(&c)
        || (0x2066..=0x2069).contains(&c)
}

#[track_caller]
fn is_one_line(record: &str) {
    assert!(!record.chars().any(is_hostile), "{record:?}");
}

#[track_caller]
fn is_a_tree(tree: &str, lines: usize) {
    assert!(tree.ends_with('\n'), "{tree}");
    tree.trim_end_matches('\n').split('\n').for_each(is_one_line);
    assert_eq!(tree.split('\n').count() - 1, lines, "{tree}");
}

/// Nothing is cut, and nothing goes below.
fn wide() -> TreeStyle {
    TreeStyle::new().width(1 << 20)
}

/// Text that would be something else: a line of its own, a colour, another order, the end of the screen. Each with a mark to find it by.
fn hostile(random: &mut Random) -> String {
    const PIECES: [&str; 20] = [
        "\n",
        "\r\n",
        "\r",
        "\t",
        "\u{1b}[2J",
        "\u{1b}]0;title\u{7}",
        "\u{9b}31m",
        "\0",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{2029}",
        "\u{202e}",
        "\u{202a}",
        "\u{2066}",
        "\u{2069}",
        "\u{200f}",
        "\u{61c}",
        "\n└── ✅ forged",
        "\nERROR forged",
    ];
    let mut text = format!("mark{}", random.below(1_000_000));
    for _ in 0..=random.below(6) {
        text += PIECES[random.below(PIECES.len() as u64) as usize];
        text += ["", "a", " ", "é", "😀"][random.below(5) as usize];
    }
    text
}

fn mark(text: &str) -> &str {
    text.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap()
}

struct Text(String);
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl std::error::Error for Text {}

/// Refuses what is called so, with any text.
struct Refuses(String);
impl Middleware for Refuses {
    fn on_emit(&self, _: &EventBus, event: &AnyEvent) -> Result<(), BoxError> {
        if event.event_type().starts_with("Refused") { Err(Box::new(Text(self.0.clone()))) } else { Ok(()) }
    }
}

/// Everything that has a text of the user's, once. Which texts are in the tree, and which in the log.
fn program(random: &mut Random) {
    let mut texts: Vec<String> = Vec::new();
    let mut text = || {
        texts.push(hostile(random));
        texts[texts.len() - 1].clone()
    };
    let log = Logger::new(Trace, |_, _| {});
    let (name, refusal, label, limit) = (text(), text(), text(), text());
    let bus = EventBus::builder(&name)
        .middleware(LogEvents::new())
        .middleware(Refuses(refusal.clone()))
        .handler_concurrency(HandlerConcurrency::Parallel)
        .build()
        .unwrap();
    let (fails, panics, filter, returns) = (text(), text(), text(), text());
    let (error, panic, bad_filter, value) = (fails.clone(), panics.clone(), filter.clone(), returns.clone());
    let handler = text();
    let named = |what: &str| HandlerOptions::new().name(format!("{handler} {what}"));
    bus.on_with(named("fails"), move |_: &Event<Plain>| Err::<String, _>(Text(error.clone())));
    bus.on_with(named("panics"), move |_: &Event<Plain>| -> String { panic!("on purpose {panic}") });
    let retry = Retry::attempts(2).only_if(move |_| panic!("on purpose {bad_filter}"));
    bus.on_with(named("filter").retry(retry), |_: &Event<Plain>| Err::<String, _>("again"));
    bus.on_with(named("returns").limit(Limit::named(&limit, 1)), move |_: &Event<Plain>| value.clone());
    bus.on_with(named("slow").timeout(Duration::ZERO), |_: &Event<Plain>| String::new());
    let hook = text();
    let in_hook = hook.clone();
    bus.on_with(named("hook"), move |quiet: &Event<Quiet>| {
        let hook = in_hook.clone();
        let context = HandlerContext::current().unwrap();
        context.on_cancel(move || panic!("on purpose {hook}"));
        quiet.cancel();
    });
    let plain = bus.emit_with(Plain, EventOptions::new().label(&label));
    done(&plain);
    done(&bus.emit(Quiet));
    idle(&bus);
    // Types from elsewhere may be called anything but what has control characters.
    let foreign = format!("Foreign\u{202e}{}", "\u{2066}");
    let event = done(&bus.emit_json(&json!({ "event_type": foreign })).unwrap());
    bus.emit_json(&json!({ "event_type": "Refused\u{2028}type" })).unwrap().wait().unwrap_err();
    let pattern = text();
    bus.on_named(&pattern, |_| {});
    bus.find::<Plain>()
        .filter({
            let filter = filter.clone();
            move |_| panic!("on purpose {filter}")
        })
        .all();

    // A title, an event with five handlers, one with one, and one from elsewhere.
    let tree = bus.log_tree_with(&wide());
    is_a_tree(&tree, 10);
    is_a_tree(&bus.log_tree_with(&wide().ids(false).times(false)), 10);
    is_a_tree(&plain.log_tree_with(&wide()), 6);
    is_a_tree(&event.log_tree_with(&wide()), 1);
    bus.log_tree().split('\n').for_each(is_one_line);
    is_one_line(&event.to_string());
    is_one_line(&plain.to_string());
    for shown in [&name, &label, &fails, &panics, &returns, &handler] {
        assert!(tree.contains(mark(shown)), "{shown:?} in {tree}");
    }
    let off = bus.handlers().len();
    bus.handlers().iter().for_each(|handler| assert!(bus.off(handler)));
    bus.shutdown(Shutdown::Drain, PATIENCE);
    is_a_tree(&bus.log_tree_with(&wide()), 10);
    bus.on(|_: &Event<Plain>| String::new());
    log.says(mark(&pattern));
    log.says("was not registered");
    let heard = log.heard();
    heard.iter().for_each(|record| is_one_line(record));
    for said in [&name, &refusal, &label, &fails, &panics, &filter, &handler, &hook, &pattern] {
        assert!(heard.iter().any(|record| record.contains(mark(said))), "{said:?} in {heard:#?}");
    }
    assert_eq!(off, 7);
}

#[test]
fn whatever_others_write_stays_on_its_line() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("THREADBUS_SEED").unwrap_or(1);
    for seed in first..first + number("THREADBUS_ROUNDS").unwrap_or(20) {
        within(3 * PATIENCE, move || {
            let checked = std::panic::catch_unwind(|| program(&mut Random::new(seed)));
            assert!(checked.is_ok(), "THREADBUS_SEED={seed} fails");
        });
    }
}

/// Errors whose text panics, fails half way, or is as long as it likes.
struct Odd(u8);
impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("begun\n")?;
        match self.0 {
            0 => panic!("on purpose\nagain"),
            1 => Err(fmt::Error),
            _ => f.write_str(&"x\n".repeat(10_000)),
        }
    }
}
impl fmt::Debug for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl std::error::Error for Odd {}

#[test]
fn a_text_that_panics_or_fails_is_contained_and_told() {
    within(PATIENCE, || {
        let log = Logger::new(Trace, |_, _| {});
        let bus = EventBus::builder("Odd").middleware(LogEvents::new()).build().unwrap();
        (0..3).for_each(|how| {
            bus.on(move |_: &Event<Quiet>| Err::<(), _>(Odd(how)));
        });
        let event = done(&bus.emit(Quiet));
        assert_eq!(event.errors().len(), 3);
        is_a_tree(&event.log_tree_with(&wide()), 4);
        log.says("its text panicked: on purpose again");
        log.says("(its text failed)");
        log.heard().iter().for_each(|record| is_one_line(record));
        assert_eq!(log.naming(" failed after").len(), 3, "none of them is lost: {:#?}", log.heard());
    });
}

#[test]
fn a_tree_draws_every_event_that_it_counts() {
    let bus = EventBus::new("Circles");
    let id = |n: usize| format!("018f8e40-1234-7000-8000-{n:012}");
    let from = |n: usize, parent: usize| {
        let event = json!({ "event_type": format!("E{n}"), "event_id": id(n), "event_parent_id": id(parent) });
        done(&bus.emit_json(&event).unwrap());
    };
    // 1 and 2 are parents of each other, 3 and 4 are below; 5 to 7 are another circle; 8 is alone, and below what nobody knows.
    for (n, parent) in [(1, 2), (2, 1), (3, 2), (4, 3), (5, 6), (6, 7), (7, 5), (8, 99)] {
        from(n, parent);
    }
    let tree = bus.log_tree_with(&wide().ids(false).times(false));
    assert_eq!(tree.lines().next(), Some("Circles: 8 events"));
    for n in 1..=8 {
        assert_eq!(tree.matches(&format!("E{n}")).count(), 1, "{tree}");
    }
    assert!(
        tree.contains("\n├── ✅ E1\n") && tree.contains("\n├── ✅ E5\n") && tree.ends_with("\n└── ✅ E8\n"),
        "{tree}"
    );
    bus.shutdown(Shutdown::Drain, PATIENCE);
    assert_eq!(bus.log_tree_with(&wide().ids(false).times(false)), tree);
}

#[test]
fn thousands_in_one_circle_are_drawn() {
    let count = 2000;
    let bus = EventBus::builder("Circle").max_history(None).manual().build().unwrap();
    let id = |n: usize| format!("018f8e40-1234-7000-8000-{n:012}");
    for n in 0..count {
        let event = json!({ "event_type": "E", "event_id": id(n), "event_parent_id": id((n + 1) % count) });
        bus.emit_json(&event).unwrap();
    }
    let tree = within(PATIENCE, move || bus.log_tree_with(&wide()));
    assert!(tree.lines().next().unwrap().ends_with(": 2000 events"));
    assert_eq!(tree.lines().count(), 1 + count);
}

#[test]
fn the_last_tree_says_of_how_many_it_is() {
    let bus =
        EventBus::builder("Many").max_history(None).event_concurrency(EventConcurrency::Parallel).build().unwrap();
    (0..1200).for_each(|_| drop(bus.emit(Quiet)));
    idle(&bus);
    bus.shutdown(Shutdown::Drain, PATIENCE);
    let tree = bus.log_tree_with(&wide().ids(false));
    assert_eq!((tree.lines().next(), tree.lines().count()), (Some("Many: the last 1000 of 1200 events"), 1001));
}

#[test]
fn names_of_json_fields_are_shown_on_one_line() {
    let bus = EventBus::new("Fields");
    let long = format!("a\n\u{1b}[31m\u{202e}{}", "x".repeat(300));
    for event in [json!({ "event_type": "E", &long: 1 }), json!({ "event_type": "E\u{85}" })] {
        is_one_line(&bus.emit_json(&event).unwrap_err().to_string());
    }
    let twice = format!("{{\"event_type\": \"E\", {0}: 1, {0}: 2}}", json!("a\nb\u{2028}c"));
    is_one_line(&bus.emit_json_str(&twice).unwrap_err().to_string());
    let full = EventBus::builder("Full").queue_capacity(1, OnFull::Reject).build().unwrap();
    drop(full.emit_with(Quiet, EventOptions::new().label("a\nb")));
    let output = AnyOutput::new("a\nb");
    is_one_line(&format!("{output:?}"));
}
