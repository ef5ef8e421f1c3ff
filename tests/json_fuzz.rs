//! Damaged events, made of whole ones by chance: each is refused or goes through, and nothing panics, hangs or grows.
//!
//! A second by default; `THREADBUS_FUZZ_SECONDS` says how long, `THREADBUS_SEED` where to begin. The same check under
//! libFuzzer, which follows the code: `fuzz/README.md`.

mod common;
#[path = "common/json_check.rs"]
mod json_check;
#[path = "common/random.rs"]
mod random;

use common::{PATIENCE, done};
use random::Random;
use serde_json::{Value as Json, json};
use std::path::Path;
use std::time::{Duration, Instant};
use threadbus::{AnyOutput, Event, EventBus, JsonError};

struct Dice(Random);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0.below(sides.max(1) as u64) as usize
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.roll(list.len())]
    }
}

fn seconds() -> u64 {
    std::env::var("THREADBUS_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Of the fuzz target, and the files of other implementations.
fn seeds() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for directory in ["fuzz/seeds/event", "tests/data/wire"] {
        let files = std::fs::read_dir(root.join(directory)).unwrap().map(|file| file.unwrap().path());
        paths.extend(files.filter(|path| path.extension().is_some_and(|extension| extension == "json")));
    }
    paths.sort();
    assert!(paths.len() > 20, "{paths:?}");
    paths.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u0000",
    "\\ud83d\\ude00",
    "\\ud800",
    "null",
    "true",
    "-0",
    "0.1",
    "1e308",
    "1e999",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "-9223372036854775809",
    "1.7976931348623157e308",
    "\"event_type\":",
    "\"event_id\":",
    "\"event_path\":",
    "\"event_timeout\":",
    "\"event_created_at\":",
    "\"event_results\":",
    "\"event_priority\":",
    "\"event_x\":1,",
    "\"model_x\":1,",
    "\"a\":{\"a\":",
    "[[[[[[[[[[[[[[[[",
    "]]]]]]]]]]]]]]]]",
    "\"UserLogin\"",
    "\"018f8e40-1234-7000-8000-000000001234\"",
    "\"2025-01-02T03:04:05.678901234Z\"",
    "\"0000-01-01T00:00:00+23:59\"",
    " \t\r\n",
    "é",
    "\u{feff}",
];

/// Bytes are changed, moved and mixed.
fn damage(dice: &mut Dice, text: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=dice.roll(4) {
        let at = dice.roll(text.len() + 1);
        let end = (at + dice.roll(20)).min(text.len());
        match dice.roll(7) {
            0 if at < text.len() => text[at] ^= 1 << dice.roll(8),
            1 if at < text.len() => text[at] = dice.roll(256) as u8,
            2 => drop(text.drain(at..end)),
            3 => drop(text.splice(at..at, text[at..end].to_vec().repeat(dice.roll(50)))),
            4 => drop(text.splice(at..end, dice.of(WORDS).bytes())),
            5 => drop(text.splice(at..at, dice.of(WORDS).bytes())),
            _ => {
                let from = dice.roll(other.len() + 1);
                let to = (from + dice.roll(200)).min(other.len());
                drop(text.splice(at..end, other[from..to].iter().copied()));
            }
        }
    }
}

fn inside<'json>(dice: &mut Dice, at: &'json mut Json) -> &'json mut Json {
    let inner = at.as_object().map(|fields| fields.len()).or(at.as_array().map(Vec::len)).unwrap_or(0);
    if inner == 0 {
        return at;
    }
    let chosen = dice.roll(inner);
    match at {
        Json::Object(fields) => fields.values_mut().nth(chosen).unwrap(),
        Json::Array(items) => &mut items[chosen],
        other => other,
    }
}

/// It stays JSON: one value is another.
fn change(dice: &mut Dice, event: &mut Json) {
    let mut at = event;
    for _ in 0..dice.roll(5) {
        at = inside(dice, at);
    }
    let fresh = match dice.roll(10) {
        0 => Json::Null,
        1 => json!(dice.roll(2) == 0),
        2 => json!(dice.roll(12)),
        3 => json!(u64::MAX - dice.roll(3) as u64),
        4 => json!(-(dice.roll(1000) as f64) / 7.0),
        5 => json!(f64::from_bits((dice.roll(1 << 31) as u64) << 33 | dice.roll(1 << 31) as u64)),
        6 => json!(["serial", "first", "completed", "Main#1234", "", "*"][dice.roll(6)]),
        7 => json!([at.take()]),
        8 => json!({ "in": at.take() }),
        _ => json!("x".repeat(dice.roll(400))),
    };
    match at {
        Json::Object(fields) if dice.roll(2) == 0 => {
            let names =
                ["event_timeout", "event_path", "event_x", "model_x", "n", "event_id", "event_priority", "é", ""];
            fields.insert(dice.of(&names).to_string(), fresh);
        }
        _ => *at = fresh,
    }
}

/// A bus on which they run, whatever their options are.
fn live() -> EventBus {
    let bus = EventBus::new("Live");
    bus.subscribe::<json_check::UserLogin>();
    bus.on(|tick: &Event<json_check::Tick>| drop(tick.to_json()));
    bus.on_any(|event| event.to_json().map(AnyOutput::json));
    bus
}

#[test]
fn any_bytes_are_refused_or_go_through() {
    let (seeds, live) = (seeds(), live());
    let seed = std::env::var("THREADBUS_SEED").ok().and_then(|text| text.parse().ok());
    let mut seed: u64 =
        seed.unwrap_or_else(|| Instant::now().elapsed().as_nanos() as u64 ^ u64::from(std::process::id()) << 20);
    let until = Instant::now() + Duration::from_secs(seconds());
    let (mut tried, mut events) = (0_u64, 0_u64);
    while Instant::now() < until {
        // Each round can be had again by its seed alone.
        seed = seed.wrapping_add(1);
        let mut dice = Dice(Random::new(seed));
        let mut text = dice.of(&seeds).clone();
        let parsed = serde_json::from_slice::<Json>(&text);
        if let (Ok(mut event), 0..3) = (parsed, dice.roll(4)) {
            (0..=dice.roll(2)).for_each(|_| change(&mut dice, &mut event));
            text = event.to_string().into_bytes();
        } else {
            let other = dice.of(&seeds);
            damage(&mut dice, &mut text, other);
        }
        let started = Instant::now();
        let outcome = std::panic::catch_unwind(|| json_check::check(&text));
        let Ok(event) = outcome else {
            panic!("THREADBUS_SEED={} fails on {}", seed.wrapping_sub(1), String::from_utf8_lossy(&text))
        };
        assert!(started.elapsed() < Duration::from_secs(5), "seed {seed} took {:?}", started.elapsed());
        tried += 1;
        events += u64::from(event);
        if event && events % 8 == 0 {
            let ran = match live.emit_json_slice(&text) {
                // Made from the same seed as one before it, with the same id.
                Err(JsonError::OtherContent { .. }) => continue,
                ran => ran.unwrap(),
            };
            let waited = ran.wait_timeout(PATIENCE);
            assert!(ran.is_completed(), "seed {seed}: {waited:?}");
            match ran.to_json() {
                // It was as long or as deep as it may be, has one bus more on its way, and a result that holds it once more.
                Err(JsonError::PathTooLong { .. } | JsonError::TooLarge { .. } | JsonError::TooDeep { .. }) => {}
                json => assert_eq!(json.unwrap()["event_status"], "completed"),
            }
        }
    }
    assert!(live.to_json().unwrap()["event_history"].is_object());
    eprintln!("{tried} tried, {events} of them events, last seed {seed}");
    assert!(tried > 20 && events > 0);
}

#[test]
fn the_seeds_are_what_their_names_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/event");
    let bus = EventBus::builder("Seeds").max_history(None).build().unwrap();
    bus.subscribe::<json_check::UserLogin>();
    bus.subscribe::<json_check::FetchPage>();
    bus.subscribe::<json_check::Tick>();
    for file in std::fs::read_dir(root).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).unwrap();
        json_check::check(&bytes);
        match bus.emit_json_slice(&bytes) {
            Ok(event) => {
                assert!(name.starts_with("ok-"), "{name} was taken");
                assert!(done(&event).to_json().is_ok(), "{name}");
            }
            Err(error) => assert!(!name.starts_with("ok-"), "{name}: {error}"),
        }
    }
}
