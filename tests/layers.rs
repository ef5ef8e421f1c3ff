//! The direction of layers: no import in `src` goes up or sideways, only `sys` is a door to threads, locks and clocks, and only `process` to
//! processes. Only `sys` calls the program's logger, which is the user's code; there is no other way to it than its `logging`.
//!
//! This reads names, not types. Comments (so links in documentation), strings and test code may mention what they like.

#[path = "layers/circles.rs"]
mod circles;
#[path = "layers/parse.rs"]
mod parse;

use parse::{NamedPath, Parsed, module_of};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

/// From the ground up. A room imports from itself and from earlier lines.
const LAYERS: &[&[&str]] = &[
    &["sys", "exact"],
    &["sync"],
    &["event"],
    &["rules"],
    &["runtime"],
    &["bus"],
    &[
        "find",
        "subscribe",
        "batch",
        "schedule",
        "scope",
        "context",
        "dead_letter",
        "metrics",
        "health",
        "log_tree",
        "json",
    ],
    &["middleware", "process", "bridge", "testing"],
];

/// Exceptions within a line: the first may import the second.
const SIDEWAYS: &[(&str, &str)] = &[("scope", "subscribe"), ("health", "metrics")];

/// What only `sys` may name; `core` counts as `std`.
const DOORS: &[&[&str]] = &[
    &["std", "sync", "atomic"],
    &["std", "sync", "mpsc"],
    &["std", "sync", "Barrier"],
    &["std", "sync", "Condvar"],
    &["std", "sync", "Mutex"],
    &["std", "sync", "RwLock"],
    &["std", "thread"],
    &["parking_lot"],
    &["crossbeam_channel"],
];
/// What only `process` may name.
const PROCESSES: &[&[&str]] =
    &[&["std", "process"], &["std", "os", "unix", "process"], &["nix"], &["process_wrap"], &["rustix"]];
/// Of the crate `log`, what anybody may name: it calls nobody.
const LEVELS: &[&str] = &["Level", "LevelFilter"];
/// And what `process` may: a worker process has a logger of its own.
const WORKERS_LOGGER: &[&str] = &["Log", "Metadata", "Record", "max_level", "set_logger", "set_max_level"];
/// What only `sys` may name, at any place of a path. `Instant` as a type is free.
const CLOCKS: &[&[&str]] = &[&["Instant", "now"], &["Utc", "now"], &["SystemTime"]];

#[test]
fn imports_go_down() -> io::Result<()> {
    let mut sources = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut sources)?;
    let found = violations(&sources);
    assert!(found.is_empty(), "{} violations of the layers:\n{}", found.len(), found.join("\n"));
    Ok(())
}

/// No file can be understood before those that it imports. `cargo test --test layers no_circle -- --nocapture` prints the arrows and the lines.
#[test]
fn no_circle_of_files() -> io::Result<()> {
    let mut sources = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut sources)?;
    let graph = circles::Graph::of(&sources);
    println!("{graph}");
    let circles: Vec<_> = graph.circles().iter().map(|circle| circle.join(" → ")).collect();
    assert!(circles.is_empty(), "{} circles of files:\n{}", circles.len(), circles.join("\n"));
    Ok(())
}

/// The folders of `bus`, from the ground up: a file imports from its own and from earlier ones.
const BUS: &[&str] =
    &["parts", "core", "thread", "permits", "middleware", "end", "run", "wait", "emit", "manual", "read", "handle"];

#[test]
fn the_folders_of_the_bus_go_down() -> io::Result<()> {
    let mut sources = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut sources)?;
    for folder in BUS {
        assert!(sources.iter().any(|(file, _)| *file == format!("bus/{folder}/")), "there is no src/bus/{folder}");
    }
    let found = circles::Graph::of(&sources).climbs("bus", BUS);
    assert!(found.is_empty(), "{} imports go up:\n{}", found.len(), found.join("\n"));
    Ok(())
}

/// Path below `src`, with `/`, and content; the content of what is not Rust is left out.
type Source = (String, String);

fn collect(dir: &Path, below: &str, sources: &mut Vec<Source>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = format!("{below}{}", path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() {
            sources.push((format!("{name}/"), String::new()));
            collect(&path, &format!("{name}/"), sources)?;
        } else {
            let rust = path.extension().is_some_and(|extension| extension == "rs");
            sources.push((name, if rust { fs::read_to_string(&path)? } else { String::new() }));
        }
    }
    sources.sort();
    Ok(())
}

/// One line each: file, line, and what is wrong there.
fn violations(sources: &[Source]) -> Vec<String> {
    let parsed: Vec<_> = sources.iter().map(|(file, text)| (file, Parsed::new(file, text))).collect();
    let exports = parsed.iter().find(|(file, _)| *file == "lib.rs").map_or_else(BTreeMap::new, |(_, lib)| exports(lib));
    let tests: BTreeSet<_> = parsed.iter().flat_map(|(_, parsed)| &parsed.test_modules).collect();
    let mut found = Vec::new();
    for (file, parsed) in &parsed {
        let module = module_of(file);
        let room = module.first().map_or("", String::as_str);
        if !room.is_empty() && layer(room).is_none() {
            let top = !file.trim_end_matches('/').contains('/');
            found.extend(top.then(|| format!("src/{file}: {room} is in no layer; add it to tests/layers.rs")));
        } else if !(1..=module.len()).any(|length| tests.contains(&module[..length].to_vec())) {
            for path in &parsed.paths {
                let wrong = layer_violation(room, path, &exports).or_else(|| door_violation(room, path));
                found.extend(wrong.map(|wrong| format!("src/{file}:{}: {wrong}", path.line)));
            }
        }
    }
    found.dedup();
    found
}

/// In `lib.rs`: which room a name at the root comes from.
fn exports(lib: &Parsed) -> BTreeMap<String, String> {
    let from_rooms = lib.paths.iter().filter_map(|path| {
        let inner = path.absolute.as_ref().unwrap_or(&path.segments);
        let room = inner.first().filter(|room| inner.len() > 1 && layer(room).is_some())?;
        Some((path.alias.as_ref().or(inner.last())?.clone(), room.clone()))
    });
    from_rooms.collect()
}

fn layer(room: &str) -> Option<usize> {
    LAYERS.iter().position(|rooms| rooms.contains(&room))
}

fn layer_violation(room: &str, path: &NamedPath, exports: &BTreeMap<String, String>) -> Option<String> {
    let inner = path.absolute.as_ref().filter(|_| !room.is_empty())?;
    let Some(name) = inner.first() else {
        return Some(format!("{room} takes the whole crate by `{path}`"));
    };
    let target = if layer(name).is_some() { Some(name) } else { exports.get(name) };
    match target {
        _ if path.is_macro && inner.len() == 1 => None,
        None => Some(format!("{room} uses `{path}`, which is no room and not exported by lib.rs")),
        Some(target) if target == room || layer(target) < layer(room) => None,
        Some(target) if SIDEWAYS.contains(&(room, target)) => None,
        Some(target) => Some(format!("{room} may not import {target} (`{path}`)")),
    }
}

fn door_violation(room: &str, path: &NamedPath) -> Option<String> {
    let segments: Vec<_> = path.segments.iter().map(|s| if s == "core" { "std" } else { s }).collect();
    // Behind a glob, or a module imported as a whole, anything may come in without being named.
    let whole = |door: &[&str]| door.starts_with(&segments) && (path.glob || (segments.len() > 1 && path.ends_import));
    let leads = |doors: &[&[&str]]| doors.iter().any(|door| segments.starts_with(door) || whole(door));
    let clock = CLOCKS.iter().any(|clock| segments.windows(clock.len()).any(|window| window == *clock));
    let only = |owner: &str, wrong: bool| (room != owner && wrong).then(|| format!("only {owner} may use `{path}`"));
    let calls_logger = match segments[..] {
        ["log"] => path.alias.is_some(),
        ["log", name, ..] => !(LEVELS.contains(&name) || room == "process" && WORKERS_LOGGER.contains(&name)),
        _ => false,
    };
    only("sys", leads(DOORS) || clock || calls_logger || path.glob && segments == ["log"])
        .or_else(|| only("process", leads(PROCESSES)))
}

mod the_checker {
    use super::violations;

    /// What is wrong with `text` as `src/FILE`, beside a `lib.rs` that exports some names.
    fn check(file: &str, text: &str) -> Vec<String> {
        let lib = "mod bus; pub use bus::{EventBus, queue::Queue as Line}; pub use crate::event::Event;";
        violations(&[(file.to_owned(), text.to_owned()), ("lib.rs".to_owned(), lib.to_owned())])
    }

    fn bites(file: &str, text: &str, wrong: &[&str]) {
        let found = check(file, text);
        let expected: Vec<_> = wrong.iter().map(|wrong| format!("src/{file}:{wrong}")).collect();
        assert_eq!(found, expected, "in:\n{text}");
    }

    fn passes(file: &str, text: &str) {
        bites(file, text, &[]);
    }

    #[test]
    fn passes_imports_from_below_and_from_the_own_room() {
        passes(
            "bus/queue.rs",
            "use crate::event::{Event, state::{self, State}};\nuse crate::{sys, sync::Bell as B};\n",
        );
        passes(
            "bus/queue.rs",
            "use super::registry::Registry; use self::inner::X; use crate::bus::lanes; pub(crate) fn f() {}",
        );
        passes(
            "event.rs",
            "mod model { use super::*; pub(in crate::event) fn f(x: super::X) { self.crate_id as usize; } }",
        );
        passes("bridge/mod.rs", "use crate::json::Json;\nuse crate::{EventBus, Event};");
        passes("lib.rs", "pub use testing::Harness; use crate::sys::clock;");
    }

    #[test]
    fn bites_an_upward_import() {
        bites(
            "event/state.rs",
            "use std::fmt;\nuse crate::bus::Queue;",
            &["2: event may not import bus (`crate::bus::Queue`)"],
        );
        bites("sync/bell.rs", "pub use crate::event;", &["1: sync may not import event (`crate::event`)"]);
    }

    #[test]
    fn bites_a_sideways_import() {
        bites("find.rs", "use crate::batch::Batch;", &["1: find may not import batch (`crate::batch::Batch`)"]);
        bites("bridge/mod.rs", "use crate::testing::T;", &["1: bridge may not import testing (`crate::testing::T`)"]);
    }

    #[test]
    fn bites_every_leaf_of_a_group() {
        let text = "use crate::{\n    sys::clock,\n    bus::{self, Queue as Q},\n    runtime::{pool::{Pool}, *},\n};";
        let wrong = [
            "3: event may not import bus (`crate::bus`)",
            "3: event may not import bus (`crate::bus::Queue`)",
            "4: event may not import runtime (`crate::runtime::pool::Pool`)",
            "4: event may not import runtime (`crate::runtime::*`)",
        ];
        bites("event/state.rs", text, &wrong);
        bites("sys/mod.rs", "use {std::fmt, crate::sync::A};", &["1: sys may not import sync (`crate::sync::A`)"]);
    }

    #[test]
    fn bites_an_inline_path() {
        let text = "fn f<'a>(x: &'a str) -> Vec<crate::bus::Queue> {\n let c = '\"'; crate::find::find::<u8>(x)\n}";
        let wrong =
            ["1: event may not import bus (`crate::bus::Queue`)", "2: event may not import find (`crate::find::find`)"];
        bites("event/state.rs", text, &wrong);
        bites(
            "rules/mod.rs",
            "macro_rules! m { () => { $crate::bus::x() } }",
            &["1: rules may not import bus (`crate::bus::x`)"],
        );
    }

    #[test]
    fn bites_an_escape_by_super() {
        bites("event/state.rs", "use super::super::bus::Q;", &["1: event may not import bus (`super::super::bus::Q`)"]);
        bites("event/mod.rs", "use super::bus::Q;", &["1: event may not import bus (`super::bus::Q`)"]);
        bites(
            "event.rs",
            "mod a { mod b {} fn f() { super::super::bus::q() } }",
            &["1: event may not import bus (`super::super::bus::q`)"],
        );
        passes("event/state/deep.rs", "use super::super::Event; use super::State;");
    }

    #[test]
    fn bites_the_way_round_by_the_root() {
        bites("event/mod.rs", "use crate::Line;", &["1: event may not import bus (`crate::Line`)"]);
        bites(
            "event/mod.rs",
            "use crate::Unheard;",
            &["1: event uses `crate::Unheard`, which is no room and not exported by lib.rs"],
        );
        for text in ["use crate::*;", "use super::*;", "use crate as root;", "use crate::{self as root};"] {
            assert_eq!(check("event/mod.rs", text).len(), 1, "{text}");
        }
        passes("event/mod.rs", "use crate::Event; crate::event!(Tick); crate::some_macro! { x }");
    }

    #[test]
    fn ignores_comments_strings_and_tests() {
        passes(
            "event/mod.rs",
            "//! [`EventBus`](crate::bus::EventBus)\n/// `crate::bus::X`\n/* /* use crate::bus::X; */ std::thread */",
        );
        passes(
            "event/mod.rs",
            r##"const A: &str = "\"crate::bus::X"; const B: &str = r#"" crate::bus::X"#; const C: &[u8] = b"crate::bus";"##,
        );
        passes("event/mod.rs", "#[cfg(test)]\nmod tests { use crate::bus::X; fn f() { std::thread::sleep(D) } }");
        passes(
            "event/mod.rs",
            "#[cfg(test)] #[allow(x)] use crate::bus::{X, Y};\n#[cfg(all(test, unix))] const fn f() { crate::bus::x() }",
        );
        passes("event/mod.rs", "#![cfg(test)]\nuse crate::bus::X;");
    }

    #[test]
    fn test_code_ends_where_it_ends() {
        let wrong = ["2: event may not import bus (`crate::bus::X`)"];
        for test in [
            "use a::{B, C};",
            "fn f<const N: usize>() -> [u8; 2] {}",
            "mod tests;",
            "const A: B = B { c: 1 };",
            "struct S(u8);",
        ] {
            bites("event/mod.rs", &format!("#[cfg(test)] {test}\nuse crate::bus::X;"), &wrong);
        }
        bites("event/mod.rs", "#[cfg(not(test))]\nuse crate::bus::X;", &wrong);
    }

    #[test]
    fn files_that_are_test_modules_do_not_count() {
        let source = |file: &str, text: &str| (file.to_owned(), text.to_owned());
        let bad = source("event/model/a.rs", "use crate::bus::X;");
        assert!(violations(&[source("event/mod.rs", "#[cfg(test)]\nmod model;"), bad.clone()]).is_empty());
        assert_eq!(violations(&[source("event/mod.rs", "mod model;"), bad]).len(), 1);
    }

    #[test]
    fn a_room_that_is_not_listed_is_named() {
        for file in ["helpers.rs", "helpers/", "notes.md"] {
            let found = check(file, "");
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with(&format!("src/{file}: ")), "{found:?}");
        }
        passes("bus/README.md", "");
    }

    #[test]
    fn only_process_starts_processes() {
        for text in [
            "use std::process::Command;",
            "use std::os::unix::process::CommandExt;",
            "use rustix::process::Pid;",
            "use nix::spawn::posix_spawn;",
            "use process_wrap::std::CommandWrap;",
            "fn f() -> ! { std::process::abort() }",
        ] {
            let found = check("bus/mod.rs", text);
            assert!(found.len() == 1 && found[0].contains("1: only process may use "), "{text}: {found:?}");
            passes("process/mod.rs", text);
        }
    }

    #[test]
    fn only_sys_calls_the_logger() {
        for text in [
            r#"fn f() { log::warn!(target: "threadbus", "late") }"#,
            r#"fn f() { ::log::error!("late") }"#,
            "fn f() { if log::log_enabled!(log::Level::Debug) {} }",
            "fn f() { log::logger().flush() }",
            "use log::{Level, info};",
            "use log::*;",
            "use log as l;",
        ] {
            for file in ["bus/mod.rs", "process/workers/lines.rs", "middleware/mod.rs"] {
                let found = check(file, text);
                assert!(found.len() == 1 && found[0].contains("1: only sys may use "), "{text}: {found:?}");
            }
            passes("sys/logging.rs", text);
        }
        for text in ["use log::{Log, Metadata, Record};", "fn f() { log::set_max_level(log::max_level()) }"] {
            assert!(check("bus/mod.rs", text).iter().all(|found| found.contains("1: only sys may use ")), "{text}");
            assert!(!check("bus/mod.rs", text).is_empty(), "{text}");
            passes("process/workers/outlet.rs", text);
        }
        passes("bus/mod.rs", "use log::Level; fn f(log: log::LevelFilter) { g(log, log.n); logging::warn!(\"x\") }");
    }

    #[test]
    fn only_sys_is_a_door() {
        for text in [
            "use std::sync::atomic::AtomicBool;",
            "use std::{fmt, sync::{Arc, atomic::{AtomicU8}}};",
            "use core::sync::atomic;",
            "use std::sync;",
            "use std::sync::{self, Arc};",
            "use std::sync::*;",
            "use std::sync::Mutex;",
            "fn f() { ::std::thread::yield_now() }",
            "use parking_lot::Mutex;",
            "use crossbeam_channel::{Sender};",
            "fn f() { let now = std::time::Instant::now(); }",
            "fn f() { let now = Instant::now; }",
            "use std::time::{Duration, SystemTime};",
            "fn f() -> DateTime<Utc> { Utc::now() }",
        ] {
            let found = check("event/mod.rs", text);
            assert!(found.len() == 1 && found[0].contains("1: only sys may use "), "{text}: {found:?}");
            passes("sys/clock.rs", text);
        }
        passes(
            "event/mod.rs",
            "use std::sync::{Arc, OnceLock, Weak}; use std::time::{Duration, Instant}; fn f(at: Instant) {}",
        );
        passes("event/mod.rs", "use crate::sys::{sync, thread}; fn f() { sync::atomic::fence(x); thread::name() }");
    }
}

mod the_graph {
    use crate::circles::Graph;

    fn circles(sources: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<_> = sources.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect();
        Graph::of(&sources).circles().iter().map(|circle| circle.join(" ")).collect()
    }

    #[test]
    fn a_circle_is_found_however_long() {
        let (a, b, c) = ("use crate::bus::b::B;", "use super::c; struct B;", "fn f() { crate::bus::a::f() }");
        let sources = [("bus/mod.rs", "mod a; mod b; mod c;"), ("bus/a.rs", a), ("bus/b.rs", b), ("bus/c.rs", c)];
        assert_eq!(circles(&sources), ["bus/a.rs bus/b.rs bus/c.rs"]);
        assert!(circles(&sources[..3]).is_empty());
    }

    #[test]
    fn what_comes_through_a_re_export_counts_for_the_file_that_defines_it() {
        let (room, lib) = ("mod a; mod b; pub(crate) use a::{A, Other as Named};", "mod bus; pub use bus::A;");
        let with = |b, a| circles(&[("lib.rs", lib), ("bus/mod.rs", room), ("bus/a.rs", a), ("bus/b.rs", b)]);
        for b in ["use super::A;", "use crate::A;", "use crate::bus::Named;", "use crate::bus::{b, A};"] {
            assert_eq!(with(b, "use crate::bus::b::B;"), ["bus/a.rs bus/b.rs"], "{b}");
        }
        assert!(with("use crate::A;", "struct A;").is_empty());
        assert!(with("use crate::A;", "#[cfg(test)] mod tests { use crate::bus::b::B; }").is_empty());
        // What the room's own file says, and its files use.
        let own = [("bus/mod.rs", "mod a; use a::A; fn f() {}"), ("bus/a.rs", "use super::f; struct A;")];
        assert_eq!(circles(&own), ["bus/a.rs bus/mod.rs"]);
    }

    #[test]
    fn an_import_of_a_higher_folder_is_found() {
        let file = |file: &str, text: &str| (file.to_owned(), text.to_owned());
        let sources = [
            file("bus/mod.rs", "mod low; mod high; pub(crate) use high::b::B;"),
            file("bus/low/mod.rs", "pub(crate) mod a; pub(crate) mod c;"),
            file("bus/low/a.rs", "use crate::bus::B; use super::c::C;"),
            file("bus/low/c.rs", "use crate::bus::top::T; #[cfg(test)] mod tests { use crate::bus::B; }"),
            file("bus/high/mod.rs", "pub(crate) mod b;"),
            file("bus/high/b.rs", "use crate::bus::low::a::A; struct B;"),
            file("bus/top.rs", "use crate::bus::B;"),
        ];
        let found = Graph::of(&sources).climbs("bus", &["low", "high"]);
        assert_eq!(found, ["bus/low/a.rs → bus/high/b.rs", "bus/low/c.rs → bus/top.rs"]);
        let unlisted =
            ["bus/high/b.rs is in no folder that is listed", "bus/high/mod.rs is in no folder that is listed"];
        assert_eq!(Graph::of(&sources).climbs("bus", &["low"])[..2], unlisted);
    }
}
