//! What commands write: how much is kept, lines as they come, what failures show of it, and where it may not go.
#![cfg(target_os = "linux")]

mod common;
mod workers;

use common::{PATIENCE, capped, done, eventually, payload};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use threadbus::process::{Command, CommandError, CommandOutput, Input, Sink, run_command, run_command_by_line};
use threadbus::{Event, EventBus, EventOptions, HandlerFailure, HandlerOptions, Retry};
use workers::commands::{bus, sh};
use workers::dir::Dir;
use workers::{exists, failure, number_in, with_command_line};

fn timed_out(failed: &HandlerFailure) -> String {
    let HandlerFailure::TimedOut { detail, .. } = failed else { panic!("{failed}") };
    detail.as_deref().expect("it was at a command").to_owned()
}

#[test]
fn a_timeout_shows_what_was_written_until_then() {
    let hung = done(&bus().emit_with(sh("echo step 1; echo step 2 >&2; exec sleep 300"), capped(1500)));
    let told = r#"waits for command sh, which wrote "step 1\n" and wrote to its error output "step 2\n""#;
    assert_eq!(timed_out(&failure(&hung)), told);
    let quiet = done(&bus().emit_with(sh("exec sleep 300"), capped(300)));
    assert_eq!(timed_out(&failure(&quiet)), "waits for command sh");
}

/// Its own time, its event's, a cancel, a shutdown: what it wrote is not lost.
#[test]
fn every_way_to_give_it_up_shows_what_was_written() {
    for way in ["event", "cancel", "parent", "shutdown"] {
        payload!(Outer);
        let bus = EventBus::new("commands");
        let (read, line) = std::sync::mpsc::channel();
        bus.on(run_command_by_line(move |_, _| read.send(()).expect("somebody listens")));
        let command = sh("echo step 1; exec sleep 300");
        let child = command.clone();
        let (said, heard) = std::sync::mpsc::channel();
        bus.on(move |outer: &Event<Outer>| {
            let child = outer.bus().emit(child.clone());
            said.send(child.clone()).expect("somebody listens");
            child.wait().map(drop)
        });
        let own = if way == "event" { Some(Duration::from_millis(1000)) } else { None };
        let (event, outer) = match way {
            "parent" => {
                let outer = bus.emit(Outer);
                (heard.recv_timeout(PATIENCE).expect("it runs"), Some(outer))
            }
            _ => (
                bus.emit_with(command, own.map_or_else(EventOptions::new, |own| EventOptions::new().timeout(own))),
                None,
            ),
        };
        line.recv_timeout(PATIENCE).expect("it writes one");
        match way {
            "event" => {}
            "cancel" => assert!(event.cancel()),
            "parent" => assert!(outer.expect("there is one").cancel()),
            _ => drop(bus.shutdown(threadbus::Shutdown::Now, PATIENCE)),
        }
        eventually(|| event.is_completed());
        let failed = event.errors()[0].to_string();
        assert!(failed.ends_with(r#"waits for command sh, which wrote "step 1\n""#), "{way}: {failed}");
    }
}

#[test]
fn of_much_a_timeout_shows_the_end_from_a_whole_character_on() {
    let script =
        "for i in 1 2 3 4 5 6 7 8; do printf %01000d 0 | sed s/0/世/g; done; printf '\nlast line\n'; exec sleep 300";
    let hung = done(&bus().emit_with(sh(script), capped(2500)));
    let detail = timed_out(&failure(&hung));
    assert!(detail.starts_with("waits for command sh, which wrote …\"世世"), "{}", detail.get(..60).unwrap_or(&detail));
    assert!(detail.ends_with("世世\\nlast line\\n\"") && detail.len() < 5000 && !detail.contains('\u{fffd}'));
}

/// The handler that is given up has the whole of it.
#[test]
fn a_command_that_is_given_up_answers_with_what_it_wrote() {
    payload!(Outer);
    let bus = EventBus::new("outer");
    let (said, heard) = std::sync::mpsc::channel();
    bus.on(move |_: &Event<Outer>| {
        let ran = sh("echo begun; echo warned >&2; exec sleep 300").run();
        said.send(ran).expect("somebody listens");
    });
    for cancel in [false, true] {
        let event = bus.emit_with(Outer, capped(if cancel { 100_000 } else { 800 }));
        if cancel {
            eventually(|| !with_command_line("sleep 300").is_empty());
            event.cancel();
        }
        let error = heard.recv_timeout(PATIENCE).expect("it answers").expect_err("it was given up");
        let output = error.output().expect("it ran");
        assert_eq!((&*output.stdout.text(), &*output.stderr.text(), output.signal), ("begun\n", "warned\n", Some(15)));
        let text = r#"; it wrote "begun\n" and wrote to its error output "warned\n""#;
        assert!(error.to_string().starts_with(r#"cannot run "sh": ended: "#) && error.to_string().ends_with(text));
    }
}

#[test]
fn a_check_makes_any_other_end_an_error_with_what_was_written() {
    assert_eq!(sh("echo fine").check(true).run().expect("code 0").stdout, "fine\n".into());
    let error = sh("echo out; echo err >&2; exit 7").check(true).run().unwrap_err();
    let output = error.output().expect("it ran");
    assert_eq!((output.code, output.signal, &*output.stdout.text()), (Some(7), None, "out\n"));
    let text = r#""sh" exited with code 7; it wrote "out\n" and wrote to its error output "err\n""#;
    assert_eq!((error.to_string().as_str(), error.io_kind()), (text, None));
    let error = sh("kill -9 $$").check(true).run().unwrap_err();
    assert_eq!(error.to_string(), r#""sh" was killed by signal 9 (SIGKILL)"#);
    let error = Command::new("no-such-program").check(true).run().unwrap_err();
    assert!(error.output().is_none() && error.io_kind() == Some(std::io::ErrorKind::NotFound));
    let command: Command = serde_json::from_str(r#"{ "program": "false", "check": true, "max_capture": 3 }"#).unwrap();
    assert_eq!(command, Command::new("false").check(true).max_capture(3));
    assert!(command.run().is_err());
}

/// Retries, dead letters, redrive and metrics know no difference.
#[test]
fn a_failed_check_is_a_failure_like_any_other() {
    let dir = Dir::new();
    let bus = EventBus::builder("commands").dead_letters(10).build().expect("it can be built");
    bus.on_with(HandlerOptions::new().retry(Retry::attempts(3)), run_command);
    let script = format!("cd {:?}; echo x >> tries; [ -e good ] || exit 5", dir.0);
    let event = done(&bus.emit(sh(&script).check(true)));
    let failed = failure(&event);
    let error = failed.downcast_ref::<CommandError>().expect("it is in there");
    assert_eq!(error.output().and_then(|output| output.code), Some(5));
    let lines = || std::fs::read_to_string(dir.at("tries")).expect("it is there").lines().count();
    assert_eq!((event.results()[0].attempts, lines()), (3, 3));
    assert_eq!((bus.metrics().failed, bus.metrics().retries), (1, 2));
    let letters = bus.dead_letters();
    assert_eq!(letters.len(), 1);
    assert!(letters[0].error.to_string().contains("exited with code 5"), "{}", letters[0].error);
    std::fs::write(dir.at("good"), "").expect("room for it");
    assert_eq!(bus.redrive(10).succeeded, 1);
    assert!(bus.dead_letters().is_empty());
    assert_eq!(lines(), 4);
    // What cannot be started, and what is too slow, make letters, too.
    done(&bus.emit(Command::new("no-such-program")));
    done(&bus.emit_with(sh("echo half; exec sleep 300"), capped(400).retry(Retry::attempts(1))));
    let texts: Vec<_> = bus.dead_letters().iter().map(|letter| letter.error.to_string()).collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(texts.iter().any(|text| text.contains(r#"which wrote "half\n""#)), "{texts:?}");
}

fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a Linux /proc");
    let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("it is there");
    line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number") / 1024
}

/// `THREADBUS_GIGABYTES` for more than half of one.
#[test]
fn however_much_it_writes_the_end_is_kept() {
    let gigabytes: f64 = std::env::var("THREADBUS_GIGABYTES").ok().and_then(|n| n.parse().ok()).unwrap_or(0.5);
    let bytes = (gigabytes * 1e9) as u64;
    let before = peak_memory();
    let script = format!("head -c {bytes} /dev/zero; printf 'the end'; echo small >&2");
    let output = sh(&script).run().expect("it ran");
    assert_eq!((output.stdout.len(), output.stdout_lost), (16 << 20, bytes + 7 - (16 << 20)));
    assert!(output.stdout.ends_with(b"\0\0the end"));
    assert_eq!((&*output.stderr.text(), output.stderr_lost), ("small\n", 0));
    // Other tests of this process may want some as well.
    assert!(peak_memory() < before + 200, "{} MB, {before} before", peak_memory());
}

#[test]
fn what_never_stops_writing_is_ended_by_its_timeout() {
    let before = peak_memory();
    let event = done(&bus().emit_with(Command::new("yes"), capped(1000)));
    assert!(timed_out(&failure(&event)).ends_with(r#"y\ny\n""#));
    assert!(peak_memory() < before + 200, "{} MB, {before} before", peak_memory());
    eventually(|| with_command_line("yes").iter().all(|pid| !is_child(*pid)));
}

fn is_child(pid: u32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let behind_the_name = text.rsplit(')').next().unwrap_or_default();
    behind_the_name.split_whitespace().nth(1) == Some(&std::process::id().to_string())
}

#[test]
fn the_kept_end_begins_with_a_whole_character() {
    for most in 0..12 {
        let output = Command::new("printf").arg("aé世😀世").max_capture(most).run().expect("it ran");
        let text = output.stdout.text().into_owned();
        assert!("aé世😀世".ends_with(&text) && text.len() <= most && text.len() + 4 > most, "{most}: {text}");
        assert_eq!(text.len() as u64 + output.stdout_lost, 13, "{most}");
    }
    let output = Command::new("printf").arg("aé世😀世").max_capture(13).run().expect("it ran");
    assert_eq!((&*output.stdout.text(), output.stdout_lost), ("aé世😀世", 0));
}

#[test]
fn what_is_shown_of_an_output_ends_with_a_whole_character() {
    let output = sh("printf %0400d 0 | sed s/0/世/g; echo").run().expect("it ran");
    let shown = format!("{output:?}");
    assert!(shown.contains("世世\"… (1201 bytes)") && !shown.contains('\u{fffd}'), "{shown}");
}

fn lines_of(command: &Command) -> (Vec<(bool, String)>, CommandOutput) {
    let mut lines = Vec::new();
    let output = command.run_by_line(|line| lines.push((line.is_error(), line.to_string()))).expect("it ran");
    (lines, output)
}

#[test]
fn lines_come_in_the_order_of_their_stream() {
    let script = "i=0; while [ $i -lt 300 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done; printf 'no end'";
    let (lines, output) = lines_of(&sh(script));
    for (is_error, name) in [(false, "out"), (true, "err")] {
        let of_it = lines.iter().filter(|line| line.0 == is_error && line.1 != "no end").map(|line| line.1.as_str());
        assert!(of_it.eq((0..300).map(|n| format!("{name} {n}"))));
    }
    assert!(lines.contains(&(false, "no end".to_owned())));
    assert_eq!((lines.len(), output.stderr.text().lines().count()), (601, 300));
    // Long ones, in pieces; as one stream; without being kept.
    let (lines, output) = lines_of(&sh("printf %0100000d 0 | sed s/0/世/g; echo; echo last >&2").stderr(Sink::Stdout));
    let text: String = lines.iter().map(|line| line.1.as_str()).collect();
    assert_eq!((text.chars().count(), text.ends_with("世last"), output.stdout.len()), (100_004, true, 300_006));
    assert!(lines.iter().all(|line| line.1.len() <= 64 * 1024) && !text.contains('\u{fffd}'));
    let (lines, output) = lines_of(&sh("echo one; echo two").max_capture(0));
    assert_eq!((lines.len(), output.stdout.len(), output.stdout_lost), (2, 0, 8));
    let (lines, _) = lines_of(&sh("echo a file").stdout(Sink::Null));
    assert!(lines.is_empty());
}

/// The command waits for what the callback does, so they come before it ends.
#[test]
fn lines_come_as_they_are_written() {
    let dir = Dir::new();
    let script = "echo ready; while [ ! -e go ]; do sleep 0.01; done; echo gone";
    let ran = sh(&format!("cd {:?}; {script}", dir.0)).run_by_line(|line| {
        if line.text() == "ready" {
            std::fs::write(dir.at("go"), "").expect("room for it");
        }
    });
    assert_eq!(ran.expect("it ran").stdout.text(), "ready\ngone\n");
}

#[test]
fn lines_become_events() {
    payload!(Said { text: String });
    let bus = EventBus::new("builds");
    bus.on(run_command_by_line(|build, line| drop(build.bus().emit(Said { text: line.to_string() }))));
    static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
    bus.on(|said: &Event<Said>| SEEN.lock().expect("nobody panics").push(said.text.clone()));
    let build = done(&bus.emit(sh("echo one; echo two; echo three")));
    assert!(build.result().expect("it ran").success());
    assert_eq!(*SEEN.lock().expect("nobody panics"), ["one", "two", "three"]);
    // One that waits for what it emits; the command's own handler is further down on the thread.
    let bus = EventBus::new("waits");
    bus.on(run_command_by_line(|build, line| {
        build.bus().emit(Said { text: line.to_string() }).wait_timeout(PATIENCE).expect("it jumps the queue");
    }));
    bus.on(|_: &Event<Said>| ());
    assert!(done(&bus.emit(sh("echo one; echo two"))).result().expect("it ran").success());
}

#[test]
fn a_callback_that_panics_ends_its_command() {
    let dir = Dir::new();
    let bus = EventBus::new("builds");
    bus.on(run_command_by_line(|_, line| panic!("no {line}")));
    let event = done(&bus.emit(sh(&format!("cd {:?}; echo $$ > pid; echo more; exec sleep 300", dir.0))));
    assert_eq!(failure(&event).to_string(), "handler panicked: no more");
    let pid = number_in(&dir.at("pid"));
    assert!(!exists(pid));
}

#[test]
fn two_outputs_to_one_file_are_refused_unless_both_append() {
    let dir = Dir::new();
    let (one, link, hard) = (dir.at("one"), dir.at("link"), dir.at("hard"));
    std::fs::write(&one, "kept").expect("room for it");
    std::os::unix::fs::symlink(&one, &link).expect("room for it");
    std::fs::hard_link(&one, &hard).expect("room for it");
    let both = || sh("echo out; echo err >&2");
    let dotted = dir.0.join(".").join("one");
    for other in [&one, &link, &hard, &dotted] {
        let pairs = [
            (Sink::File(one.clone()), Sink::File(other.clone())),
            (Sink::File(one.clone()), Sink::Append(other.clone())),
            (Sink::Append(other.clone()), Sink::File(one.clone())),
        ];
        for (stdout, stderr) in pairs {
            let error = both().stdout(stdout).stderr(stderr).run().expect_err("one would overwrite the other");
            assert!(error.to_string().contains("is where stdout goes, too"), "{error}");
            assert_eq!(std::fs::read_to_string(&one).expect("it is there"), "kept");
        }
        let run = both().stdout(Sink::Append(one.clone())).stderr(Sink::Append(other.clone())).run();
        assert!(run.expect("both append").success());
        assert_eq!(std::fs::read_to_string(&one).expect("it is there"), "keptout\nerr\n");
        std::fs::write(&one, "kept").expect("room for it");
    }
    let (new, null) = (dir.at("new"), Path::new("/dev/null").to_owned());
    let twice = both().stdout(Sink::File(new.clone())).stderr(Sink::File(new.clone())).run();
    assert!(twice.is_err());
    assert!(both().stdout(Sink::File(null.clone())).stderr(Sink::File(null)).run().expect("no place in it").success());
    let fine = both().stdout(Sink::File(new.clone())).stderr(Sink::File(one.clone())).run();
    assert!(fine.expect("two files").success());
    assert_eq!(std::fs::read_to_string(&new).expect("it is there"), "out\n");
    assert_eq!(std::fs::read_to_string(&one).expect("it is there"), "err\n");
}

/// While one thread writes a script, others start processes, which have it open until they are what they are to be. `THREADBUS_SCRIPTS` for
/// more than 400.
#[test]
fn a_program_that_was_just_written_runs() {
    let all: u32 = std::env::var("THREADBUS_SCRIPTS").ok().and_then(|n| n.parse().ok()).unwrap_or(400);
    let (dir, next) = (Dir::new(), AtomicU32::new(0));
    let open = || std::fs::read_dir("/proc/self/fd").expect("a Linux /proc").count();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= all {
                        break;
                    }
                    let script = dir.at(&format!("script-{number}"));
                    std::fs::write(&script, format!("#!/bin/sh\necho {number}\n")).expect("room for it");
                    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
                    let output = Command::new(&script).run().expect("it runs");
                    assert_eq!(output.stdout.text(), format!("{number}\n"));
                    std::fs::remove_file(script).expect("it is ours");
                }
            });
        }
    });
    assert!(workers::zombies().is_empty());
    assert!(open() < 100, "{}", open());
}

/// Somebody has it open for longer: that is an error, and a wait that ends with the handler.
#[test]
fn a_program_that_stays_open_for_writing_is_an_error() {
    let dir = Dir::new();
    let program = dir.at("program");
    std::fs::copy("/bin/true", &program).expect("room for it");
    let writer = std::fs::OpenOptions::new().append(true).open(&program).expect("it is ours");
    let busy = Command::new(&program).run();
    // Not every system refuses that.
    let Err(error) = busy else { return };
    assert_eq!(error.io_kind(), Some(std::io::ErrorKind::ExecutableFileBusy));
    let event = bus().emit_with(Command::new(&program), capped(100));
    assert!(matches!(&*failure(&done(&event)), HandlerFailure::TimedOut { .. }));
    drop(writer);
    assert!(Command::new(&program).run().expect("it is closed").success());
}

#[test]
fn what_leaves_its_session_and_keeps_the_pipe_holds_nobody_up() {
    let dir = Dir::new();
    let output = sh(&format!(
        "cd {:?}; setsid sh -c 'echo $$ > pid; exec sleep 300' & echo left; \
                              while [ ! -s pid ]; do sleep 0.01; done",
        dir.0
    ));
    let output = output.run().expect("it ran");
    assert_eq!(output.stdout.text(), "left\n");
    let pid = number_in(&dir.at("pid"));
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("not 0");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("a daemon escapes, so it runs");
}

/// Its output, its timeout and its end are the command's own, whoever else has the pipe.
#[test]
fn who_has_left_and_keeps_the_pipe_does_not_put_off_a_timeout() {
    let dir = Dir::new();
    let escapes = "setsid sh -c 'echo $$ > pid; exec sleep 300' & echo begun; while :; do sleep 0.01; done";
    let event = bus().emit_with(sh(&format!("cd {:?}; {escapes}", dir.0)), capped(1000));
    assert!(timed_out(&failure(&done(&event))).ends_with(r#"which wrote "begun\n""#));
    let pid = rustix::process::Pid::from_raw(number_in(&dir.at("pid")).cast_signed()).expect("not 0");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it has left");
}

/// The program ends at once when it is asked to; what it has started does not.
#[test]
fn what_ignores_its_end_does_not_outlive_the_program() {
    let dir = Dir::new();
    let script = "(trap '' TERM HUP; exec sleep 300) & echo $! > pid; exec sleep 300";
    let bus = bus();
    let event = bus.emit_with(sh(&format!("cd {:?}; {script}", dir.0)), capped(1000));
    let pid = number_in(&dir.at("pid"));
    failure(&done(&event));
    eventually(|| !workers::is_running(pid));
}

#[test]
fn what_stands_still_is_ended_too() {
    let event = bus().emit_with(sh("kill -STOP $$; echo on").kill_grace(Duration::from_millis(100)), capped(300));
    failure(&done(&event));
    eventually(|| with_command_line("kill -STOP $$").is_empty());
}

#[test]
fn a_character_may_come_byte_by_byte() {
    let script = r#"for byte in 344 270 226 347 225 214 12; do printf "\\$byte"; sleep 0.02; done"#;
    let (lines, output) = lines_of(&sh(script));
    assert_eq!((lines, &*output.stdout.text()), (vec![(false, "世界".to_owned())], "世界\n"));
}

/// Who writes where nobody reads is ended by SIGPIPE, which this program ignores.
#[test]
fn a_pipeline_inside_of_a_command_ends() {
    for script in [sh("yes | head -n 1"), sh("yes | head -n 1").cwd("/")] {
        assert_eq!(run_in_time(script).stdout.text(), "y\n");
    }
}

fn run_in_time(command: Command) -> CommandOutput {
    done(&bus().emit(command)).result().expect("it ran")
}

/// Whatever became of them, commands leave no open file and no process.
#[test]
fn commands_of_all_ends_hold_no_file() {
    let bus = bus();
    let open = || std::fs::read_dir("/proc/self/fd").expect("a Linux /proc").count();
    let before = open();
    for _ in 0..10 {
        drop(sh("exit 3").check(true).run());
        drop(Command::new("no-such-program").run());
        drop(Command::new("/dev/null").run());
        drop(sh("true").cwd("/no/such/dir").run());
        drop(Command::new("true").cwd("/").stdin(Input::Bytes("unread".into())).run());
        drop(sh("true").stdout(Sink::File("/no/such/file".into())).run());
        drop(sh("kill -9 $$").run());
        drop(sh("sleep 300 & sleep 300 &").run());
        drop(std::panic::catch_unwind(|| drop(sh("echo x; sleep 300").run_by_line(|_| panic!("on purpose")))));
        let slow = bus.emit_with(sh("exec sleep 300"), capped(50));
        let cancelled = bus.emit(sh("exec sleep 300"));
        done(&slow);
        cancelled.cancel();
        eventually(|| bus.is_idle());
    }
    eventually(|| bus.runtime().stats().abandoned == 0 && workers::zombies().is_empty());
    // Other tests of this process may run commands of their own at the same time.
    eventually(|| open() < before + 40);
}
