//! The child of a fork has only the thread that forked. Buses made before have no threads there: what is emitted waits, a wait with a time limit
//! ends on time, and `emit_now` runs on the caller's own thread. A `Runtime` made in the child works as anywhere if the parent had no threads of
//! ours yet. If it had, that is luck: those that were parked are still in parking_lot's table, and their stacks are used again; it is not tried here.
//!
//! `cargo run --manifest-path tests/fork/Cargo.toml`; Linux and other Unix.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use threadbus::{Event, EventBus, Payload, Runtime, WaitError};

struct Add(u32, u32);
impl Payload for Add {
    type Output = u32;
}

fn adds(bus: &EventBus) {
    bus.on(|add: &Event<Add>| add.0 + add.1);
}

/// Runs `body` in a child; whether it ended well, and within ten seconds.
fn in_child(body: impl FnOnce() -> bool) -> bool {
    // Safe as long as the child calls nothing that another thread may have locked: no other thread is in the allocator, which glibc
    // takes care of, and the callers below say what else they do.
    match unsafe { libc::fork() } {
        -1 => panic!("no fork: {}", std::io::Error::last_os_error()),
        0 => {
            let ended_well = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(false);
            unsafe { libc::_exit(if ended_well { 0 } else { 1 }) }
        }
        child => {
            let until = Instant::now() + Duration::from_secs(10);
            let mut status = 0;
            loop {
                match unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } {
                    0 if Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
                    0 => {
                        unsafe { libc::kill(child, libc::SIGKILL) };
                        unsafe { libc::waitpid(child, &mut status, 0) };
                        return false;
                    }
                    _ => return libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
                }
            }
        }
    }
}

fn own_runtime_works() -> bool {
    let runtime = Runtime::builder().build().expect("a runtime");
    let bus = EventBus::builder("child").runtime(&runtime).build().expect("a bus");
    adds(&bus);
    (0..100).all(|n| matches!(bus.emit(Add(n, 1)).result(), Ok(sum) if sum == n + 1))
}

/// What a thread has locked when its process forks stays locked in the child.
fn stand_still(bus: &EventBus) {
    while bus.runtime().stats().busy > 0 {
        std::thread::yield_now();
    }
    // Until it is parked; nobody can be asked whether it is.
    std::thread::sleep(Duration::from_millis(50));
}

fn main() {
    assert!(in_child(own_runtime_works), "a new runtime does not work in the child of a parent without one");
    println!("a runtime of the child's own works, if the parent had none");

    let bus = EventBus::new("parent");
    adds(&bus);
    assert_eq!(bus.emit(Add(1, 2)).result().expect("before any fork"), 3);
    stand_still(&bus);

    let waits_end = in_child(|| {
        let started = Instant::now();
        let waited = bus.emit(Add(1, 2)).wait_timeout(Duration::from_millis(100));
        matches!(waited, Err(WaitError::Timeout(_))) && started.elapsed() < Duration::from_secs(5)
    });
    assert!(waits_end, "a wait with a time limit does not end in the child");
    println!("a wait for an old bus ends on time");

    assert!(in_child(|| matches!(bus.emit_now(Add(1, 2)).result(), Ok(3))), "emit_now does not run in the child");
    println!("emit_now runs on an old bus");

    // The parent's buses, at work meanwhile, notice nothing of it.
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for n in 0..2 {
            let (bus, over) = (&bus, &over);
            scope.spawn(move || {
                while !over.load(Relaxed) {
                    assert_eq!(bus.emit(Add(n, n)).result().expect("the parent goes on"), 2 * n);
                }
            });
        }
        let good = (0..20).filter(|_| in_child(|| true)).count();
        over.store(true, Relaxed);
        assert_eq!(good, 20, "a child that does nothing does not end");
    });
    println!("forks of a busy parent leave it alone");
    assert_eq!(bus.emit(Add(1, 2)).result().expect("after all forks"), 3);
}
