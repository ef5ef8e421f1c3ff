//! Where a command lives, and by what its guardian finds it there.

#[cfg(target_os = "linux")]
use super::streams::Target;
use super::streams::Theirs;
use rustix::process::Pid;
use std::io;

/// Where a command lives, and by what it is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A session of its own.
    Session,
    /// This session, in the guardian's group.
    Guarded,
    /// This session and this process's group, in the foreground of its terminal.
    Foreground,
}

/// Which session and group a process is started in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Join {
    /// A session of its own, which has no terminal.
    Session,
    /// A group of its own, in this session.
    Own,
    /// A group of this session.
    Group(Pid),
    /// This process's group.
    Here,
}

/// A pipe that the command holds, by which the guardian finds it if this process dies before it has told the guardian (README.md).
#[derive(Debug, Default)]
pub(crate) struct Mark {
    pub(crate) inode: Option<u64>,
    /// A pipe that is good for nothing else, for a command that has none of its own.
    #[cfg(target_os = "linux")]
    pub(crate) pipe: Option<io::PipeReader>,
}

impl Mark {
    #[cfg(target_os = "linux")]
    pub(crate) fn of(streams: &Theirs) -> io::Result<Mark> {
        let own = streams.iter().find_map(|stream| match stream {
            Target::Source(pipe) => Some(rustix::fs::fstat(pipe)),
            Target::Pipe(pipe) => Some(rustix::fs::fstat(pipe)),
            Target::File(_) | Target::Null | Target::Own(_) => None,
        });
        if own.is_some() {
            return Ok(Mark { inode: own.transpose()?.map(|pipe| pipe.st_ino), pipe: None });
        }
        let (pipe, _) = io::pipe()?;
        Ok(Mark { inode: Some(rustix::fs::fstat(&pipe)?.st_ino), pipe: Some(pipe) })
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn of(_: &Theirs) -> io::Result<Mark> {
        Ok(Mark::default())
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn try_clone(&self) -> io::Result<Mark> {
        Ok(Mark { inode: self.inode, pipe: self.pipe.as_ref().map(io::PipeReader::try_clone).transpose()? })
    }
}
