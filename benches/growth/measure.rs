//! Clocks: on the wall, of the calling thread, of the whole process.
#![allow(dead_code, reason = "a vocabulary for all rows")]

use std::time::{Duration, Instant};

/// Nanoseconds that `body` takes for each of `count` things.
pub fn elapsed_each(count: usize, body: impl FnOnce()) -> f64 {
    let start = Instant::now();
    body();
    start.elapsed().as_nanos() as f64 / count as f64
}

/// Nanoseconds on a core, of the calling thread alone, for each of `count` things.
pub fn own_time_each(count: usize, body: impl FnOnce()) -> f64 {
    let start = own_time();
    body();
    (own_time() - start).as_nanos() as f64 / count as f64
}

/// Nanoseconds on a core, of all threads of this process, for each of `count` things.
pub fn processor_time_each(count: usize, body: impl FnOnce()) -> f64 {
    let start = processor_time();
    body();
    (processor_time() - start).as_nanos() as f64 / count as f64
}

#[cfg(target_os = "linux")]
fn read(clock: nix::time::ClockId) -> Duration {
    clock.now().expect("the time of a thread or process").into()
}

/// Of the calling thread so far, user and system.
#[cfg(target_os = "linux")]
pub fn own_time() -> Duration {
    read(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// Of all threads of this process so far, user and system.
#[cfg(target_os = "linux")]
pub fn processor_time() -> Duration {
    read(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

/// Elsewhere the wall's clock stands for both.
#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use std::sync::LazyLock;
    use std::time::{Duration, Instant};

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);

    pub fn own_time() -> Duration {
        START.elapsed()
    }
    pub fn processor_time() -> Duration {
        START.elapsed()
    }
}
#[cfg(not(target_os = "linux"))]
pub use elsewhere::{own_time, processor_time};

/// Ends this process with an error if it is still there after `limit`.
pub fn end_after(limit: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        eprintln!("not done after {limit:?}");
        std::process::exit(3);
    });
}
