//! The options of a pool of worker processes.

use super::frame;
use crate::sys::thread;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What [`PoolBuilder`](super::PoolBuilder) says of each.
#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) program: Option<PathBuf>,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) min_processes: usize,
    pub(crate) max_processes: usize,
    pub(crate) max_events: Option<u64>,
    pub(crate) max_memory: Option<u64>,
    pub(crate) start_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) kill_grace: Duration,
    pub(crate) max_frame: usize,
    pub(crate) niceness: u8,
}

/// The options without the environment, which may hold secrets.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("program", &self.name())
            .field("args", &self.args)
            .field("min_processes", &self.min_processes)
            .field("max_processes", &self.max_processes)
            .field("max_events", &self.max_events)
            .field("max_memory", &self.max_memory)
            .field("start_timeout", &self.start_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("kill_grace", &self.kill_grace)
            .field("max_frame", &self.max_frame)
            .field("niceness", &self.niceness)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// What to start a worker by.
    pub(crate) fn executable(&self) -> io::Result<PathBuf> {
        /// The program that runs here, though its file may have been replaced by a newer one.
        const OWN: &str = "/proc/self/exe";
        match &self.program {
            Some(program) => Ok(program.clone()),
            None if cfg!(target_os = "linux") && Path::new(OWN).exists() => Ok(OWN.into()),
            None => std::env::current_exe(),
        }
    }

    /// The longest body that the pool takes, in bytes. What a worker has to say of itself always fits.
    pub(crate) fn largest_answer(&self) -> usize {
        self.max_frame.max(frame::LEAST)
    }

    /// Whether workers are of this process's build.
    pub(crate) fn is_this_program(&self) -> bool {
        self.program.is_none()
    }

    /// The program's name, for messages.
    pub(crate) fn name(&self) -> String {
        let program = self.program.clone().or_else(|| std::env::current_exe().ok());
        let name = program.as_ref().and_then(|program| program.file_name());
        name.map_or_else(|| "the worker".to_owned(), |name| name.to_string_lossy().into_owned())
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            program: None,
            args: Vec::new(),
            env: Vec::new(),
            min_processes: 0,
            max_processes: thread::cores(),
            max_events: None,
            max_memory: None,
            start_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(600),
            kill_grace: Duration::from_secs(1),
            max_frame: 16 << 20,
            niceness: 0,
        }
    }
}
