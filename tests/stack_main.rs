//! The main thread, whose stack the system bounds as `ulimit -s` says: it pumps a chain of events that wait for each other, and runs one by
//! `emit_now`. The test is this program once more, with limits from small to none.

use std::process::Command;
use threadbus::{Event, EventBus, Payload, ResultError, ResultStatus};

const CHILD: &str = "THREADBUS_STACK_MAIN";
const NAME: &str = "a_main_thread_of_any_size_goes_on";

struct Level(u32);
impl Payload for Level {
    type Output = u32;
}

fn chain(bus: &EventBus) {
    bus.on(|level: &Event<Level>| -> Result<u32, ResultError> {
        if level.0 == 0 { Ok(0) } else { Ok(1 + level.bus().emit(Level(level.0 - 1)).result()?) }
    });
}

/// More levels than a main thread of 8 MiB has room for in a debug build.
fn child() {
    let ui = EventBus::builder("ui").manual().build().expect("a bus");
    chain(&ui);
    let top = ui.emit(Level(800));
    ui.run_pending();
    let pumped = top.results().iter().any(|result| result.status == ResultStatus::Completed);
    let threaded = EventBus::new("threads");
    chain(&threaded);
    let now = threaded.emit_now(Level(800)).result();
    println!("pumped {pumped}, now {}", now.is_ok_and(|levels| levels == 800));
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.iter().any(|arg| arg == "--list") {
        if !args.iter().any(|arg| arg == "--ignored") {
            println!("{NAME}: test");
        }
        return;
    }
    if std::env::var_os(CHILD).is_some() {
        return child();
    }
    if !cfg!(target_os = "linux") {
        return;
    }
    let exe = std::env::current_exe().expect("a test is a file");
    for limit in ["128", "256", "1024", "8192", "65536", "unlimited"] {
        let script = format!("ulimit -s {limit} && exec \"$0\"");
        let output = Command::new("sh").arg("-c").arg(script).arg(&exe).env(CHILD, "1").output().expect("a shell");
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        if errors.contains("ulimit") {
            // The hard limit of this machine is lower.
            continue;
        }
        assert!(output.status.success(), "{limit}: {:?} {said}{errors}", output.status);
        assert!(said.contains("now true"), "{limit}: {said}");
        let large = matches!(limit, "65536" | "unlimited");
        assert!(!large || said.contains("pumped true"), "{limit}: {said}");
        let small = matches!(limit, "128" | "256" | "1024");
        assert!(!small || said.contains("pumped false"), "{limit}: {said}");
    }
    println!("test {NAME} ... ok");
}
