//! scratch
#![allow(clippy::all, clippy::disallowed_types, clippy::disallowed_methods, clippy::print_stdout, reason = "scratch")]
use std::time::Instant;
use threadbus::*;
struct T(u64);
impl Payload for T { type Output = (); }
struct U;
impl Payload for U { type Output = (); }
fn run(name: &str, subs: usize, others: usize, bounded: usize) {
    let n = 500_000u64;
    let bus = EventBus::builder("b").build().unwrap();
    bus.on(|_: &Event<T>| ());
    let readers: Vec<_> = (0..subs).map(|_| { let s = bus.subscribe::<T>(); std::thread::spawn(move || s.map(|e| e.0).sum::<u64>()) }).collect();
    let o: Vec<_> = (0..others).map(|_| bus.subscribe::<U>()).collect();
    let mut b: Vec<_> = (0..bounded).map(|_| bus.subscribe_bounded::<T>(64, OnLag::DropOldest)).collect();
    let start = Instant::now();
    for i in 0..n { bus.emit(T(i)); }
    let emitted = start.elapsed();
    bus.wait_until_idle().unwrap();
    let idle = start.elapsed();
    drop(bus); drop(o);
    for r in readers { r.join().unwrap(); }
    let all = start.elapsed();
    for s in &mut b { s.try_iter().count(); }
    println!("{name:30} emit {:>6.0} ns idle {:>6.0} ns all {:>6.0} ns", emitted.as_nanos() as f64 / n as f64, idle.as_nanos() as f64 / n as f64, all.as_nanos() as f64 / n as f64);
}
fn main() {
    for _ in 0..2 {
        run("none", 0, 0, 0);
        run("100 others", 0, 100, 0);
        run("1 lossy unread", 0, 0, 1);
        run("1 sub", 1, 0, 0);
        run("3 subs", 3, 0, 0);
    }
}
