//! The process and the machine: a process per group of figures, cores, what the kernel counts.

use crate::measure::{self, Measured};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The argument that makes this program measure one group and print its rounds.
pub const GROUP: &str = "--group";

/// Which cores the threads of a figure may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One core for all: the figure is the summed cost of emitter and bus, repeatable to a few percent.
    Pinned,
    /// All: what users see.
    Free,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::Pinned => "pinned",
            Mode::Free => "free",
        }
    }

    pub fn named(name: &str) -> Option<Mode> {
        [Mode::Pinned, Mode::Free].into_iter().find(|mode| mode.name() == name)
    }
}

/// Measures a group in a process of its own. Empty if that fails; the table says so.
pub fn measure_apart(group: &str, mode: Mode, rounds: usize) -> Measured {
    let program = std::env::current_exe().expect("the path of this program");
    let output = Command::new(program)
        .args([GROUP, group, mode.name(), "--rounds", &rounds.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .expect("a process of this program");
    if !output.status.success() {
        eprintln!("{group} {}: the measuring process ended with {}", mode.name(), output.status);
        return Measured::new();
    }
    measure::parse(&String::from_utf8_lossy(&output.stdout))
}

/// To be called before the first thread is made: threads inherit the cores of their maker.
pub fn enter(mode: Mode) {
    if mode == Mode::Pinned {
        pin();
    }
}

/// Ends this process with an error if it is still there after `limit`.
pub fn end_after(limit: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        eprintln!("not done after {limit:?}");
        std::process::exit(3);
    });
}

#[cfg(target_os = "linux")]
fn pin() {
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;

    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this).expect("the cores of this process");
    // The last one: the first is where the kernel likes to handle interrupts.
    let last = (0..CpuSet::count()).rev().find(|core| allowed.is_set(*core) == Ok(true)).expect("a core");
    let mut one = CpuSet::new();
    one.set(last).expect("a core that exists");
    sched_setaffinity(this, &one).expect("one core of those allowed");
}

#[cfg(not(target_os = "linux"))]
fn pin() {
    eprintln!("pinning is for Linux: this figure is measured free");
}
