//! Registering handlers, and ending registrations.

use crate::bus::core::EventBus;
use crate::bus::middleware::tell;
use crate::bus::parts::handled::{Answers, Handled};
use crate::bus::parts::pattern::never_matches;
use crate::bus::parts::registry::WILDCARD;
use crate::bus::read::worker_local;
use crate::event::{
    AnyEvent, AnyOutput, Handler, HandlerEntry, HandlerError, HandlerId, HandlerInfo, HandlerOptions, IntoAnyOutcome,
    Outcome, Payload, short_type_name,
};
use crate::sys::clock;
use crate::sys::{logging, unwind};
use std::any::TypeId;
use std::panic::Location;
use std::sync::Arc;

impl EventBus {
    /// Registers a handler for events whose payload is a `P`; it runs for every event that is claimed from now on.
    ///
    /// Handlers of the exact type run first, in registration order, then wildcard ones. On a closed bus nothing is registered; the
    /// log says so, and [`HandlerInfo::is_registered`] is false. See [`Handler`] for what may be registered.
    #[track_caller]
    pub fn on<P: Payload, M>(&self, handler: impl Handler<P, M>) -> HandlerInfo {
        self.on_with(HandlerOptions::new(), handler)
    }

    /// Registers a handler as [`on`](EventBus::on) does, with options of its own.
    #[track_caller]
    pub fn on_with<P: Payload, M>(&self, options: HandlerOptions, handler: impl Handler<P, M>) -> HandlerInfo {
        fn named<T>(_: &T) -> &'static str {
            short_type_name::<T>()
        }
        let type_name = named(&handler);
        let call = move |event: &AnyEvent| match event.as_typed::<P>() {
            Some(event) => handler.handle(event).map(|output| output.map(AnyOutput::of::<P>)),
            None => Ok(None),
        };
        self.register(Handled::of::<P>(), options, type_name, call)
    }

    /// Registers an untyped handler: `pattern` is an event type's name, or `*` for all. Shares one table with [`on`](EventBus::on).
    ///
    /// Names are compared as a whole, so a handler for `Note*`, or for a name with blanks around it, waits in vain unless a type is called that: the
    /// log warns of it.
    ///
    /// What it returns, if anything, is the event's output or JSON that its codec reads. Where the bus does not know the event's type (see
    /// [`emit_json`](EventBus::emit_json)), nobody can tell, and any value is taken as it is; so a handler that returns the right thing does so
    /// whoever else is registered.
    #[track_caller]
    pub fn on_named<R: IntoAnyOutcome>(
        &self,
        pattern: &str,
        handler: impl Fn(&AnyEvent) -> R + Send + Sync + 'static,
    ) -> HandlerInfo {
        self.on_named_with(pattern, HandlerOptions::new(), handler)
    }

    /// Registers a handler as [`on_named`](EventBus::on_named) does, with options of its own.
    #[track_caller]
    pub fn on_named_with<R: IntoAnyOutcome>(
        &self,
        pattern: &str,
        options: HandlerOptions,
        handler: impl Fn(&AnyEvent) -> R + Send + Sync + 'static,
    ) -> HandlerInfo {
        fn named<T>(_: &T) -> &'static str {
            short_type_name::<T>()
        }
        let type_name = named(&handler);
        let call = move |event: &AnyEvent| handler(event).into_any_outcome();
        let handled = Handled { pattern: pattern.to_owned().into(), known: None, answers: Answers::Anything };
        let info = self.register(handled, options, type_name, call);
        if let Some(why) = never_matches(pattern)
            && matches!(self.core().registry.known(pattern), Ok(None))
        {
            logging::warn!(
                "no event is called {pattern:?}, for which {} handles on {}: {why}",
                info.label(),
                self.label()
            );
        }
        info
    }

    /// Registers a handler for every event.
    #[track_caller]
    pub fn on_any<R: IntoAnyOutcome>(&self, handler: impl Fn(&AnyEvent) -> R + Send + Sync + 'static) -> HandlerInfo {
        self.on_named(WILDCARD, handler)
    }

    #[track_caller]
    pub(crate) fn register(
        &self,
        handled: Handled,
        options: HandlerOptions,
        type_name: &'static str,
        call: impl Fn(&AnyEvent) -> Result<Option<AnyOutput>, HandlerError> + Send + Sync + 'static,
    ) -> HandlerInfo {
        let Handled { pattern, known, answers } = handled;
        let location = Location::caller();
        let name = match &options.name {
            Some(name) => Some(name.to_string().into()),
            // Most end so, and a look at the end takes a fraction of a search.
            None if type_name.ends_with("{{closure}}") || type_name.contains("{{closure}}") => None,
            None => Some(type_name.into()),
        };
        let stamp = clock::unique_stamp(clock::now());
        let bus = Arc::clone(&self.core().identity.label);
        let info = HandlerInfo::new(name, pattern, bus, location, stamp);
        let limit = options.limit.as_ref().map(|limit| self.core().limit_group(limit));
        let (typed, fits) = match answers {
            Answers::Output => (true, known.map(|known| known.name)),
            Answers::Nothing => (true, None),
            Answers::Anything => (false, None),
        };
        // Into its place, since a result that is handed on takes longer than most handlers.
        let call = move |event: &AnyEvent, outcome: &mut Outcome| {
            let Some(output) = call(event)? else { return fits.map_or(Ok(()), |name| event.fits(name)) };
            *outcome = Outcome::Value(output);
            Ok(())
        };
        let entry = Arc::new(HandlerEntry { info: info.clone(), options, limit, call: Arc::new(call), typed });
        let added = self.core().registry.add(entry, known);
        if !added {
            info.end();
        }
        tell::deliver_handlers(self.core());
        if !added {
            logging::warn!(
                "{} is closed: handler {} for {} was not registered",
                self.label(),
                info.label(),
                info.pattern()
            );
        }
        info
    }

    /// Ends a registration. False if it was not registered (any more).
    ///
    /// From then on no invocation of it starts, on any thread: an event that has started, too, goes on without it, and shows
    /// [`HandlerFailure::Cancelled`](crate::HandlerFailure::Cancelled) with [`CauseKind::Off`](crate::CauseKind::Off) for it, which is no failure of the event. What
    /// stands in line for a place under its [`Limit`](crate::Limit) does so at once. An invocation that has started goes on, with all its attempts.
    ///
    /// True for one caller only, so a handler that asks first runs what follows once, whatever runs beside it:
    ///
    /// ```
    /// use threadbus::{Event, EventBus, HandlerContext, HandlerError, Payload};
    /// struct Login;
    /// impl Payload for Login { type Output = &'static str; }
    ///
    /// let bus = EventBus::new("app");
    /// bus.on(|login: &Event<Login>| -> Result<Option<&'static str>, HandlerError> {
    ///     let me = HandlerContext::current().ok_or("not in a handler")?.handler();
    ///     Ok(login.bus().off(&me).then_some("the first login"))
    /// });
    /// assert_eq!(bus.emit(Login).result()?, "the first login");
    /// assert!(!bus.has_handler::<Login>());
    /// # Ok::<(), threadbus::ResultError>(())
    /// ```
    pub fn off(&self, handler: &HandlerInfo) -> bool {
        self.off_id(handler.id())
    }

    /// Ends the registration that has this id; false if it has ended before.
    pub fn off_id(&self, handler: HandlerId) -> bool {
        self.let_go(self.core().registry.remove(handler).into_iter().collect()) > 0
    }

    /// Ends all registrations for the type `P`, by-name ones included; how many.
    pub fn off_all<P: Payload>(&self) -> usize {
        self.let_go(self.core().registry.remove_all(crate::event::name_of::<P>(), Some(TypeId::of::<P>())))
    }

    /// Ends all registrations under a name; `*` means the wildcard ones only. How many.
    pub fn off_named(&self, pattern: &str) -> usize {
        self.let_go(self.core().registry.remove_all(pattern, None))
    }

    fn let_go(&self, gone: Vec<Arc<HandlerEntry>>) -> usize {
        let count = gone.len();
        worker_local::forget_handlers(self.core(), &gone);
        gone.iter().for_each(|handler| handler.has_ended());
        self.core().leave_lines(&gone);
        unwind::drop_each(gone);
        tell::deliver_handlers(self.core());
        count
    }

    /// All registrations, in their order.
    pub fn handlers(&self) -> Vec<HandlerInfo> {
        self.core().registry.infos()
    }

    /// Whether an event of type `P` would find a handler now.
    pub fn has_handler<P: Payload>(&self) -> bool {
        !self.core().slot_of::<P>().handlers.is_empty()
    }
}
