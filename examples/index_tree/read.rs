//! Reads one file: counts, checks and hashes it chunk by chunk, so that its size does not matter.

use crate::events::{FileStats, ReadError};
use crate::progress::Progress;
use crate::text::TextCounter;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use threadbus::{HandlerContext, WaitError};

const CHUNK: u64 = 1 << 20;

/// Called on a bus thread, inside the handler of `FileRead`. Ends at the first byte that is not UTF-8.
pub(crate) fn read_file(path: &Path, progress: &Progress) -> Result<FileStats, ReadError> {
    progress.file_read();
    let mut file = File::open(path).map_err(ReadError::Open)?;
    let size = file.metadata().map_err(ReadError::Open)?.len();
    let digest = if size > CHUNK { digest_on_rayon } else { digest_here };

    let mut text = TextCounter::default();
    let mut hasher = blake3::Hasher::new();
    let mut chunk = Vec::with_capacity(usize::try_from(CHUNK.min(size + 1)).unwrap_or(0));
    while file.by_ref().take(CHUNK).read_to_end(&mut chunk).map_err(ReadError::Read)? > 0 {
        digest(&chunk, &mut text, &mut hasher)?;
        progress.bytes_read(chunk.len());
        chunk.clear();
        check_still_wanted()?;
    }
    let counts = text.finish()?;
    Ok(FileStats { lines: counts.lines, words: counts.words, bytes: hasher.count(), hash: hasher.finalize() })
}

/// A handler that overstayed its timeout has lost its result: nobody is served by reading on.
fn check_still_wanted() -> Result<(), WaitError> {
    HandlerContext::current().map_or(Ok(()), |context| context.check())
}

type Digested = Result<(), ReadError>;

/// A small chunk is digested sooner than another thread is woken.
fn digest_here(chunk: &[u8], text: &mut TextCounter, hasher: &mut blake3::Hasher) -> Digested {
    text.push(chunk)?;
    hasher.update(chunk);
    Ok(())
}

/// A large file is work for all processors. This thread of the bus sleeps until rayon is through; the jobs are pure computation,
/// never wait for the bus, and so cannot stop rayon's few threads.
fn digest_on_rayon(chunk: &[u8], text: &mut TextCounter, hasher: &mut blake3::Hasher) -> Digested {
    let (counted, _) = rayon::join(|| text.push(chunk), || hasher.update_rayon(chunk));
    Ok(counted?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn file(name: &str, content: &[u8]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("index_tree-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        path
    }

    #[test]
    fn small_large_and_empty_files_agree_with_the_whole() {
        let large = "zwölf Boxkämpfer\njagen ".repeat(100_000);
        for (name, content) in [("empty", ""), ("small", "a b\nc"), ("large", &large)] {
            let path = file(name, content.as_bytes());
            let stats = read_file(&path, &Progress::default()).unwrap();
            std::fs::remove_file(path).unwrap();
            assert_eq!(stats.lines, content.matches('\n').count() as u64);
            assert_eq!(stats.words, content.split_whitespace().count() as u64);
            assert_eq!(stats.bytes, content.len() as u64);
            assert_eq!(stats.hash, blake3::hash(content.as_bytes()));
        }
    }

    #[test]
    fn failures_say_why() {
        let mut content = "x".repeat(3 << 20).into_bytes();
        content.push(0xff);
        let path = file("binary", &content);
        let error = read_file(&path, &Progress::default()).unwrap_err();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(error.to_string(), "not UTF-8 from byte 3145728 on");
        let error = read_file(&path, &Progress::default()).unwrap_err();
        assert_eq!(error.reason(), "cannot be opened: entity not found");
    }
}
