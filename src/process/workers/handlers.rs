//! The handlers of a worker process, and how a request runs one of them.

use super::LOGGER_HINT;
use super::message::{Outcome, Request};
use crate::bus::{EventBus, Shutdown, unlogged};
use crate::event::{
    AnyEvent, AnyOutput, Codec, Event, Handler, HandlerError, HandlerFailure, HandlerInfo, HandlerOptions, KnownType,
    MakeEvent, Payload, name_of,
};
use crate::exact;
use crate::sys::sync::atomic::{AtomicBool, Ordering};
use crate::sys::{logging, unwind};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The handlers of a worker process.
///
/// ```no_run
/// use serde::{Deserialize, Serialize};
/// use threadbus::{Event, HandlerError, event, process};
///
/// #[derive(Serialize, Deserialize)]
/// struct Head { path: String }
/// event!(Head => String);
/// #[derive(Serialize, Deserialize)]
/// struct Size { path: String }
/// event!(Size => u64);
///
/// fn head(head: &Event<Head>) -> Result<String, HandlerError> {
///     // The other handler of this worker answers.
///     let size = head.bus().emit(Size { path: head.path.clone() }).result()?;
///     Ok(format!("{}: {size} bytes", head.path))
/// }
///
/// process::serve(|worker| {
///     worker.on(head).on(|size: &Event<Size>| std::fs::metadata(&size.path).map(|found| found.len()));
/// });
/// ```
pub struct Worker {
    /// By the name of their events' type. Two types of one name are both there.
    handlers: BTreeMap<&'static str, Vec<Served>>,
}

/// One type's handler.
struct Served {
    /// The payload's type as the compiler calls it.
    rust_type: &'static str,
    install: Box<Install>,
    emit: fn(&EventBus, &Request, &[u8]) -> Result<AnyEvent, exact::Error>,
    append_output: AppendOutput,
}

/// Registers the handler on a request's bus. The flag, for the handler that the pool asked for, takes whether its error is permanent.
type Install = dyn Fn(&EventBus, Option<Arc<AtomicBool>>) -> HandlerInfo;

impl Worker {
    pub(crate) fn new() -> Self {
        Worker { handlers: BTreeMap::new() }
    }

    /// Sets the handler for events whose payload is a `P`: anything that [`EventBus::on`] takes. A second one for the same type takes the first
    /// one's place.
    ///
    /// A pool asks for a type by its [`event_type`](Payload::event_type). Of two types with one name, the one is asked that has the same path in Rust
    /// as the pool's; where there is none, the request is refused.
    pub fn on<P: Payload, M>(&mut self, handler: impl Handler<P, M>) -> &mut Self {
        let handler = Arc::new(handler);
        let install = move |bus: &EventBus, permanent: Option<Arc<AtomicBool>>| {
            let handler = Arc::clone(&handler);
            let options = HandlerOptions::new().name(name_of::<P>());
            bus.on_with(options, move |event: &Event<P>| match &permanent {
                Some(permanent) => once(&*handler, event, permanent),
                None => handler.handle(event),
            })
        };
        let name = name_of::<P>();
        let served = Served {
            rust_type: std::any::type_name::<P>(),
            install: Box::new(install),
            emit: emit::<P>,
            append_output: append_output::<P>,
        };
        let of_this_name = self.handlers.entry(name).or_default();
        match of_this_name.iter_mut().find(|other| other.rust_type == served.rust_type) {
            Some(first) => {
                logging::warn!("a second handler for {name} takes the place of the first");
                *first = served;
            }
            None => {
                if let Some(other) = of_this_name.first() {
                    logging::warn!("two types are called {name}: {} and {}", other.rust_type, served.rust_type);
                }
                of_this_name.push(served);
            }
        }
        self
    }

    /// The handler that a request is for, or why there is none.
    fn find(&self, request: &Request) -> Result<&Served, String> {
        let Request { event_type, rust_type, same_program, .. } = request;
        let Some(served) = self.handlers.get(event_type.as_str()) else {
            let known = self.handlers.keys().copied().collect::<Vec<_>>().join(", ");
            let known = if known.is_empty() { "nothing" } else { &known };
            return Err(format!("no handler for {event_type} in the worker, which handles {known}"));
        };
        match served.as_slice() {
            _ if let Some(same) = served.iter().find(|served| served.rust_type == rust_type) => Ok(same),
            // Another program may have the type in another module.
            [only] if !same_program => Ok(only),
            others => {
                let others: Vec<_> = others.iter().map(|served| served.rust_type).collect();
                Err(format!("the worker's {event_type} is {}, not {rust_type}", others.join(" or ")))
            }
        }
    }

    /// Runs the handler that the request is for. Calls `begin` just before it begins.
    pub(crate) fn handle(&self, request: &Request, payload: &[u8], begin: impl FnOnce() -> io::Result<()>) -> Ended {
        log::set_max_level(request.log);
        self.run(request, payload, begin).unwrap_or_else(|why| Ended::Without(Outcome::Refused(why)))
    }

    /// Runs it on a bus of its own, since a retry comes with the same id, and a bus runs no id twice.
    fn run(&self, request: &Request, payload: &[u8], begin: impl FnOnce() -> io::Result<()>) -> Result<Ended, String> {
        let served = self.find(request)?;
        let bus = EventBus::builder("worker").handler_timeout(None).handler_slow_after(None).event_slow_after(None);
        let bus = bus.build().map_err(|error| error.to_string())?;
        let permanent = Arc::new(AtomicBool::new(false));
        let mut asked = None;
        for other in self.handlers.values().flatten() {
            let of_this = std::ptr::eq(other, served);
            let info = (other.install)(&bus, of_this.then(|| Arc::clone(&permanent)));
            if of_this {
                asked = Some(info.id());
            }
        }
        begin().map_err(|error| error.to_string())?;
        let event_type = &request.event_type;
        let emit = || (served.emit)(&bus, request, payload);
        let event = if request.unlogged { unlogged(emit) } else { emit() };
        let event = event.map_err(|error| format!("the worker cannot read {event_type}: {error}"))?;
        let event = event.wait().map_err(|error| format!("the worker cannot take {event_type}: {error}"))?;
        let result = event.results().into_iter().find(|result| Some(result.handler.id()) == asked);
        let result = result.ok_or_else(|| format!("the handler of {event_type} did not run"))?;
        bus.shutdown(Shutdown::Now, Duration::ZERO);
        Ok(match (result.value, result.error.as_deref()) {
            (_, Some(HandlerFailure::TimedOut { .. })) => Ended::TimedOut,
            (_, Some(HandlerFailure::Panicked(text))) => Ended::Without(Outcome::Panicked(text.clone())),
            (_, Some(failure)) => {
                let permanent = permanent.load(Ordering::SeqCst);
                Ended::Without(Outcome::Failed { text: text_of(failure), permanent })
            }
            (Some(output), None) => Ended::Output(output, served.append_output),
            (None, None) => Ended::Without(Outcome::Nothing),
        })
    }
}

/// How a request ended.
pub(crate) enum Ended {
    Output(AnyOutput, AppendOutput),
    Without(Outcome),
    /// The pool ends this process, so there is nothing to answer.
    TimedOut,
}

/// Appends an output to the bytes that there are, up to a length of them all.
pub(crate) type AppendOutput = fn(&AnyOutput, &mut Vec<u8>, usize) -> Result<(), exact::Error>;

fn emit<P: Payload>(bus: &EventBus, request: &Request, payload: &[u8]) -> Result<AnyEvent, exact::Error> {
    let payload = codec::<P>()?.read_payload(payload)?;
    let emitted = bus.core().emit_typed(KnownType::of::<P>(), request.options(), MakeEvent::of(payload));
    emitted.map_err(serde::de::Error::custom)
}

fn append_output<P: Payload>(output: &AnyOutput, bytes: &mut Vec<u8>, max: usize) -> Result<(), exact::Error> {
    let output = output.downcast_ref().ok_or_else(|| serde::ser::Error::custom("it is of another type"))?;
    codec::<P>()?.append_output(bytes, output, max)
}

fn codec<P: Payload>() -> Result<Codec<P>, exact::Error> {
    P::codec().ok_or_else(|| serde::ser::Error::custom(format_args!("{} has no codec", name_of::<P>())))
}

/// Makes one attempt. No retry follows here: every failure counts as permanent, and whether it is goes to the pool, whose bus retries.
fn once<P: Payload, M>(
    handler: &impl Handler<P, M>,
    event: &Event<P>,
    permanent: &AtomicBool,
) -> Result<Option<P::Output>, HandlerError> {
    match unwind::catch(|| handler.handle(event)) {
        Ok(returned) => returned.map_err(|error| {
            permanent.store(error.is_permanent(), Ordering::SeqCst);
            HandlerError { permanent: true, ..error }
        }),
        Err(panic) => Err(HandlerError::permanent(HandlerFailure::Panicked(with_hint(panic)))),
    }
}

/// An error's text, which the user's code writes, so it may panic.
fn text_of(failure: &HandlerFailure) -> String {
    unwind::catch(|| failure.to_string()).unwrap_or_else(|panic| format!("its text panicked: {panic}"))
}

/// Adds why a panic of a handler that sets a logger came about.
fn with_hint(panic: String) -> String {
    if panic.contains("SetLoggerError") {
        return format!("{panic}: {LOGGER_HINT}");
    }
    panic
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("handlers", &self.handlers.keys()).finish()
    }
}
