//! The runtime's one turn for global-serial events, and buses that only their pump thread runs.

#[macro_use]
mod common;

use common::{Gate, Log, PATIENCE, eventually, linger, within};
use threadbus::*;

payload!(Ask { n: u32 } => u32);
payload!(Hold);

type Anything = Result<(), Box<dyn std::error::Error>>;

/// A global-serial manual bus whose loop was granted the turn while its pump thread was elsewhere.
struct Scene {
    ui: EventBus,
    work: EventBus,
    queued: Event<Ask>,
    log: Log,
}

fn scene() -> Result<Scene, BuildError> {
    let runtime = Runtime::builder().build()?;
    let serial = |name| EventBus::builder(name).event_concurrency(EventConcurrency::GlobalSerial).runtime(&runtime);
    let (ui, work) = (serial("ui").manual().build()?, serial("work").build()?);
    let (log, holds, go) = (Log::new(), Gate::new(), Gate::new());
    let seen = log.clone();
    ui.on(move |ask: &Event<Ask>| {
        seen.push(ask.n);
        ask.n
    });
    let (held, gone) = (holds.clone(), go.clone());
    work.on(move |_: &Event<Hold>| {
        held.open();
        gone.wait();
    });
    work.emit(Hold);
    holds.wait();
    let queued = ui.emit(Ask { n: 1 });
    assert_eq!(ui.run_pending(), 0, "it started without the turn");
    go.open();
    // No wait of ours, in which this thread would run the loop.
    eventually(|| work.is_idle());
    linger();
    Ok(Scene { ui, work, queued, log })
}

#[test]
fn what_waits_for_the_turn_on_the_pump_thread_lets_the_loop_use_it() -> Anything {
    let ended = within(PATIENCE, || {
        let Scene { ui, queued, log, .. } = scene().map_err(|error| error.to_string())?;
        // Behind the loop, which only this thread can run.
        let now = ui.emit_now(Ask { n: 2 });
        assert!(now.is_completed() && queued.is_completed());
        assert_eq!(log.entries(), ["1", "2"]);
        Ok::<_, String>(())
    });
    Ok(ended?)
}

#[test]
fn a_bus_that_goes_gives_the_turn_of_its_loop_back() -> Anything {
    let ended = within(PATIENCE, || {
        let Scene { ui, work, queued, .. } = scene().map_err(|error| error.to_string())?;
        drop(ui);
        assert!(matches!(queued.wait(), Err(WaitError::Dropped)));
        work.emit(Hold).wait().map_err(|error| error.to_string())
    });
    ended?;
    Ok(())
}
