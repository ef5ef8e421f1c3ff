//! The released Python package in a virtual environment of its own, kept in the build's directory for the next time.

use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

const PACKAGE: &str = "bubus==1.5.6";
/// For the environment and the package; a machine without a network says so earlier.
const INSTALL: Duration = Duration::from_secs(120);
const ANSWER: Duration = Duration::from_secs(30);

pub(crate) struct Python {
    process: Child,
    asks: Option<ChildStdin>,
    answers: mpsc::Receiver<String>,
}

impl Python {
    /// Without Python, or without the package, says what is missing.
    pub(crate) fn with_the_package() -> Option<Python> {
        match environment() {
            Ok(python) => Some(Python::start(&python)),
            Err(missing) => {
                eprintln!("skipped: the exchange with the Python package {PACKAGE}: {missing}");
                None
            }
        }
    }

    fn start(python: &Path) -> Python {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/exchange.py");
        let mut process = Command::new(python)
            .arg(script)
            .env("PYTHONIOENCODING", "utf-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = lines(process.stdout.take().unwrap());
        Python { asks: process.stdin.take(), process, answers }
    }

    /// What becomes of an event there.
    pub(crate) fn event(&mut self, event: &Value) -> Value {
        self.ask(&json!({ "event": event }))
    }

    pub(crate) fn ask(&mut self, line: &Value) -> Value {
        writeln!(self.asks.as_mut().unwrap(), "{line}").unwrap();
        let answer = self.answers.recv_timeout(ANSWER).expect("an answer from Python");
        serde_json::from_str(&answer).unwrap()
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        drop(self.asks.take());
        let end = Instant::now() + ANSWER;
        if !finished(&mut self.process, end) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

fn lines(output: ChildStdout) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    receive
}

/// The interpreter of an environment that has the package.
fn environment() -> Result<PathBuf, String> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-bubus-1.5.6");
    let python = |place: &Path| place.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    if has_the_package(&python(&place)) {
        return Ok(python(&place));
    }
    let _ = fs::remove_dir_all(&place);
    let end = Instant::now() + INSTALL;
    let names = if cfg!(windows) { ["python", "py"] } else { ["python3", "python"] };
    let made = names.iter().any(|name| run(Command::new(name).args(["-m", "venv"]).arg(&place), end).is_ok());
    if !made {
        let _ = fs::remove_dir_all(&place);
        return Err("no Python with the module venv".to_owned());
    }
    let install = ["-m", "pip", "install", "--quiet", "--retries", "1", "--timeout", "10", PACKAGE];
    run(Command::new(python(&place)).args(install), end).map_err(|error| format!("pip does not get it: {error}"))?;
    match has_the_package(&python(&place)) {
        true => Ok(python(&place)),
        false => Err("it does not start with this Python".to_owned()),
    }
}

fn has_the_package(python: &Path) -> bool {
    let end = Instant::now() + ANSWER;
    python.exists() && run(Command::new(python).args(["-c", "import bubus"]), end).is_ok()
}

fn run(command: &mut Command, end: Instant) -> Result<(), String> {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = quiet.spawn().map_err(|error| error.to_string())?;
    if !finished(&mut process, end) {
        let _ = process.kill();
        let _ = process.wait();
        return Err("it takes too long".to_owned());
    }
    match process.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(status.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether it ends before `end`.
fn finished(process: &mut Child, end: Instant) -> bool {
    while Instant::now() < end {
        match process.try_wait() {
            Ok(None) => thread::sleep(Duration::from_millis(20)),
            _ => return true,
        }
    }
    false
}
