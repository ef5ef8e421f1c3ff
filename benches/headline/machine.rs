//! Cores, and what the kernel counts.

use std::time::Duration;

/// Which cores the threads of a figure may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One core for all: the figure is the summed cost of emitter and bus, repeatable to a few percent.
    Pinned,
    /// All: what users see.
    Free,
    /// The emitter on one core, the thread behind it on another: what `Free` comes to where the scheduler spreads them, every time.
    Apart,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::Pinned => "pinned",
            Mode::Free => "free",
            Mode::Apart => "apart",
        }
    }

    pub fn named(name: &str) -> Option<Mode> {
        [Mode::Pinned, Mode::Free, Mode::Apart].into_iter().find(|mode| mode.name() == name)
    }
}

/// To be called before the first thread is made: threads inherit the cores of their maker.
pub fn enter(mode: Mode) {
    if mode == Mode::Pinned {
        pin_this_thread(cores().last().copied());
    }
}

/// Resident memory of this process, in bytes.
pub fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a Linux /proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    1024.0 * line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number")
}

/// Whether [`Mode::Apart`] can be.
pub fn has_two_cores() -> bool {
    std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1)
}

/// The cores that this process may use, by number.
#[cfg(target_os = "linux")]
pub fn cores() -> Vec<usize> {
    use nix::sched::{CpuSet, sched_getaffinity};
    let allowed = sched_getaffinity(nix::unistd::Pid::from_raw(0)).expect("the cores of this process");
    (0..CpuSet::count()).filter(|core| allowed.is_set(*core) == Ok(true)).collect()
}

#[cfg(target_os = "linux")]
pub fn pin_this_thread(core: Option<usize>) {
    use nix::sched::{CpuSet, sched_setaffinity};
    let mut one = CpuSet::new();
    one.set(core.expect("a core")).expect("a core that exists");
    sched_setaffinity(nix::unistd::Pid::from_raw(0), &one).expect("one of the cores allowed");
}

/// Of all threads of this process so far.
#[cfg(target_os = "linux")]
pub fn voluntary_switches() -> i64 {
    usage().voluntary_context_switches()
}

/// Time on a core, user and system, of all threads of this process so far.
#[cfg(target_os = "linux")]
pub fn processor_time() -> Duration {
    use nix::sys::time::TimeValLike;
    let usage = usage();
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros.unsigned_abs())
}

#[cfg(target_os = "linux")]
fn usage() -> nix::sys::resource::Usage {
    use nix::sys::resource::{UsageWho, getrusage};
    getrusage(UsageWho::RUSAGE_SELF).expect("the usage of this process")
}

/// Elsewhere these programs compile, so that `--all-targets` does, and say no more than that.
#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use std::time::Duration;

    pub fn cores() -> Vec<usize> {
        panic!("cores and what the kernel counts are read as Linux tells them")
    }
    pub fn pin_this_thread(_: Option<usize>) {
        cores();
    }
    pub fn voluntary_switches() -> i64 {
        cores().len() as i64
    }
    pub fn processor_time() -> Duration {
        Duration::from_secs(cores().len() as u64)
    }
}
#[cfg(not(target_os = "linux"))]
pub use elsewhere::{cores, pin_this_thread, processor_time, voluntary_switches};
