//! External commands: BF-130 to 139, and what is beside the lines. Named after their IDs.
#![cfg(target_os = "linux")]

mod common;
mod workers;

use common::{
    Gate, PATIENCE, done, eventually, in_a_process_of_its_own, open_files, parallel, payload, warnings_naming, within,
};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use threadbus::process::{Captured, Command, CommandOutput, Input, Sink, run_command};
use threadbus::{Event, EventBus, EventOptions, HandlerFailure, HandlerOptions, ResultStatus, Retry, Shutdown};
use workers::commands::{bus, sh};
use workers::dir::Dir;
use workers::{exists, failure, group_members, is_running, number_in};

payload!(Late);

fn run(command: Command) -> CommandOutput {
    done(&bus().emit(command)).result().expect("it ran")
}

#[test]
fn bf_130_echo() {
    let output = run(Command::new("echo").arg("hello"));
    assert_eq!((output.code, output.signal, output.success()), (Some(0), None, true));
    assert_eq!((&*output.stdout.text(), &*output.stderr), ("hello\n", &b""[..]));
    // No bus, so no handler either.
    assert_eq!(Command::new("echo").arg("hello").run().expect("it ran").stdout, "hello\n".into());
}

#[test]
fn bf_131_cwd_env_and_args_without_a_shell() {
    let dir = Dir::new();
    assert_eq!(run(Command::new("pwd").cwd(&dir.0)).stdout.text().trim_end(), dir.0.to_str().expect("text"));
    let script = r#"printf '%s|' "$COLOUR" "${HOME-unset}" "$@""#;
    let command = sh(script).args(["sh", "two words", "$HOME", "a;b", ""]).env("COLOUR", "dark red").env_remove("HOME");
    assert_eq!(run(command).stdout.text(), "dark red|unset|two words|$HOME|a;b||");
    let bare = Command::new("/usr/bin/env").clear_env().env("ONLY", "this");
    assert_eq!(run(bare).stdout.text(), "ONLY=this\n");
}

#[test]
fn bf_133_not_found() {
    let event = done(&bus().emit(Command::new("no-such-program").arg("x")));
    let failed = failure(&event);
    assert_eq!(failed.downcast_ref::<io::Error>().map(io::Error::kind), Some(io::ErrorKind::NotFound));
    assert_eq!(failed.to_string(), r#"cannot run "no-such-program": start: No such file or directory (os error 2)"#);
}

#[test]
fn bf_134_an_exit_code_is_a_value() {
    let dir = Dir::new();
    let bus = EventBus::new("commands");
    bus.on_with(HandlerOptions::new().retry(Retry::attempts(3)), run_command);
    let event = done(&bus.emit(sh("echo once >> count; exit 42").cwd(&dir.0)));
    assert_eq!(event.result().expect("a value").code, Some(42));
    assert_eq!(event.results()[0].attempts, 1);
    assert_eq!(std::fs::read_to_string(dir.at("count")).expect("it is there"), "once\n");
}

/// The thread is back as soon as the command is ended, so nobody is told that it is lost; what it waited for is in the failure.
#[test]
fn a_timeout_is_no_warning_of_an_abandoned_thread() {
    let warnings = warnings_naming("abandoned");
    let bus = bus();
    let event = bus.emit_with(sh("sleep 30"), EventOptions::new().handler_timeout(Duration::from_millis(300)));
    let failed = failure(&done(&event));
    let HandlerFailure::TimedOut { detail, .. } = &*failed else { panic!("{failed}") };
    assert_eq!(detail.as_deref(), Some("waits for command sh"));
    let runtime = bus.runtime();
    eventually(|| runtime.stats().abandoned == 0);
    let own = event.to_string();
    let about_it: Vec<_> = warnings().into_iter().filter(|warning| warning.contains(&own)).collect();
    assert!(about_it.is_empty(), "{about_it:?}");
}

#[test]
fn bf_135_a_timeout_kills() {
    let dir = Dir::new();
    let bus = bus();
    let began = Instant::now();
    let event = bus.emit_with(
        sh("echo $$ > pid; exec sleep 30").cwd(&dir.0),
        EventOptions::new().handler_timeout(Duration::from_millis(1500)),
    );
    let pid = number_in(&dir.at("pid"));
    assert!(matches!(&*failure(&event), HandlerFailure::TimedOut { .. }));
    eventually(|| !exists(pid));
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn bf_136_a_stubborn_one_is_killed() {
    let dir = Dir::new();
    let bus = bus();
    let command = sh("trap '' TERM; echo $$ > pid; while :; do sleep 1; done").cwd(&dir.0);
    assert_eq!(command.kill_grace, Duration::from_secs(2));
    let event = bus.emit(command.kill_grace(Duration::from_millis(500)));
    let pid = number_in(&dir.at("pid"));
    let began = Instant::now();
    assert!(event.cancel());
    eventually(|| !exists(pid));
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(450) && took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn bf_137_grandchildren_too() {
    let dir = Dir::new();
    let bus = bus();
    let script = "sleep 300 & echo $! > child; (trap '' TERM; sleep 300 & sleep 300) & echo $! > other; wait";
    let event = bus.emit_with(
        sh(script).cwd(&dir.0).kill_grace(Duration::from_millis(200)),
        EventOptions::new().handler_timeout(Duration::from_millis(1500)),
    );
    let pids = [number_in(&dir.at("child")), number_in(&dir.at("other"))];
    let group = group_of(pids[0]);
    eventually(|| group_members(group).len() >= 4);
    assert!(matches!(&*failure(&event), HandlerFailure::TimedOut { .. }));
    eventually(|| group_members(group).is_empty());
    assert!(pids.iter().all(|pid| !is_running(*pid)));
}

fn group_of(pid: u32) -> u32 {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("not 0");
    rustix::process::getpgid(Some(pid)).expect("it runs").as_raw_pid().cast_unsigned()
}

#[test]
fn bf_139_a_signal() {
    let output = run(sh("kill -9 $$"));
    assert_eq!((output.code, output.signal, output.success()), (None, Some(9), false));
}

#[test]
fn a_hundred_megabytes_on_both_streams() {
    let output = within(PATIENCE * 3, || {
        let script = "head -c 104857600 /dev/zero & head -c 104857600 /dev/zero >&2; wait";
        done_late(&bus().emit(sh(script).max_capture(usize::MAX)))
    });
    assert_eq!((output.code, output.stdout.len(), output.stderr.len()), (Some(0), 100 << 20, 100 << 20));
}

fn done_late(event: &Event<Command>) -> CommandOutput {
    event.wait_timeout(PATIENCE * 3).expect("in time").result().expect("it ran")
}

#[test]
fn input_goes_in_while_output_comes_out() {
    let large = Captured::from(vec![b'x'; 10 << 20]);
    let output = run(Command::new("cat").stdin(Input::Bytes(large.clone())));
    assert_eq!(output.stdout, large);
    // Nobody has to read it.
    assert_eq!(run(Command::new("true").stdin(Input::Bytes(large))).code, Some(0));
    assert_eq!(run(Command::new("cat")).stdout, Captured::default());
}

#[test]
fn streams_go_where_they_are_sent() {
    let dir = Dir::new();
    let file = dir.at("out");
    let both = || sh("echo out; echo err >&2");
    let output = run(both().stdout(Sink::File(file.clone())).stderr(Sink::Stdout));
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), "out\nerr\n");
    run(both().stdout(Sink::Append(file.clone())).stderr(Sink::Null));
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), "out\nerr\nout\n");
    let output = run(both().stderr(Sink::Stdout));
    assert_eq!((&*output.stdout.text(), &*output.stderr.text()), ("out\nerr\n", ""));
    let output = run(both().stdout(Sink::Inherit).stderr(Sink::Inherit));
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
    for nowhere in [Sink::Null, Sink::Inherit] {
        let output = run(both().stdout(nowhere).stderr(Sink::Stdout).stdin(Input::Inherit));
        assert!(output.success() && output.stdout.is_empty() && output.stderr.is_empty());
    }
    let output = run(Command::new("cat").stdin(Input::File(file)));
    assert_eq!(output.stdout.text(), "out\nerr\nout\n");
}

#[test]
fn what_a_command_leaves_behind_ends_with_it() {
    let began = Instant::now();
    let output = run(sh("sleep 300 & echo $!"));
    let left_behind: u32 = output.stdout.text().trim_end().parse().expect("a number");
    eventually(|| !is_running(left_behind));
    assert!(began.elapsed() < PATIENCE);
}

#[test]
fn a_shutdown_ends_commands() {
    let dir = Dir::new();
    let bus = bus();
    let event = bus.emit(sh("echo $$ > pid; sleep 300").cwd(&dir.0));
    let pid = number_in(&dir.at("pid"));
    bus.shutdown(Shutdown::Now, PATIENCE);
    assert!(!exists(pid));
    assert!(event.is_completed());
}

#[test]
fn nothing_of_many_is_left() {
    let bus = Arc::new(parallel("parallel"));
    bus.on(run_command);
    let events: Vec<_> = (0..40).map(|n| bus.emit(sh(&format!("exit {n}")))).collect();
    for (n, event) in events.iter().enumerate() {
        assert_eq!(done(event).result().expect("it ran").code, i32::try_from(n).ok());
    }
    let hung: Vec<_> = (0..10).map(|_| bus.emit(sh("sleep 300"))).collect();
    for event in &hung {
        eventually(|| event.results().first().is_some_and(|result| result.status == ResultStatus::Started));
    }
    bus.shutdown(Shutdown::Now, PATIENCE);
    eventually(|| workers::zombies().is_empty());
}

#[test]
fn errors_name_the_field_and_its_value() {
    let error = |command: Command| command.run().map(drop).unwrap_err().to_string();
    let kind = |command: Command| command.run().map(drop).unwrap_err().io_kind();
    assert_eq!(error(Command::new("")), r#"cannot run "": program: is empty"#);
    assert_eq!(error(sh("true").stdout(Sink::Stdout)), r#"cannot run "sh": stdout: cannot go to itself"#);
    let missing = Command::new("true").cwd("/no/such/dir");
    assert_eq!(
        error(missing.clone()),
        r#"cannot run "true": cwd "/no/such/dir": No such file or directory (os error 2)"#
    );
    assert_eq!(kind(missing), Some(io::ErrorKind::NotFound));
    assert_eq!(
        error(Command::new("true").cwd("/dev/null")),
        r#"cannot run "true": cwd: "/dev/null" is not a directory"#
    );
    assert!(
        error(Command::new("true").stderr(Sink::File("/no/such/file".into()))).contains(r#"stderr "/no/such/file": "#)
    );
    assert!(
        error(Command::new("true").stdin(Input::File("/no/such/file".into()))).contains(r#"stdin "/no/such/file": "#)
    );
    assert_eq!(kind(Command::new("/dev/null")), Some(io::ErrorKind::PermissionDenied));
    assert!(error(Command::new("echo").arg("a\0b")).contains("nul byte"));
    assert_eq!(Command::new("/dev/null").run().map(drop).unwrap_err().program(), "/dev/null");
}

#[test]
fn long_output_is_shown_by_its_beginning() {
    let output = sh("yes | head -n 100000; echo short >&2").run().expect("it ran");
    let shown = format!("{output:?}");
    assert!(shown.len() < 1000 && shown.contains("(200000 bytes)") && shown.contains(r#""short\n""#), "{shown}");
}

#[test]
fn a_handler_that_was_given_up_starts_no_command() {
    let (dir, bus) = (Dir::new(), EventBus::new("late"));
    let (gate, file) = (Gate::new(), dir.at("made"));
    let _open = gate.opener();
    let (stands, (said, heard)) = (gate.clone(), channel());
    let touch = Command::new("touch").arg(&file);
    bus.on(move |_: &Event<Late>| {
        stands.wait();
        said.send(touch.run().map(drop)).expect("somebody listens");
    });
    done(&bus.emit_with(Late, EventOptions::new().handler_timeout(Duration::from_millis(20))));
    gate.open();
    let ran = heard.recv_timeout(PATIENCE).expect("it answers");
    assert!(ran.is_err_and(|error| error.to_string().starts_with(r#"cannot run "touch": start: "#)) && !file.exists());
}

#[test]
fn a_command_is_json_there_and_back() {
    let command =
        sh("cat").cwd("/tmp").env("A", "1").env_remove("B").stdin(Input::Bytes("in".into())).stderr(Sink::Stdout);
    let json = serde_json::to_value(&command).expect("it can be");
    assert_eq!(json["args"], serde_json::json!(["-c", "cat"]));
    assert_eq!(json["env"], serde_json::json!({ "A": "1", "B": null }));
    assert_eq!(serde_json::from_value::<Command>(json).expect("it can be"), command);
    let short: Command = serde_json::from_value(serde_json::json!({ "program": "true" })).expect("it can be");
    assert_eq!(short, Command::new("true"));
    let output = run(sh(r"printf '\377\000'; echo fine >&2"));
    let json = serde_json::to_value(&output).expect("it can be");
    assert_eq!((&json["stdout"], &json["stderr"]), (&serde_json::json!([255, 0]), &serde_json::json!("fine\n")));
    assert_eq!(serde_json::from_value::<CommandOutput>(json).expect("it can be").stdout, output.stdout);
}

#[test]
fn commands_that_are_through_hold_no_file() {
    in_a_process_of_its_own("commands_that_are_through_hold_no_file", || {
        payload!(Many { n: usize } => usize);
        let bus = bus();
        bus.on(|many: &Event<Many>| -> Result<usize, threadbus::HandlerError> {
            let mut most = 0;
            for _ in 0..many.n {
                Command::new("true").run()?;
                most = most.max(open_files());
            }
            Ok(most)
        });
        let before = open_files();
        let few = before + 40;
        for _ in 0..60 {
            done(&bus.emit(Command::new("true"))).result().expect("it ran");
        }
        assert!(open_files() < few, "{} files, {before} before, and 60 commands", open_files());
        let most = done(&bus.emit(Many { n: 60 })).result().expect("they ran");
        assert!(most < few, "{most} files in a handler that runs 60 commands, {before} before");
        // Given up in the middle of one: the guard of each before it found its hook gone, and the last one's ran.
        let event =
            bus.emit_with(Many { n: usize::MAX }, EventOptions::new().handler_timeout(Duration::from_millis(200)));
        done(&event);
        eventually(|| open_files() < few);
    });
}
