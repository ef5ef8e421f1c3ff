//! A bus that hangs, in words.

use crate::bus::core::BusCore;
use crate::bus::permits::limits;
use crate::sync::{Granted, Token};

impl BusCore {
    /// What stands in whose way, for `Debug` and for a log of a program that hangs.
    pub(crate) fn describe_permits(&self) -> String {
        let name = |token: Token| format!("{:x}/{:x}", token.stamp, token.part);
        let lines: Vec<_> = self.set_aside().iter().flat_map(|event| limits::lines_of(&event.state().lock())).collect();
        let limits: String = lines
            .iter()
            .map(|group| group.step(|cap| (format!("; limit: {}", cap.describe(&name)), Granted::new())))
            .collect();
        let pump = self.describe_pump();
        let run = self.run.lock();
        format!(
            "event permit {}; handler permit {}; paused {} times, by {} jumps; {} in lanes, {} free; loop set aside: {}, in the global line: {}{pump}{limits}",
            run.event.describe(&name),
            run.handler.describe(&name),
            run.paused,
            run.jumps.len(),
            run.lanes.len(),
            run.free.len(),
            run.loop_set_aside,
            run.loop_in_global_line,
        )
    }
}
