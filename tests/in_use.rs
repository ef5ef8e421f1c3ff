//! The program of API.md's "In use", word for word but for the name of its `main`.
#![allow(clippy::collapsible_if, reason = "tests")]

mod common;

use serde::{Deserialize, Serialize};
use std::error::Error;
use std::time::Duration;
use threadbus::*;

#[derive(Serialize, Deserialize)]
struct UserLogin {
    username: String,
}
event!(UserLogin => String, timeout = Duration::from_secs(5), priority = Priority::HIGH);
#[derive(Serialize, Deserialize)]
struct Tick {
    n: u32,
}
event!(Tick);
struct Raw(std::sync::mpsc::SyncSender<u8>);
impl Payload for Raw {
    type Output = ();
}
#[derive(Debug, thiserror::Error)]
#[error("db")]
struct DbError;
fn greet(event: &Event<UserLogin>) -> Result<String, DbError> {
    Ok(event.username.clone())
}
struct Greeter {
    prefix: String,
}
impl Handler<UserLogin> for Greeter {
    fn handle(&self, event: &Event<UserLogin>) -> Result<Option<String>, HandlerError> {
        if event.username.is_empty() {
            return Err(HandlerError::permanent("no name"));
        }
        Ok(Some(format!("{}{}", self.prefix, event.username)))
    }
}
fn program() -> Result<(), Box<dyn Error>> {
    let bus = EventBus::builder("app")
        .event_concurrency(EventConcurrency::Parallel)
        .max_history(Some(10))
        .queue_capacity(100, OnFull::BlockFor(Duration::from_millis(5)))
        .build()?;
    let other = EventBus::new("other");
    bus.on(|event: &Event<UserLogin>| format!("hi {}", event.username));
    bus.on(|_event: &Event<UserLogin>| -> Result<String, DbError> { Err(DbError) });
    bus.on(|event: &Event<UserLogin>| -> Result<Option<String>, HandlerError> {
        let t = event.bus().emit(Tick { n: 1 }).wait()?;
        let _: u32 = t.n;
        Ok(None)
    });
    bus.on(greet);
    let h = bus.on(Greeter { prefix: "x".into() });
    bus.off(&h);
    bus.on(std::sync::Arc::new(Greeter { prefix: "shared".into() }));
    bus.on(|_: &Event<Tick>| panic!("caught, and only this attempt is lost"));
    bus.on(|_: &Event<Tick>| {});
    bus.on(|t: &Event<Tick>| {
        if t.n > 1 {
            return Err(DbError);
        }
        Ok(())
    });
    bus.on_with(
        HandlerOptions::new().name("n").retry(
            Retry::attempts(3)
                .exponential(Duration::from_millis(10), 2.0)
                .only_if(|f| f.downcast_ref::<DbError>().is_some()),
        ),
        |_: &Event<Tick>| (),
    );
    let target = other.downgrade();
    bus.on_any(move |e| {
        if let Some(t) = target.upgrade() {
            let _ = t.forward(e);
        }
    });
    bus.on_any(|e| println!("{}", e.event_type()));
    bus.on_any(|e| -> Result<(), EmitError> { e.bus().forward(e) });
    bus.on_named("Tick", |e| AnyOutput::json(serde_json::json!({"n": e.payload::<Tick>().map(|t| t.n)})));
    bus.on_named("Tick", |_| -> Result<Option<AnyOutput>, DbError> { Ok(None) });
    bus.forward_all_to(&other);
    let e = bus.emit(UserLogin { username: "a".into() });
    let done = bus
        .emit_with(UserLogin { username: "a".into() }, EventOptions::new().timeout(Duration::from_secs(1)).parent(&e))
        .wait()?;
    let _: String = bus.emit(UserLogin { username: "b".into() }).result().unwrap_or_default();
    let _: String = bus.emit_now(UserLogin { username: "b".into() }).result()?;
    bus.on_per_worker(HandlerOptions::new(), || {
        let count = std::rc::Rc::new(std::cell::Cell::new(0));
        Ok(move |_: &Event<UserLogin>| {
            count.set(count.get() + 1);
            Ok(Some(String::new()))
        })
    });
    let recent = bus
        .find::<UserLogin>()
        .past_within(Duration::from_secs(10))
        .future(Duration::from_secs(1))
        .child_of(&done)
        .filter(|e| e.username == "a")
        .first();
    let any = bus.find_named("*").status(EventStatus::Completed).filter(|e| e.event_type().ends_with("Login")).first();
    let _ = recent
        .unwrap_or_else(|| bus.emit(UserLogin { username: "c".into() }))
        .select()
        .allow_errors()
        .include(|r| r.attempts > 1)
        .list()?;
    if let Some(a) = any {
        if let Some(login) = a.downcast::<UserLogin>() {
            println!("{}", login.username);
        }
    }
    for tick in bus.subscribe::<Tick>().try_iter() {
        println!("{}", tick.n)
    }
    let batch = bus.batch();
    batch.on_progress(|p| println!("{}/{}", p.completed, p.total));
    batch.extend((0..10).map(|n| Tick { n }));
    batch.wait()?;
    context::with(7u64, || bus.emit(Tick { n: 0 }));
    let _ = context::get::<u64>();
    scope::enter(&bus, || scope::emit(Tick { n: 1 }).wait().map(drop))?;
    let (tx, _rx) = std::sync::mpsc::sync_channel(1);
    bus.on(|r: &Event<Raw>| -> Result<(), HandlerError> {
        r.0.try_send(1)?;
        Ok(())
    });
    bus.emit(Raw(tx));
    Ok(())
}

/// Its second handler fails every login, and `emit_now(..).result()?` is the first to insist on success.
#[test]
fn the_program_of_the_api_page_runs_up_to_the_first_result_it_insists_on() {
    let ended = common::within(Duration::from_secs(30), || {
        program().map_err(|error| match error.downcast_ref::<ResultError>() {
            Some(ResultError::Handler { failure, .. }) if failure.downcast_ref::<DbError>().is_some() => {
                "db".to_owned()
            }
            _ => format!("{error:?}"),
        })
    });
    assert_eq!(ended, Err("db".to_owned()));
}
