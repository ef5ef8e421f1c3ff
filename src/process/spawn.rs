//! Starting a program by `posix_spawn`, which sets its signals, session and group without touching this process's. Linux only.

use super::command::Command;
use super::place::{Join, Mark};
use super::streams::{Target, Theirs};
use crate::sys::sync::Mutex;
use crate::sys::thread;
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::SigSet;
use rustix::process::Pid;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where programs are looked for without a `PATH`.
const PATH: &str = "/bin:/usr/bin";
const STACK: usize = 256 * 1024;

/// Starts the command. None if it has to be started in another way.
pub(crate) fn start(command: &Command, streams: &Theirs, join: Join, mark: &Mark) -> Option<io::Result<Pid>> {
    match &command.cwd {
        Some(dir) => start_in(dir, command, streams, join, mark).transpose(),
        None => Some(start_here(command, streams, join, mark)),
    }
}

/// Starts the command from a thread that has a directory of its own, since `posix_spawn` takes that of the thread that calls it. None if the
/// system refuses such a thread, as many containers do.
fn start_in(
    dir: &Path,
    command: &Command,
    [stdin, stdout, stderr]: &Theirs,
    join: Join,
    mark: &Mark,
) -> io::Result<Option<Pid>> {
    let started = Arc::new(Mutex::new(None));
    let (dir, command, mark) = (dir.to_owned(), command.clone(), mark.try_clone()?);
    let streams = [stdin.try_clone()?, stdout.try_clone()?, stderr.try_clone()?];
    let start = {
        let started = Arc::clone(&started);
        move || {
            if unshare(CloneFlags::CLONE_FS).is_ok() {
                let here = std::env::set_current_dir(dir);
                let pid = here.and_then(|()| start_here(&command, &streams, join, &mark));
                *started.lock() = Some(pid);
            }
        }
    };
    let Ok(thread) = thread::spawn_kept("command-start".to_owned(), STACK, start) else { return Ok(None) };
    let _ = thread.join();
    let started = started.lock().take();
    started.transpose()
}

fn start_here(command: &Command, streams: &Theirs, join: Join, mark: &Mark) -> io::Result<Pid> {
    let environment = environment(command);
    let path = environment.get(OsStr::new("PATH")).map_or(OsStr::new(PATH), |path| path);
    let mut variables = Vec::with_capacity(environment.len());
    for (name, value) in &environment {
        variables.push(text([name.as_bytes(), b"=", value.as_bytes()].concat())?);
    }
    let mut args = vec![text(command.program.as_bytes())?];
    for arg in &command.args {
        args.push(text(arg.as_bytes())?);
    }
    let attributes = attributes(join)?;
    let mut files = Files::of(streams)?;
    if let Some(pipe) = &mark.pipe {
        files.put(pipe.as_fd(), 3)?;
    }
    let spawn = |program: &Path, args: &[CString]| -> io::Result<Pid> {
        let program = text(program.as_os_str().as_bytes())?;
        let pid = posix_spawn(program.as_c_str(), &files.actions, &attributes, args, &variables)?;
        Pid::from_raw(pid.as_raw()).ok_or_else(|| io::Error::other("the new process has no number"))
    };
    let mut refused = None;
    for program in places(&command.program, path) {
        let error = match spawn(&program, &args) {
            // A script without a first line that names its shell.
            Err(error) if error.raw_os_error() == Some(libc::ENOEXEC) => {
                let mut with_shell = vec![text("sh")?, text(program.as_os_str().as_bytes())?];
                with_shell.extend(args[1..].iter().cloned());
                return spawn(Path::new("/bin/sh"), &with_shell);
            }
            Err(error) => error,
            started => return started,
        };
        match error.raw_os_error() {
            // A file that may not be run does not hide one in a later directory.
            Some(libc::EACCES) => refused = Some(error),
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            _ => return Err(error),
        }
    }
    Err(refused.unwrap_or_else(|| io::Error::from_raw_os_error(libc::ENOENT)))
}

fn text(bytes: impl Into<Vec<u8>>) -> io::Result<CString> {
    Ok(CString::new(bytes)?)
}

fn environment(command: &Command) -> BTreeMap<OsString, OsString> {
    let mut all: BTreeMap<_, _> = if command.clear_env { BTreeMap::new() } else { std::env::vars_os().collect() };
    for (name, value) in &command.env {
        match value {
            Some(value) => drop(all.insert(name.clone(), value.clone())),
            None => drop(all.remove(name)),
        }
    }
    all
}

/// Where the program may be, in the order in which to try them.
fn places<'a>(program: &'a OsStr, path: &'a OsStr) -> Vec<Cow<'a, Path>> {
    if program.as_bytes().contains(&b'/') {
        return vec![Path::new(program).into()];
    }
    let dirs = path.as_bytes().split(|byte| *byte == b':');
    // An empty entry is the current directory.
    let found = |dir: &[u8]| PathBuf::from(OsString::from_vec(dir.to_vec())).join(program);
    let is_there = |path: &PathBuf| !matches!(path.try_exists(), Ok(false));
    dirs.map(found).filter(is_there).map(Cow::from).collect()
}

fn attributes(join: Join) -> io::Result<PosixSpawnAttr> {
    let mut attributes = PosixSpawnAttr::init()?;
    let mut flags = PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK;
    attributes.set_sigdefault(&SigSet::all())?;
    attributes.set_sigmask(&SigSet::empty())?;
    let group = match join {
        Join::Own => Some(0),
        Join::Group(group) => Some(group.as_raw_pid()),
        Join::Session | Join::Here => None,
    };
    if let Some(group) = group {
        flags |= PosixSpawnFlags::POSIX_SPAWN_SETPGROUP;
        attributes.set_pgroup(nix::unistd::Pid::from_raw(group))?;
    }
    if join == Join::Session {
        flags |= PosixSpawnFlags::from_bits_retain(libc::POSIX_SPAWN_SETSID.into());
    }
    attributes.set_flags(flags)?;
    Ok(attributes)
}

/// The files that become the new process's streams. Open until it has started.
struct Files {
    actions: PosixSpawnFileActions,
    open: Vec<OwnedFd>,
}

impl Files {
    fn of(streams: &Theirs) -> io::Result<Files> {
        let mut files = Files { actions: PosixSpawnFileActions::init()?, open: Vec::new() };
        for (number, stream) in (0..).zip(streams) {
            match stream {
                Target::Source(pipe) => files.put(pipe.as_fd(), number)?,
                Target::Pipe(pipe) => files.put(pipe.as_fd(), number)?,
                Target::File(file) => files.put(file.as_fd(), number)?,
                Target::Null => {
                    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
                    files.put(null.as_fd(), number)?;
                }
                Target::Own(own) if i32::from(*own) == number => {}
                Target::Own(own) => files.actions.add_dup2(i32::from(*own), number)?,
            }
        }
        Ok(files)
    }

    /// Puts a copy of the file under `number`. The copy has a higher number than all that are put, so that none overwrites another.
    fn put(&mut self, file: BorrowedFd<'_>, number: i32) -> io::Result<()> {
        let copy = rustix::io::fcntl_dupfd_cloexec(file, 4)?;
        self.actions.add_dup2(copy.as_raw_fd(), number)?;
        self.open.push(copy);
        Ok(())
    }
}
