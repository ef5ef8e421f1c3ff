//! What must hold for any event that a program makes: `to_json` writes what `emit_json` takes, and refuses what that refuses, for the same reason. Shared by
//! `json_written.rs` and the fuzz target in `fuzz/`, which both make events of bytes.

use serde::{Deserialize, Serialize};
use serde_json::Map;
use std::time::Duration;
use threadbus::{
    Codec, Event, EventBus, EventConcurrency, EventOptions, HandlerCompletion, HandlerConcurrency, Json, Payload,
    Priority,
};

/// Chooses by bytes; when they are used up, the first of everything.
pub struct Choices<'a>(pub &'a [u8]);

impl<'a> Choices<'a> {
    fn byte(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first)
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.byte() % n == n - 1
    }

    fn of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.byte() % list.len()].clone()
    }

    fn word(&mut self) -> u64 {
        (0..8).fold(0, |word, _| word << 8 | self.byte() as u64)
    }

    fn text(&mut self) -> String {
        const PIECES: [&str; 16] = [
            "a",
            "B",
            "_",
            " ",
            "\t",
            "\n",
            "\u{1b}[31m",
            "\0",
            "é",
            "\u{202e}",
            "\u{2028}",
            "\"",
            "\\",
            "#1234",
            "*",
            "😀",
        ];
        let pieces = match self.byte() % 16 {
            0 => 0,
            15 => 250 + self.byte() % 20,
            few => few,
        };
        // Mostly one that is taken.
        let all = if self.one_in(3) { 16 } else { 4 };
        (0..pieces).map(|_| PIECES[self.byte() % all]).collect()
    }

    fn nested(&mut self, levels: usize) -> Json {
        let leaf = self.leaf();
        (0..levels).fold(leaf, |inner, level| if level % 2 == 0 { Json::from([inner]) } else { field("in", inner) })
    }

    fn leaf(&mut self) -> Json {
        match self.byte() % 8 {
            0 => Json::Null,
            1 => Json::from(true),
            2 => Json::from(self.word()),
            3 => Json::from(self.word() as i64),
            4 => Json::from(f64::from_bits(self.word())),
            5 => Json::from(-0.0),
            _ => Json::from(self.text()),
        }
    }

    fn value(&mut self) -> Json {
        let levels = match self.byte() {
            ..128 => 0,
            few @ 128..160 => few - 128,
            many => many / 2,
        };
        self.nested(levels)
    }

    fn time(&mut self) -> Option<Duration> {
        match self.byte() % 8 {
            0..=2 => None,
            3 => Some(Duration::MAX),
            4 => Some(Duration::from_nanos(self.word())),
            5 => Some(Duration::new(self.word(), 999_999_999)),
            6 => Some(Duration::from_secs(u64::MAX - self.word() % 4096)),
            _ => Some(Duration::from_millis(self.byte() as u64)),
        }
    }
}

fn field(name: &str, value: Json) -> Json {
    Json::Object(Map::from_iter([(name.to_owned(), value)]))
}

/// Types and versions that programs may have; some of them nobody reads.
const TYPES: [(&str, &str); 8] = [
    ("Bag", "0.0.1"),
    ("Bag<A, B>", "größer"),
    ("a\u{202e}b", "1"),
    ("", "0.0.1"),
    ("*", "0.0.1"),
    ("a\tb", "1"),
    ("Bag", ""),
    ("Bag", "1\n"),
];

/// Any fields, under any of those names.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
struct Bag<const TYPE: usize>(Map<String, Json>);

impl<const TYPE: usize> Payload for Bag<TYPE> {
    type Output = Json;
    fn event_type() -> &'static str {
        TYPES[TYPE].0
    }
    fn version() -> &'static str {
        TYPES[TYPE].1
    }
    fn codec() -> Option<Codec<Self>> {
        Some(Codec::serde())
    }
}

/// Panics if something does not hold; true if it was written.
pub fn check(bytes: &[u8]) -> bool {
    let mut choices = Choices(bytes);
    let chosen = if choices.one_in(2) { choices.byte() } else { choices.byte() % 3 };
    match chosen % TYPES.len() {
        0 => check_type::<0>(choices),
        1 => check_type::<1>(choices),
        2 => check_type::<2>(choices),
        3 => check_type::<3>(choices),
        4 => check_type::<4>(choices),
        5 => check_type::<5>(choices),
        6 => check_type::<6>(choices),
        _ => check_type::<7>(choices),
    }
}

/// No thread runs it.
fn bus(name: &str) -> EventBus {
    EventBus::builder(name).manual().build().unwrap()
}

fn check_type<const TYPE: usize>(mut choices: Choices<'_>) -> bool {
    let here = bus(&if choices.one_in(4) { format!("Here {}", choices.text()) } else { "Here".to_owned() });
    let result = choices.one_in(3).then(|| choices.value());
    let returned = result.clone();
    here.on(move |_: &Event<Bag<TYPE>>| returned.clone());

    let fields = (0..choices.byte() % 4).map(|_| (choices.text(), choices.value()));
    let mut payload: Map<_, _> = fields.collect();
    if choices.one_in(16) {
        payload.insert(choices.of(&["event_x", "model_", "event_"]).to_owned(), Json::Null);
    }
    let times = [choices.time(), choices.time(), choices.time(), choices.time()];
    let concurrency = choices.of(&[None, Some(EventConcurrency::Parallel), Some(EventConcurrency::GlobalSerial)]);
    let mode = choices.of(&[None, Some(HandlerConcurrency::EventSerial), Some(HandlerConcurrency::BusSerial)]);
    let completion = choices.of(&[None, Some(HandlerCompletion::All)]);
    let priority = choices.of(&[None, Priority::new(0), Priority::new(10)]);
    let correlation = choices.one_in(2).then(|| choices.text());

    let mut options = EventOptions::new();
    let set: [fn(EventOptions, Duration) -> EventOptions; 4] = [
        EventOptions::timeout,
        EventOptions::handler_timeout,
        EventOptions::slow_after,
        EventOptions::handler_slow_after,
    ];
    for (set, time) in set.into_iter().zip(times) {
        options = time.map_or(options.clone(), |time| set(options, time));
    }
    options = concurrency.map_or(options.clone(), |mode| options.concurrency(mode));
    options = mode.map_or(options.clone(), |mode| options.handler_concurrency(mode));
    options = completion.map_or(options.clone(), |completion| options.completion(completion));
    options = priority.map_or(options.clone(), |priority| options.priority(priority));
    options = correlation.iter().fold(options, |options, id| options.correlation_id(id.as_str()));

    let event = here.emit_with(Bag::<TYPE>(payload.clone()), options);
    here.run_pending();

    let value = event.results().first().and_then(|result| result.value.clone());
    let mut by_hand = Json::Object(payload.clone());
    by_hand["event_type"] = TYPES[TYPE].0.into();
    by_hand["event_version"] = TYPES[TYPE].1.into();
    by_hand["event_correlation_id"] = correlation.map_or(Json::Null, Json::from);
    by_hand["event_path"] = Json::from([here.label()]);
    let names = ["event_timeout", "event_handler_timeout", "event_slow_timeout", "event_handler_slow_timeout"];
    for (name, time) in names.into_iter().zip(times) {
        by_hand[name] = time.map_or(Json::Null, |time| time.as_secs_f64().into());
    }
    by_hand["event_results"] = Json::from([field("result", value.unwrap_or(Json::Null))]);

    let taken = |event: &Json| bus("There").emit_json(event).map(drop).map_err(|error| error.to_string());
    match event.to_json() {
        Ok(json) => {
            assert_eq!(taken(&by_hand), Ok(()), "what is written is taken: {json}");
            comes_back::<TYPE>(&json);
            true
        }
        // Only a writer can tell whose field that is.
        Err(error) if payload.keys().any(|name| name.starts_with("event_") || name.starts_with("model_")) => {
            assert!(error.to_string().ends_with("is reserved"), "{error}");
            false
        }
        Err(error) => {
            assert_eq!(taken(&by_hand), Err(error.to_string()), "what is refused is not taken");
            false
        }
    }
}

/// As an object and as text, by a bus that knows the type and by one that does not.
fn comes_back<const TYPE: usize>(json: &Json) {
    let (knows, does_not) = (bus("Knows"), bus("DoesNot"));
    let _known = knows.subscribe::<Bag<TYPE>>();
    let again = [
        bus("Text").emit_json_str(&json.to_string()),
        bus("Pretty").emit_json_str(&serde_json::to_string_pretty(json).unwrap()),
        knows.emit_json(json),
        does_not.emit_json(json),
    ];
    assert!(again[2].as_ref().is_ok_and(|event| event.is::<Bag<TYPE>>()));
    for event in again {
        let event = event.expect("what was written is read");
        let mut second = event.to_json().expect("and can be written again");
        let mut first = json.clone();
        for json in [&mut first, &mut second] {
            for of_a_run in ["status", "started_at", "completed_at", "pending_bus_count", "results", "path"] {
                json[format!("event_{of_a_run}")] = Json::Null;
            }
        }
        assert_eq!(first, second);
    }
}
