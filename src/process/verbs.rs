//! What a program does with a command: [`Command::run`] on the calling thread, and [`run_command`] as a handler on a bus.

use super::capture::OnLine;
use super::command::Command;
use super::output::{CommandError, CommandOutput, OutputLine};
use super::run;
use crate::event::{Event, HandlerError};

impl Command {
    /// Runs the command on this thread, without a bus.
    ///
    /// **Blocking**: until the command has ended. Inside a handler it is ended, at the latest, when that handler is given up.
    ///
    /// ```
    /// use threadbus::process::Command;
    ///
    /// # #[cfg(unix)] {
    /// let output = Command::new("sh").args(["-c", "exit 42"]).run()?;
    /// assert_eq!(output.code, Some(42)); // a value, not an error
    /// let error = Command::new("no-such-program").run().unwrap_err();
    /// assert_eq!(error.io_kind(), Some(std::io::ErrorKind::NotFound));
    /// # }
    /// # Ok::<(), threadbus::process::CommandError>(())
    /// ```
    ///
    /// # Errors
    /// [`CommandError`], if it could not be started, or was given up, or failed and is to be [checked](Command::check). What was captured is
    /// in [`CommandError::output`].
    pub fn run(&self) -> Result<CommandOutput, CommandError> {
        self.run_with(None)
    }

    /// Runs the command as [`run`](Command::run) does, and calls `on_line` with each line of its captured streams as it comes, on this thread.
    ///
    /// The lines are captured as well, unless [`max_capture`](Command::max_capture) is 0. Lines of one stream come in their order; between
    /// the two streams there is none. While `on_line` runs nothing is read: a command that writes more than a pipe holds waits for it, and
    /// one whose handler is given up is ended after it.
    ///
    /// ```
    /// use threadbus::process::Command;
    ///
    /// # #[cfg(unix)] {
    /// let mut seen = Vec::new();
    /// let build = Command::new("sh").args(["-c", "echo compiling; echo a warning >&2"]);
    /// build.run_by_line(|line| seen.push(format!("{} {line}", if line.is_error() { "!" } else { " " })))?;
    /// seen.sort();
    /// assert_eq!(seen, ["  compiling", "! a warning"]);
    /// # }
    /// # Ok::<(), threadbus::process::CommandError>(())
    /// ```
    ///
    /// # Errors
    /// As [`run`](Command::run).
    ///
    /// # Panics
    /// If `on_line` does; the command is ended then.
    pub fn run_by_line(&self, mut on_line: impl FnMut(OutputLine<'_>)) -> Result<CommandOutput, CommandError> {
        self.run_with(Some(&mut on_line))
    }

    fn run_with(&self, on_line: Option<OnLine<'_>>) -> Result<CommandOutput, CommandError> {
        self.make_sense()?;
        run::run(self, on_line)
    }
}

/// The handler of [`Command`]: runs it, and waits for its end.
///
/// A program that ends with a code other than 0, or by a signal, is a value like any other, and not retried, unless
/// [`Command::check`] says that it is an error. What could not be started is an error, in which
/// [`HandlerFailure::downcast_ref`](crate::HandlerFailure::downcast_ref) finds the `std::io::Error`, and the [`CommandError`] with what was captured.
/// The detail of a [`TimedOut`](crate::HandlerFailure::TimedOut), and of the [`Cause`](crate::Cause) of an event that was given up, shows the end
/// of what it has written.
///
/// When the handler times out or its event is cancelled, the command's whole group is terminated, and killed after its
/// [`kill_grace`](Command::kill_grace). The handler's thread sees to that, so until then it counts as abandoned, and `shutdown` waits for
/// it within its timeout.
///
/// ```
/// use std::time::Duration;
/// use threadbus::process::{Command, Sink, run_command};
/// use threadbus::{EventBus, EventOptions, HandlerFailure};
///
/// # #[cfg(unix)] {
/// let bus = EventBus::new("tools");
/// bus.on(run_command);
/// let both = bus.emit(Command::new("sh").args(["-c", "echo out; echo err >&2"]).stderr(Sink::Stdout)).result()?;
/// assert_eq!(both.stdout.text(), "out\nerr\n");
///
/// let short = EventOptions::new().handler_timeout(Duration::from_millis(50));
/// let slow = bus.emit_with(Command::new("sleep").arg("30"), short).wait()?;
/// assert!(matches!(*slow.errors()[0], HandlerFailure::TimedOut { .. })); // and `sleep` is ended
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Whatever [`Command::run`] fails with.
pub fn run_command(event: &Event<Command>) -> Result<CommandOutput, HandlerError> {
    Ok(event.run()?)
}

/// A handler of [`Command`] that runs it as [`run_command`] does, and calls `on_line` with each line of the command's captured streams as it
/// comes, on the handler's thread ([`Command::run_by_line`]).
///
/// ```
/// use threadbus::process::{Command, run_command_by_line};
/// use threadbus::{EventBus, Payload};
///
/// /// A line of a build's output.
/// struct Said(String);
/// impl Payload for Said { type Output = (); }
///
/// # #[cfg(unix)] {
/// let bus = EventBus::new("builds");
/// bus.on(run_command_by_line(|build, line| { build.bus().emit(Said(line.to_string())); }));
/// let build = bus.emit(Command::new("sh").args(["-c", "echo compiling; echo linking"])).wait()?;
/// assert_eq!(build.children().len(), 2);
/// # }
/// # Ok::<(), threadbus::WaitError>(())
/// ```
pub fn run_command_by_line(
    on_line: impl Fn(&Event<Command>, OutputLine<'_>) + Send + Sync + 'static,
) -> impl Fn(&Event<Command>) -> Result<CommandOutput, HandlerError> + Send + Sync + 'static {
    move |event: &Event<Command>| Ok(event.run_by_line(|line| on_line(event, line))?)
}
