//! A program with `panic = "abort"`: buses work as everywhere, and a handler that panics ends the process, as any panic does. `cargo run`.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};
use std::time::Duration;
use threadbus::{Event, EventBus, EventOptions, HandlerFailure, HandlerOptions, Payload, Retry};

struct Job(u32);
impl Payload for Job {
    type Output = u32;
}

struct Outer;
impl Payload for Outer {
    type Output = u32;
}

const PANICS: &str = "THREADBUS_ABORT";
const SIGABRT: i32 = 6;

fn works() -> Result<(), Box<dyn std::error::Error>> {
    let bus = EventBus::new("abort");
    bus.on_with(HandlerOptions::new().retry(Retry::attempts(3)), |job: &Event<Job>| match job.0 {
        0 => Err("none"),
        1 => {
            std::thread::sleep(Duration::from_millis(300));
            Ok(1)
        }
        n => Ok(n),
    });
    bus.on(|outer: &Event<Outer>| outer.bus().emit(Job(7)).result());
    assert_eq!(bus.emit(Outer).result()?, 7);
    let failed = bus.emit(Job(0)).wait()?;
    assert!(matches!(&*failed.errors()[0], HandlerFailure::Failed(_)) && failed.results()[0].attempts == 3);
    let once = EventOptions::new().handler_timeout(Duration::from_millis(50)).retry(Retry::attempts(1));
    let late = bus.emit_with(Job(1), once).wait()?;
    assert!(matches!(&*late.errors()[0], HandlerFailure::TimedOut { .. }));
    bus.wait_until_idle()?;
    Ok(())
}

fn main() -> ExitCode {
    if std::env::var_os(PANICS).is_some() {
        let bus = EventBus::new("abort");
        bus.on(|_: &Event<Job>| -> u32 { panic!("on purpose") });
        // Nobody ever comes back from this.
        drop(bus.emit(Job(0)).wait());
        return ExitCode::SUCCESS;
    }
    if let Err(error) = works() {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    let ended = std::env::current_exe().and_then(|own| Command::new(own).env(PANICS, "1").output());
    let ended = match ended {
        Ok(ended) => ended,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.signal(), Some(SIGABRT), "{:?}: {said}", ended.status);
    assert!(said.contains("on purpose"), "{said}");
    println!("a panic ends the process, and all else works");
    ExitCode::SUCCESS
}
