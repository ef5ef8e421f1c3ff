//! How commands start: their signals, their session and terminal, their files.
#![cfg(target_os = "linux")]

mod common;
mod workers;

use common::{PATIENCE, done, eventually, within};
use nix::sys::signal::{SigSet, Signal};
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use threadbus::process::{Command, Input, Sink, run_command};
use threadbus::{EventBus, EventOptions, HandlerFailure, Runtime};
use workers::commands::sh;
use workers::dir::Dir;
use workers::{exists, failure, number_in};

/// Where a command may be started from: each is a way of its own.
fn with_and_without_a_directory(command: &Command) -> [Command; 2] {
    [command.clone(), command.clone().cwd("/")]
}

/// Which signals a command has blocked and ignored, bit by bit. Without the two that the C library keeps for itself, and sets when it wants.
fn signals(command: Command) -> [u64; 2] {
    let status = command.args(["-E", "^Sig(Blk|Ign)", "/proc/self/status"]).run().expect("it runs").stdout;
    ["SigBlk", "SigIgn"].map(|name| {
        let text = status.text();
        let line = text.lines().find(|line| line.starts_with(name)).expect("it is there");
        let digits = line.split_whitespace().last().expect("a number");
        u64::from_str_radix(digits, 16).expect("digits") & !(0b11 << 31)
    })
}

const NONE: &str = "0000000000000000";

fn blocked() -> SigSet {
    let mut set = SigSet::empty();
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD, Signal::SIGUSR1].iter().for_each(|signal| set.add(*signal));
    set
}

#[test]
fn no_signal_is_blocked_whatever_this_thread_blocks() {
    blocked().thread_block().expect("it may");
    for grep in with_and_without_a_directory(&Command::new("grep")) {
        assert_eq!(signals(grep), [0, 0]);
    }
    // For programs that they start in turn, too, and with `Input::Inherit`.
    for child in with_and_without_a_directory(&sh("grep SigBlk /proc/self/status; true").stdin(Input::Inherit)) {
        let output = child.run().expect("it runs");
        assert!(output.stdout.text().ends_with(&format!("{NONE}\n")), "{output:?}");
    }
    assert_eq!(SigSet::thread_get_mask().expect("it has one"), blocked());
}

/// A daemon blocks SIGTERM in all its threads, to read it by `sigwait`.
#[test]
fn sigterm_ends_a_command_though_this_process_blocks_it() {
    blocked().thread_block().expect("it may");
    let runtime = Runtime::builder().build().expect("it can be built");
    let bus = EventBus::builder("tools").runtime(&runtime).build().expect("it can be built");
    bus.on(run_command);
    for sleep in with_and_without_a_directory(&Command::new("sleep").arg("300").kill_grace(Duration::from_secs(300))) {
        let event = bus.emit_with(sleep, EventOptions::new().handler_timeout(Duration::from_millis(200)));
        assert!(matches!(&*failure(&done(&event)), HandlerFailure::TimedOut { .. }));
        // Not before the grace is over, if the signal waited.
        eventually(|| runtime.stats().abandoned == 0 && bus.is_idle());
    }
}

/// Never fewer signals are blocked than this thread says, not for an instant: one that came then would end the process.
#[test]
fn this_process_keeps_its_mask() {
    blocked().thread_block().expect("it may");
    let own = std::fs::read_link("/proc/thread-self").expect("a Linux /proc");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        let (mut looks, mut masks) = (0, Vec::new());
        while stopped.try_recv().is_err() {
            let status =
                std::fs::read_to_string(std::path::Path::new("/proc").join(&own).join("status")).expect("it runs");
            let line = status.lines().find(|line| line.starts_with("SigBlk")).expect("it is there");
            let mask = u64::from_str_radix(line.split_whitespace().last().expect("a number"), 16).expect("digits");
            if !masks.contains(&mask) {
                masks.push(mask);
            }
            looks += 1;
        }
        (looks, masks)
    });
    for _ in 0..20 {
        for command in with_and_without_a_directory(&Command::new("true")) {
            assert!(command.run().expect("it runs").success());
        }
    }
    stop.send(()).expect("it listens");
    let (looks, masks) = watch.join().expect("no panic");
    let mine = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD, Signal::SIGUSR1];
    let mine = mine.iter().fold(0, |mask, signal| mask | 1 << (*signal as u64 - 1));
    assert!(looks > 0 && masks.iter().all(|mask| mask & mine == mine), "{masks:x?}");
}

/// Set where this program is to be another.
const PART: &str = "THREADBUS_TEST_PART";

/// The parts of this program that need a process of their own. Says what happened.
#[test]
fn part_main() {
    let Ok(part) = std::env::var(PART) else { return };
    // The test harness has begun a line.
    println!();
    match part.as_str() {
        "signals" => println!("signals {:?}", with_and_without_a_directory(&Command::new("grep")).map(signals)),
        "signals below" => {
            let below = sh("grep SigIgn /proc/self/status; true").run().expect("it runs");
            println!("below {}", below.stdout.text());
        }
        "asks the terminal" => {
            let asked = sh("read answer < /dev/tty").run().expect("it runs");
            println!("asked {:?} {}", asked.code, asked.stderr.text());
            let written = sh("echo x > /dev/tty").run().expect("it runs");
            println!("written {:?}", written.code);
            let with_files = sh("tty").cwd("/").run().expect("it runs");
            println!("tty {}", with_files.stdout.text());
        }
        "reads the terminal" => {
            let answer = sh("read answer; echo heard $answer; read again < /dev/tty; echo and $again");
            println!("{}", answer.stdin(Input::Inherit).run().expect("it runs").stdout.text());
        }
        "is ended at the terminal" => {
            let bus = EventBus::new("tools");
            bus.on(run_command);
            let asks = sh("read answer; read more").stdin(Input::Inherit).kill_grace(Duration::from_millis(100));
            let event = bus.emit_with(asks, EventOptions::new().handler_timeout(Duration::from_millis(300)));
            println!("ended {}", failure(&done(&event)));
            eventually(|| bus.runtime().stats().abandoned == 0);
        }
        "dies at the terminal" => {
            let file = std::env::var("THREADBUS_TEST_FILE").expect("a path");
            let script = format!("trap '' HUP; echo $$ > {file}; exec sleep 300");
            std::thread::spawn(move || sh(&script).stdin(Input::Inherit).run());
            number_in(&PathBuf::from(file));
            std::process::abort();
        }
        other => panic!("{other}?"),
    }
    println!("done");
}

fn part(name: &str) -> Vec<String> {
    let program = std::env::current_exe().expect("it has one");
    let args = ["part_main", "--exact", "--nocapture", "--test-threads=1"].map(str::to_owned);
    [vec![program.to_string_lossy().into_owned()], args.to_vec(), vec![name.to_owned()]].concat()
}

fn says(mut program: std::process::Command, input: &'static str) -> String {
    within(PATIENCE * 2, move || {
        let mut program = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut stdin = program.stdin.take().expect("it is piped");
        stdin.write_all(input.as_bytes()).expect("it listens");
        // Open until it has ended: the end of input would end what is behind the terminal.
        let text = std::io::read_to_string(program.stdout.take().expect("it is piped")).expect("text");
        drop(stdin);
        program.wait().expect("it ran");
        text.replace('\r', "")
    })
}

/// This part under a shell that ignores these signals.
fn ignoring(name: &str) -> String {
    let mut program = std::process::Command::new("sh");
    let line = part(name);
    program.args(["-c", r#"trap '' TERM INT HUP QUIT USR1 CHLD; exec "$0" "$@""#]).args(&line[..line.len() - 1]);
    program.env(PART, name);
    says(program, "")
}

#[test]
fn no_signal_is_ignored_whatever_this_process_ignores() {
    let text = ignoring("signals");
    assert!(text.contains("signals [[0, 0], [0, 0]]\n"), "{text}");
    let text = ignoring("signals below");
    assert!(text.contains("SigIgn:\t00000001") || text.contains(NONE), "{text}");
}

/// Runs a part of this program in the foreground of a terminal. `script` of util-linux gives it one.
fn at_a_terminal(name: &str, input: &'static str, file: Option<PathBuf>) -> String {
    let line = part(name);
    let quoted: Vec<_> = line[..line.len() - 1].iter().map(|word| format!("'{word}'")).collect();
    let mut program = std::process::Command::new("script");
    program.args(["-qec", &quoted.join(" "), "/dev/null"]).env(PART, name);
    if let Some(file) = file {
        program.env("THREADBUS_TEST_FILE", file);
    }
    says(program, input)
}

#[test]
fn a_command_has_no_terminal_to_stop_at() {
    let text = at_a_terminal("asks the terminal", "", None);
    assert!(text.contains("asked Some(") && text.contains("/dev/tty"), "{text}");
    assert!(!text.contains("asked Some(0)") && !text.contains("written Some(0)"), "{text}");
    assert!(text.contains("tty not a tty") && text.contains("done"), "{text}");
}

#[test]
fn one_that_inherits_its_input_may_ask_there() {
    let text = at_a_terminal("reads the terminal", "blue\nred\n", None);
    assert!(text.contains("heard blue\nand red\n") && text.contains("done"), "{text}");
}

#[test]
fn one_that_asks_is_ended_with_its_handler() {
    let text = at_a_terminal("is ended at the terminal", "", None);
    assert!(text.contains("ended timed out") && text.contains("done"), "{text}");
}

#[test]
fn one_that_asks_is_ended_with_its_process() {
    let dir = Dir::new();
    at_a_terminal("dies at the terminal", "", Some(dir.at("pid")));
    let pid = number_in(&dir.at("pid"));
    eventually(|| !exists(pid));
}

/// Session, group and own number of a command.
fn place(command: Command) -> (String, String, String) {
    let stat = command.args(["/proc/self/stat"]).run().expect("it runs").stdout;
    let text = stat.text().into_owned();
    let numbers: Vec<_> = text.rsplit(')').next().expect("a name").split_whitespace().map(str::to_owned).collect();
    let own = text.split_whitespace().next().expect("a number").to_owned();
    (numbers[3].clone(), numbers[2].clone(), own)
}

#[test]
fn a_command_leads_a_session_unless_it_inherits_its_input() {
    let ours = place(Command::new("cat").stdin(Input::Inherit)).0;
    for cat in with_and_without_a_directory(&Command::new("cat")) {
        let (session, group, own) = place(cat.clone());
        assert_eq!((&session, &group), (&own, &own));
        let (session, group, own) = place(cat.stdin(Input::Inherit));
        assert_eq!(session, ours);
        assert_ne!(group, own);
    }
}

#[test]
fn a_command_has_its_three_files_and_none_of_ours() {
    // What is open in this process, whatever for: some may be inherited by all that it starts.
    let numbers = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let list = std::process::Command::new("ls").arg("/proc/self/fd").stderr(Stdio::null()).output().expect("it runs");
    let usual = numbers(&String::from_utf8_lossy(&list.stdout));
    let _ours = [std::io::pipe(), std::io::pipe()].map(|pipe| pipe.expect("room for it"));
    let list = Command::new("ls").arg("/proc/self/fd");
    for list in with_and_without_a_directory(&list) {
        assert_eq!(numbers(&list.run().expect("it runs").stdout.text()), usual);
    }
    // Without a pipe it has one more, by which its guardian would find it.
    let dir = Dir::new();
    list.stdout(Sink::File(dir.at("list"))).stderr(Sink::Null).run().expect("it runs");
    let listed = numbers(&std::fs::read_to_string(dir.at("list")).expect("it is there"));
    assert_eq!(listed.len(), usual.len() + 1, "{listed:?}, else {usual:?}");
}

/// Names are looked for as the standard library does.
#[test]
fn programs_are_found_in_the_commands_own_path() {
    let dir = Dir::new();
    let write = |name: &str, text: &str, mode| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(dir.at(name), text).expect("room for it");
        std::fs::set_permissions(dir.at(name), std::fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    write("only-here", "#!/bin/sh\necho here $0 $1\n", 0o755);
    write("no-first-line", "echo plain $1\n", 0o755);
    write("not-to-run", "#!/bin/sh\n", 0o644);
    let here = dir.0.to_str().expect("text");
    let in_path = |name: &str| Command::new(name).arg("x").env("PATH", format!("/no/such:{here}:/bin:/usr/bin"));
    for name in with_and_without_a_directory(&in_path("only-here")) {
        assert_eq!(name.run().expect("it runs").stdout.text(), format!("here {here}/only-here x\n"));
    }
    for name in with_and_without_a_directory(&in_path("no-first-line")) {
        assert_eq!(name.run().expect("it runs").stdout.text(), "plain x\n");
    }
    assert!(Command::new("only-here").run().is_err());
    for name in with_and_without_a_directory(&in_path("not-to-run")) {
        assert_eq!(name.run().unwrap_err().io_kind(), Some(std::io::ErrorKind::PermissionDenied));
    }
    for name in with_and_without_a_directory(&Command::new("echo").arg("bare").clear_env()) {
        assert_eq!(name.run().expect("it runs").stdout.text(), "bare\n");
    }
    let odd = Command::new("/usr/bin/env").clear_env().env("a.b", "1").env("C-D", "two words");
    for odd in with_and_without_a_directory(&odd) {
        let text = odd.run().expect("it runs").stdout.text().into_owned();
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["C-D=two words", "a.b=1"]);
    }
}
