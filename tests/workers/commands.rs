//! What the tests of commands share.

use threadbus::EventBus;
use threadbus::process::{Command, run_command};

/// A shell that runs this script.
pub fn sh(script: &str) -> Command {
    Command::new("sh").args(["-c", script])
}

/// A serial bus that runs commands.
pub fn bus() -> EventBus {
    let bus = EventBus::new("commands");
    bus.on(run_command);
    bus
}
