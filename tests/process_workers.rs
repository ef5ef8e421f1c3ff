//! Handlers in worker processes: BF-110 to 123, and what is beside the lines. Named after their IDs.
#![cfg(target_os = "linux")]

mod common;
mod workers;

use common::{PATIENCE, done, eventually, parallel};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use threadbus::process::ProcessPool;
use threadbus::{
    EventBus, EventOptions, HandlerFailure, HandlerOptions, Limit, Payload, ResultStatus, Retry, Shutdown,
};
use workers::{
    Cell, Do, Inner, OddOutput, Opaque, Silent, Stubborn, Table, Unknown, act, exists, failure, is_running, pool,
};

#[test]
fn worker_main() {
    workers::serve();
}

/// A serial bus with one worker for `Do`.
fn one_worker() -> (EventBus, ProcessPool) {
    let bus = EventBus::new("isolated");
    let pool = pool().max_processes(1).build().expect("it can be built");
    bus.on_process::<Do>(&pool);
    (bus, pool)
}

fn value(bus: &EventBus, what: &str) -> String {
    done(&bus.emit(act(what))).result().expect("a value")
}

fn pid(bus: &EventBus) -> u32 {
    value(bus, "pid").parse().expect("a number")
}

fn text(failure: &HandlerFailure) -> String {
    match failure {
        HandlerFailure::Worker(text) | HandlerFailure::WorkerStart(text) => text.clone(),
        other => panic!("not the worker's failure: {other:?}"),
    }
}

#[test]
fn bf_110_isolation() {
    let (bus, _pool) = one_worker();
    assert_ne!(pid(&bus), std::process::id());
    assert_eq!(value(&bus, "touch"), "0");
    assert_eq!(value(&bus, "touch"), "1");
    assert_eq!(workers::TOUCHED.load(Ordering::SeqCst), 0);
}

#[test]
fn bf_111_lazy_and_used_again() {
    let (bus, pool) = one_worker();
    assert_eq!((pool.stats().live, pool.stats().started), (0, 0));
    assert_eq!(pid(&bus), pid(&bus));
    assert_eq!((pool.stats().live, pool.stats().started), (1, 1));
}

#[test]
fn bf_112_bounded() {
    let bus = parallel("parallel");
    let pool = pool().max_processes(2).build().expect("it can be built");
    bus.on_process::<Do>(&pool);
    let events: Vec<_> = (0..50).map(|_| bus.emit(act("pid"))).collect();
    let pids: BTreeSet<_> = events.iter().map(|event| done(event).result().expect("a pid")).collect();
    assert!((1..=2).contains(&pids.len()), "{pids:?}");
    assert!(pool.stats().peak <= 2);
}

#[test]
fn bf_114_an_error_travels() {
    let (bus, pool) = one_worker();
    pid(&bus);
    let began = Instant::now();
    let failed = bus.emit(act("fail"));
    assert!(matches!(&*failure(&failed), HandlerFailure::Failed(error) if error.to_string() == "boom"));
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(pool.stats().started, 1);
}

#[test]
fn bf_114b_a_permanent_error_is_not_tried_again() {
    let bus = EventBus::new("isolated");
    let pool = pool().max_processes(1).build().expect("it can be built");
    bus.on_process_with::<Do>(HandlerOptions::new().retry(Retry::attempts(3)), &pool);
    let attempts = |what| done(&bus.emit(act(what))).results()[0].attempts;
    assert_eq!(attempts("fail"), 3);
    assert_eq!(attempts("fail for good"), 1);
}

#[test]
fn bf_115_a_panic() {
    let (bus, pool) = one_worker();
    let failed = bus.emit(act("panic"));
    assert!(matches!(&*failure(&failed), HandlerFailure::Panicked(text) if text == "oh dear"));
    pid(&bus);
    assert_eq!(pool.stats().started, 1);
}

#[test]
fn bf_116_killed_by_a_timeout() {
    let (bus, pool) = one_worker();
    let first = pid(&bus);
    let began = Instant::now();
    let hung = bus.emit_with(act("hang"), EventOptions::new().handler_timeout(Duration::from_millis(200)));
    let failed = failure(&hung);
    let HandlerFailure::TimedOut { detail, .. } = &*failed else { panic!("{failed}") };
    assert_eq!(detail.as_deref(), Some(format!("waits for worker process {first}").as_str()));
    assert!(began.elapsed() < Duration::from_secs(2));
    eventually(|| !exists(first));
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_ne!(pid(&bus), first);
    assert_eq!(pool.stats().peak, 1);
}

#[test]
fn bf_116b_what_it_had_started_goes_with_it_however_stubborn() {
    let bus = EventBus::new("isolated");
    let pool = pool().max_processes(1).kill_grace(Duration::from_millis(300)).build().expect("it can be built");
    bus.on_process::<Do>(&pool);
    let first = pid(&bus);
    let stubborn = bus.emit_with(act("ignore TERM"), EventOptions::new().handler_timeout(Duration::from_millis(500)));
    assert!(matches!(&*failure(&stubborn), HandlerFailure::TimedOut { .. }));
    eventually(|| !exists(first) && workers::group_members(first).is_empty());
    assert_ne!(pid(&bus), first);
}

#[test]
fn bf_116c_cancelled() {
    let (bus, _pool) = one_worker();
    let first = pid(&bus);
    let hung = bus.emit(act("hang with a child"));
    // `Started` is earlier: a worker that was not yet sent the request is not ended for it.
    eventually(|| workers::group_members(first).len() == 2);
    assert!(hung.cancel());
    eventually(|| !exists(first));
    assert_ne!(pid(&bus), first);
}

#[test]
fn bf_117_idle_ones_end() {
    let bus = EventBus::new("isolated");
    let pool = pool().idle_timeout(Duration::from_millis(200)).build().expect("it can be built");
    bus.on_process::<Do>(&pool);
    let first = pid(&bus);
    eventually(|| pool.stats().live == 0);
    assert!(!exists(first));
    assert_ne!(pid(&bus), first);
}

#[test]
fn bf_118_a_shutdown_leaves_nobody() {
    let bus = parallel("parallel");
    let pool = pool().max_processes(2).build().expect("it can be built");
    bus.on_process::<Do>(&pool);
    let hung: Vec<_> = (0..2).map(|_| bus.emit(act("hang"))).collect();
    eventually(|| pool.stats().live == 2 && pool.pids().len() == 2);
    let pids = pool.pids();
    bus.shutdown(Shutdown::Now, PATIENCE);
    assert!(pids.iter().all(|pid| !exists(*pid)), "{pids:?}");
    assert_eq!(pool.stats().live, 0);
    assert!(hung.iter().all(|event| event.is_completed()));
}

#[test]
fn bf_118b_idle_ones_too_though_events_and_pool_are_kept() {
    let (bus, pool) = one_worker();
    let event = done(&bus.emit(act("pid")));
    let pid: u32 = event.result().expect("a value").parse().expect("a number");
    bus.shutdown(Shutdown::Drain, PATIENCE);
    assert!(!exists(pid));
    assert_eq!(pool.stats().live, 0);
}

#[test]
fn bf_118c_the_last_handler_and_the_pool_itself() {
    let (bus, pool) = one_worker();
    let info = bus.handlers().remove(0);
    let second = bus.on_process::<Inner>(&pool);
    let first = pid(&bus);
    bus.off(&info);
    assert!(is_running(first));
    bus.off(&second);
    assert!(!exists(first));

    bus.on_process::<Do>(&pool);
    let next = pid(&bus);
    assert!(pool.shutdown());
    assert!(!exists(next));
    assert!(text(&failure(&bus.emit(act("pid")))).ends_with("is shut down"));
}

#[test]
fn bf_118e_the_shutdown_of_one_bus_is_not_the_others() {
    let (bus, pool) = one_worker();
    let other = EventBus::new("other");
    other.on_process::<Do>(&pool);
    let first = pid(&bus);
    assert_eq!(pid(&other), first);
    bus.shutdown(Shutdown::Drain, PATIENCE);
    assert_eq!(pid(&other), first);
    other.shutdown(Shutdown::Drain, PATIENCE);
    assert!(!exists(first));
}

#[test]
fn bf_118d_a_worker_ends_with_what_it_left_behind() {
    let (bus, pool) = one_worker();
    let left_behind: u32 = value(&bus, "background").parse().expect("a number");
    assert!(is_running(left_behind));
    assert!(pool.shutdown());
    eventually(|| !is_running(left_behind));
}

#[test]
fn bf_120_printing_harms_nobody() {
    let (bus, _pool) = one_worker();
    assert_eq!(value(&bus, "print"), "printed");
    assert_eq!(value(&bus, "print lines"), "printed");
}

#[test]
fn bf_121_answers_belong_to_their_requests() {
    let bus = EventBus::new("isolated");
    let pool = pool().max_processes(1).build().expect("it can be built");
    bus.on_process::<Do>(&pool);
    for number in 0..5 {
        let hung = bus.emit_with(act("hang"), EventOptions::new().handler_timeout(Duration::from_millis(20)));
        let next = bus.emit(Do { what: "echo".to_owned(), number });
        assert_eq!(done(&next).result().expect("a value"), number.to_string());
        assert!(matches!(&*failure(&hung), HandlerFailure::TimedOut { .. }));
    }
}

#[test]
fn bf_123_no_handler() {
    let (bus, pool) = one_worker();
    bus.on_process::<Unknown>(&pool);
    pid(&bus);
    let began = Instant::now();
    let why = text(&failure(&bus.emit(Unknown {})));
    assert_eq!(
        why,
        "no handler for Unknown in the worker, which handles Do, Inner, OddOutput, Silent, Stubborn, Table"
    );
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(pool.stats().live, 1);
}

#[test]
fn crash_exit_and_kill_are_failures_of_their_own_and_the_next_gets_a_fresh_worker() {
    let (bus, pool) = one_worker();
    let why = |what| text(&failure(&bus.emit(act(what))));
    assert!(why("abort").ends_with("was killed by signal 6 (SIGABRT)"), "{}", why("abort"));
    assert!(why("exit").ends_with("exited with code 3"));
    let before = pid(&bus);
    let killed = why("kill");
    assert!(killed.ends_with(&format!("(pid {before}) was killed by signal 9 (SIGKILL)")), "{killed}");
    assert_ne!(pid(&bus), before);
    assert_eq!(pool.stats().peak, 1);
}

#[test]
fn a_crash_is_retried() {
    let bus = EventBus::new("isolated");
    let pool = pool().max_processes(1).build().expect("it can be built");
    bus.on_process_with::<Do>(HandlerOptions::new().retry(Retry::attempts(3)), &pool);
    let event = done(&bus.emit(act("abort")));
    assert_eq!(event.results()[0].attempts, 3);
    assert_eq!(pool.stats().started, 3);
}

#[test]
fn an_idle_one_that_dies_costs_no_event() {
    let (bus, pool) = one_worker();
    for _ in 0..5 {
        let before = pid(&bus);
        let target = rustix::process::Pid::from_raw(before.cast_signed()).expect("not 0");
        rustix::process::kill_process(target, rustix::process::Signal::KILL).expect("it is there");
        assert_ne!(pid(&bus), before);
    }
    assert_eq!(pool.stats().started, 6);
}

#[test]
fn what_cannot_be_sent_names_its_type_and_the_limit() {
    let bus = EventBus::new("isolated");
    let pool = pool().max_processes(1).max_frame(4096).build().expect("it can be built");
    bus.on_process::<Do>(&pool);
    bus.on_process::<Opaque>(&pool);
    bus.on_process::<OddOutput>(&pool);
    let failed = failure(&bus.emit(Opaque));
    assert_eq!(failed.to_string(), "worker process failed: Opaque cannot be sent to a worker: Opaque has no codec");
    let why = text(&failure(&bus.emit(act(&"x".repeat(5000)))));
    assert_eq!(why, "Do is larger than the pool's max_frame, 4096 bytes");
    assert_eq!(pool.stats().started, 0);

    let why = text(&failure(&bus.emit(Do { what: "large".to_owned(), number: 5000 })));
    assert_eq!(why, "the output of Do is larger than the pool's max_frame, 4096 bytes");
    assert_eq!(done(&bus.emit(OddOutput {})).result().expect("a value"), HashMap::from([(vec![1], 1)]));
    assert_eq!(done(&bus.emit(Do { what: "large".to_owned(), number: 3000 })).result().expect("a value").len(), 3000);
    assert_eq!(pool.stats().started, 1);
}

#[test]
fn large_payloads_and_answers_go_through() {
    let (bus, _pool) = one_worker();
    let large = Do { what: "large".to_owned(), number: 10_000_000 };
    assert_eq!(done(&bus.emit(large)).result().expect("a value").len(), 10_000_000);
    let event = done(&bus.emit(act(&"y".repeat(10_000_000))));
    assert!(matches!(&*failure(&event), HandlerFailure::Failed(error) if error.to_string().len() == 10_000_001));
}

#[test]
fn the_event_is_itself_over_there() {
    let (bus, _pool) = one_worker();
    let parent = bus.emit(act("pid"));
    let event = bus.emit_with(act("identity"), EventOptions::new().parent(&parent).correlation_id("trace 7"));
    let expected = format!("{} {} trace 7 {:?} true", event.id(), parent.id(), [bus.label()]);
    let answer = done(&event).result().expect("a value");
    let (id_and_more, path_and_more) = answer.split_once('[').expect("a path");
    assert!(expected.starts_with(id_and_more), "{answer} {expected}");
    assert!(path_and_more.contains(bus.label()) && path_and_more.ends_with(" true"), "{answer}");
    assert_eq!(value(&bus, "ask"), "7");
    assert_eq!(value(&bus, "stdin"), "");
}

#[test]
fn what_does_not_fit_is_named_by_its_place_on_all_four_ways() {
    let pool = pool().max_processes(1).build().unwrap();
    let bus = EventBus::new("app");
    bus.on_process::<Table>(&pool);
    let ask = |sent: u8, returns: u8| {
        let event = done(&bus.emit(Table { cells: vec![Cell { n: 1 }, Cell { n: sent }], returns }));
        event.errors().first().map(ToString::to_string).unwrap_or_default()
    };
    assert_eq!(ask(1, 1), "");
    for (sent, returns, why) in [
        (8, 1, "Table cannot be sent to a worker: cells[1].n: no eights"),
        (7, 1, "the worker cannot read Table: cells[1].n: invalid type: string \"seven\", expected u8"),
        (1, 8, "the output of Table cannot be sent: [1].n: no eights"),
        (1, 7, "the output of Table does not fit: [1].n: invalid type: string \"seven\", expected u8"),
    ] {
        assert_eq!(ask(sent, returns), format!("worker process failed: {why}"));
    }
    assert_eq!((ask(1, 1), pool.stats().started), (String::new(), 1), "no worker came to harm");
}

/// What JSON refuses is no reason not to run in a process of the same program.
#[test]
fn names_and_times_of_any_kind_go_through() {
    let pool = pool().max_processes(1).build().unwrap();
    let bus = EventBus::builder("two\nlines").build().unwrap();
    bus.on_process::<Do>(&pool);
    let (tab, long, endless) = ("trace\t7".to_owned(), "x".repeat(1000), Duration::MAX);
    for id in [tab, String::new(), long] {
        let options = EventOptions::new().correlation_id(id.as_str()).timeout(endless).handler_slow_after(endless);
        let event = bus.emit_with(act("identity"), options);
        let value = event.result().unwrap();
        assert!(value.contains(&id) && value.contains(&format!("{:?}", bus.label())), "{value}");
        assert!(event.to_json().is_err(), "it is no JSON");
    }
}

#[test]
fn a_grandchild_is_no_worker() {
    let (bus, _pool) = one_worker();
    assert_eq!(value(&bus, "grandchild"), "true");
}

#[test]
fn a_worker_stands_back() {
    let bus = EventBus::new("isolated");
    let own = rustix::process::getpriority_process(None).expect("it has one");
    let pool = pool().max_processes(1).niceness(19).build().expect("it can be built");
    bus.on_process::<Do>(&pool);
    assert_eq!(value(&bus, "niceness"), "19");
    assert!(own < 19);
}

#[test]
fn what_is_no_worker_is_found_out() {
    let bus = EventBus::new("isolated");
    let why = |builder: threadbus::process::PoolBuilder| {
        let pool = builder.max_processes(1).build().expect("it can be built");
        let info = bus.on_process::<Do>(&pool);
        let why = text(&failure(&bus.emit(act("pid"))));
        bus.off(&info);
        assert_eq!(pool.stats().live, 0);
        why
    };
    let other = |program| ProcessPool::builder().program(program);
    assert_eq!(
        why(other("no-such-program")),
        "no-such-program cannot be started: No such file or directory (os error 2)"
    );
    assert!(
        why(other("true"))
            .ends_with("exited with code 0 before it served: is `process::serve` the first line of its main?")
    );
    // Frames, with their length, the number of a request, and a body.
    let frame = |body: &str| format!("\\000\\000\\000\\{:03o}{}{body}", body.len(), "\\000".repeat(8));
    let says = |frames: &str| why(other("sh").args(["-c", &format!("printf '{frames}' >&0; cat")]));
    let babble = says(&frame("abc"));
    assert!(babble.contains("sent something before it said hello"), "{babble}");
    let version = says(&frame("threadbus worker, protocol 77"));
    assert!(version.contains("speaks protocol 77, not 2: it has another version of this crate"), "{version}");
    let garbage = says(&(frame("threadbus worker, protocol 2") + &frame("abc")));
    assert!(garbage.contains("sent what is no message: "), "{garbage}");
    let silent = why(other("cat").start_timeout(Duration::from_millis(50)));
    assert!(silent.contains("did not serve within 50ms: is `process::serve` the first line"), "{silent}");
    let noise = why(other("sh").args(["-c", "yes >&0"]));
    assert!(noise.contains("that the pool takes"), "{noise}");
}

/// A worker program that has forgotten to serve, and goes on as the program proper.
#[test]
fn forgetful_main() {
    if std::env::var_os("THREADBUS_WORKER").is_none() {
        return;
    }
    let bus = EventBus::new("isolated");
    let pool = ProcessPool::builder().args(["forgetful_main", "--exact"]).build().expect("it can be built");
    bus.on_process::<Do>(&pool);
    let why = text(&failure(&bus.emit(act("pid"))));
    let found_out = why.ends_with("this process is a worker itself, and has not called `process::serve`");
    std::process::exit(if found_out { 5 } else { 6 });
}

#[test]
fn a_program_that_does_not_serve_does_not_start_itself_for_ever() {
    let bus = EventBus::new("isolated");
    let pool = ProcessPool::builder().args(["forgetful_main", "--exact"]).build().expect("it can be built");
    bus.on_process::<Do>(&pool);
    let why = text(&failure(&bus.emit(act("pid"))));
    assert!(why.contains("exited with code 5 before it served"), "{why}");
}

#[test]
fn what_a_type_says_of_timeouts_and_retries_is_up_to_the_bus_over_here() {
    let bus = EventBus::new("isolated");
    let pool = pool().max_processes(1).build().expect("it can be built");
    bus.on_process::<Stubborn>(&pool);
    // The type's timeout would end it after no time at all.
    let count = done(&bus.emit_with(Stubborn { fail: false }, EventOptions::new().no_timeout()));
    assert_eq!(count.result().expect("a value"), 1);
    let failed = done(&bus.emit_with(Stubborn { fail: true }, EventOptions::new().no_timeout()));
    assert_eq!(failed.results()[0].attempts, 3);
    let count = done(&bus.emit_with(Stubborn { fail: false }, EventOptions::new().no_timeout()));
    assert_eq!(count.result().expect("a value"), 5);
}

#[test]
fn options_that_cannot_be_name_themselves() {
    let error = |builder: threadbus::process::PoolBuilder| builder.build().map(drop).unwrap_err().to_string();
    assert_eq!(error(pool().max_processes(0)), "invalid max_processes: 0, must be at least 1");
    assert_eq!(error(pool().max_frame(0)), "invalid max_frame: 0 bytes, must be from 1 to 4294967295");
    assert_eq!(error(pool().niceness(20)), "invalid niceness: 20, must be from 0 to 19");
    assert_eq!(error(pool().program("")), "invalid program: is empty");
}

#[test]
fn without_the_pools_limit_its_processes_still_are_the_bound() {
    let bus = parallel("parallel");
    let pool = pool().max_processes(2).build().expect("it can be built");
    bus.on_process_with::<Do>(HandlerOptions::new().limit(Limit::new(100)), &pool);
    let events: Vec<_> = (0..40).map(|number| bus.emit(Do { what: "echo".to_owned(), number })).collect();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(done(event).result().expect("a value"), number.to_string());
    }
    assert!(pool.stats().peak <= 2);
}

#[test]
fn who_waits_for_a_process_can_be_given_up() {
    let bus = parallel("parallel");
    let pool = pool().max_processes(1).build().expect("it can be built");
    bus.on_process_with::<Do>(HandlerOptions::new().limit(Limit::new(100)), &pool);
    let hung = bus.emit(act("hang"));
    eventually(|| !pool.pids().is_empty());
    let busy = pool.pids()[0];
    let waiting = bus.emit_with(act("pid"), EventOptions::new().handler_timeout(Duration::from_millis(50)));
    assert!(matches!(&*failure(&waiting), HandlerFailure::TimedOut { .. }));
    // That was none of the worker's business.
    assert!(is_running(busy));
    assert!(!hung.is_completed());
    assert_eq!(bus.shutdown(Shutdown::Now, PATIENCE).abandoned, 0);
    assert!(!exists(busy));
}

#[test]
fn a_worker_that_does_not_read_is_given_up_like_any_other() {
    let bus = EventBus::new("isolated");
    let pool = pool().max_processes(1).kill_grace(Duration::from_millis(200)).build().expect("it can be built");
    bus.on_process::<Do>(&pool);
    let stopped = pid(&bus);
    let target = rustix::process::Pid::from_raw(stopped.cast_signed()).expect("not 0");
    rustix::process::kill_process(target, rustix::process::Signal::STOP).expect("it is there");
    // More than the socket takes.
    let large = act(&"x".repeat(1 << 20));
    let event = bus.emit_with(large, EventOptions::new().handler_timeout(Duration::from_secs(2)));
    assert!(matches!(&*failure(&event), HandlerFailure::TimedOut { .. }));
    eventually(|| !exists(stopped));
    assert_ne!(pid(&bus), stopped);
    assert_eq!(bus.shutdown(Shutdown::Now, PATIENCE).abandoned, 0);
}

#[test]
fn a_type_has_one_name_here_and_there() {
    assert_eq!((Do::event_type(), Unknown::event_type()), ("Do", "Unknown"));
}

#[test]
fn a_worker_has_the_variables_of_its_pool_and_nobody_shows_them() {
    let bus = EventBus::new("isolated");
    let builder = pool().max_processes(1).env("THREADBUS_OF_THE_POOL", "a secret");
    let before = format!("{builder:?}");
    let pool = builder.build().expect("it can be built");
    bus.on_process::<Do>(&pool);
    assert_eq!(value(&bus, "variable"), "a secret");
    for shown in [before, format!("{pool:?}")] {
        assert!(shown.contains("max_processes: 1") && !shown.contains("secret"), "{shown}");
    }
}

#[test]
fn a_handler_without_a_value_has_none_here_either() {
    let (bus, pool) = one_worker();
    bus.on_process::<Silent>(&pool);
    let results = done(&bus.emit(Silent {})).results();
    assert!(results[0].status == ResultStatus::Completed && results[0].value.is_none(), "{results:?}");
}
