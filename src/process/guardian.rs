//! What ends a command if this process cannot: a shell that reads a pipe which only this process holds (README.md).
//!
//! If this process dies, by whatever, the pipe ends, and the shell ends the command. Else this process ends the command, and then the shell.
//! The shell is there before the command, so there is no moment without it.

use super::child::{Target as To, Watched};
use super::command::Command;
use super::place::{Join, Mark, Place};
use super::start;
use super::streams::Target;
use rustix::process::Pid;
use std::io::{self, PipeWriter, Write};
use std::time::Duration;

/// What the shell runs. Its arguments: the seconds between the two signals; to whom they go, unless the first line that it reads says so (`0`:
/// its own group); the inode of a pipe by which to find the command if no such line comes; what stands before a number that was found so (`-`: it
/// leads a group).
///
/// The shell is deaf to what it sends to its own group, but for the last signal, which meets a command that joins the group late as well.
const SCRIPT: &str = r#"
trap '' HUP INT QUIT TERM
cd /
to=$2
[ -n "$to" ] || read -r to
read -r _
if [ -z "$to" ] && [ -n "$3" ]; then
    to=$(ls -l /proc/[0-9]*/fd | while read -r line; do
        case $line in
        /proc/*/fd:) pid=${line#/proc/} pid=${pid%/fd:} ;;
        *" -> pipe:[$3]") kill -s 0 -- "$4$pid" && echo "$4$pid" ;;
        esac
    done)
fi
[ -n "$to" ] || exit
kill -s TERM -- $to
left=$1
while [ "$left" -gt 0 ] && kill -s 0 -- $to; do
    sleep 1
    left=$((left - 1))
done
kill -s KILL -- $to
"#;

/// A command's guardian, which ends it when this is dropped without [`end`](Guardian::end).
#[derive(Debug)]
pub(crate) struct Guardian {
    shell: Watched,
    place: Place,
    lifeline: PipeWriter,
}

impl Guardian {
    /// Starts the shell. `grace` is the time between the two signals; rounded up to whole seconds, since not every `sleep` knows others.
    pub(crate) fn start(grace: Duration, place: Place, mark: &Mark) -> io::Result<Guardian> {
        let (end, lifeline) = io::pipe()?;
        // No shell counts further.
        const LONGEST: u64 = i32::MAX as u64;
        let seconds = grace.as_secs().saturating_add(u64::from(grace.subsec_nanos() > 0)).clamp(1, LONGEST);
        let to = if place == Place::Guarded { "0" } else { "" };
        let leads = if place == Place::Foreground { "" } else { "-" };
        let mark = mark.inode.map(|inode| inode.to_string()).unwrap_or_default();
        let shell = Command::new("/bin/sh").args(["-c", SCRIPT, "threadbus-guardian"]).args([
            &seconds.to_string(),
            to,
            &mark,
            leads,
        ]);
        let pid =
            start::start(&shell, &[Target::Source(end), Target::Null, Target::Null], Join::Own, &Mark::default())?;
        Ok(Guardian { shell: Watched::of(pid, To::Group(pid)), place, lifeline })
    }

    /// Where the command is to be started.
    pub(crate) fn join(&self) -> Join {
        match self.place {
            Place::Session => Join::Session,
            Place::Guarded => Join::Group(self.shell.pid()),
            Place::Foreground => Join::Here,
        }
    }

    /// The command has been started: tells the guardian its number.
    pub(crate) fn watch(&mut self, pid: Pid) -> Watched {
        let (to, line) = match self.place {
            Place::Session => (To::Group(pid), format!("-{}\n", pid.as_raw_pid())),
            Place::Guarded => (To::Group(self.shell.pid()), String::new()),
            Place::Foreground => (To::Alone, format!("{}\n", pid.as_raw_pid())),
        };
        // An error means that the shell is gone, and cannot be told.
        let _ = self.lifeline.write_all(line.as_bytes());
        Watched::of(pid, to)
    }

    /// Ends the command with what is left of its group, and the guardian. The one whose number is the group's is reaped last.
    pub(crate) fn end(mut self, command: &mut Watched) -> Option<std::process::ExitStatus> {
        if self.place == Place::Guarded {
            let status = command.reap();
            self.shell.reap();
            return status;
        }
        command.kill();
        self.shell.reap();
        command.reap()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
mod tests {
    use super::*;
    use crate::process::streams;
    use std::time::Instant;

    /// What the guardian has been told when this process dies.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Told {
        Number,
        Nothing,
    }

    /// Asserts that a command and its guardian end when this process's end of the lifeline goes, within 10 s.
    fn ends(command: Command, place: Place, told: Told) {
        let (streams, theirs) = streams::prepare(&command).unwrap();
        let mark = Mark::of(&theirs).unwrap();
        let mut guardian = Guardian::start(Duration::from_secs(1), place, &mark).unwrap();
        let pid = start::start(&command, &theirs, guardian.join(), &mark).unwrap();
        drop((theirs, mark));
        let child = if told == Told::Number { guardian.watch(pid) } else { Watched::of(pid, To::Alone) };
        // What this process holds goes with it.
        drop(streams);
        let Guardian { mut shell, lifeline, .. } = guardian;
        drop(lifeline);
        let began = Instant::now();
        while !(child.has_exited() && shell.has_exited()) {
            assert!(began.elapsed() < Duration::from_secs(10), "{place:?}, told: {told:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(child);
        shell.reap();
    }

    fn commands() -> Vec<Command> {
        let meek = Command::new("sleep").arg("300");
        let stubborn = Command::new("sh").args(["-c", "trap '' TERM HUP; while :; do sleep 1; done"]);
        let streams = |command: Command| {
            use crate::process::{Input, Sink};
            let files = command.clone().stdout(Sink::Null).stderr(Sink::Null);
            [command.clone(), files.clone(), files.stdin(Input::Bytes("x".into()))]
        };
        [meek, stubborn].into_iter().flat_map(streams).collect()
    }

    #[test]
    fn ends_what_it_was_told_of() {
        std::thread::scope(|scope| {
            for place in [Place::Session, Place::Foreground, Place::Guarded] {
                for command in commands() {
                    scope.spawn(move || ends(command, place, Told::Number));
                }
            }
        });
    }

    /// As if this process had died after the command's start.
    #[test]
    #[cfg(target_os = "linux")]
    fn ends_what_it_was_not_told_of_yet() {
        for command in commands() {
            ends(command.clone(), Place::Session, Told::Nothing);
            ends(command, Place::Foreground, Told::Nothing);
        }
        let elsewhere = Command::new("sleep").arg("300").cwd("/");
        ends(elsewhere.clone(), Place::Session, Told::Nothing);
        ends(
            elsewhere.stdout(crate::process::Sink::Null).stderr(crate::process::Sink::Null),
            Place::Session,
            Told::Nothing,
        );
    }

    /// As if this process had died before there was a command.
    #[test]
    fn ends_itself_where_there_is_nothing_to_end() {
        for place in [Place::Session, Place::Guarded, Place::Foreground] {
            let Guardian { shell, lifeline, .. } =
                Guardian::start(Duration::from_secs(1), place, &Mark::default()).unwrap();
            drop(lifeline);
            let began = Instant::now();
            while !shell.has_exited() {
                assert!(began.elapsed() < Duration::from_secs(10), "{place:?}");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}
