//! A file mapped into memory, read-only, or one that is part of the program. The one file of this
//! crate that holds `unsafe`.

#![allow(unsafe_code)]

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::Error;

/// A whole file, mapped read-only; pages are read when they are first touched.
#[derive(Debug)]
pub(crate) struct Map {
    path: PathBuf,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    Mapped(memmap2::Mmap),
    /// Part of the program.
    Embedded(&'static [u8]),
}

impl Map {
    /// Maps the file at `path`, which must not be empty.
    pub(crate) fn open(path: &Path) -> Result<Map, Error> {
        let file = File::open(path).map_err(|error| Error::io("open", path, error))?;
        let metadata = file.metadata().map_err(|error| Error::io("open", path, error))?;
        if !metadata.is_file() {
            return Err(Error::format(path, "file", "a regular file", "something else"));
        }
        if metadata.len() == 0 {
            return Err(Error::format(path, "file", "a model", "an empty file"));
        }
        // SAFETY: the map is private and read-only. As with every mapped file, the bytes are those
        // on disk: whoever shortens or rewrites a model in place while it is open changes what is
        // read (or ends the process with SIGBUS). Files that this crate writes are therefore
        // written aside and renamed, which leaves an open map on the old bytes; and no invariant
        // of safe code rests on what the bytes say, since every reader checks before it indexes.
        let bytes =
            unsafe { memmap2::Mmap::map(&file) }.map_err(|error| Error::io("map", path, error))?;
        Ok(Map { path: path.to_owned(), bytes: Bytes::Mapped(bytes) })
    }

    /// A file that is part of the program; `path` is what to call it.
    pub(crate) fn embedded(path: &Path, bytes: &'static [u8]) -> Map {
        Map { path: path.to_owned(), bytes: Bytes::Embedded(bytes) }
    }

    /// The file's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file's bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::Embedded(bytes) => bytes,
        }
    }

    /// Tells the operating system that these pages will not be read again soon. They leave this
    /// process's resident memory, stay in the page cache, and come back when touched.
    pub(crate) fn release(&self, range: Range<usize>) {
        // What is part of the program is the system's to drop.
        let Bytes::Mapped(map) = &self.bytes else { return };
        let end = range.end.min(map.len());
        if range.start >= end {
            return;
        }
        #[cfg(unix)]
        {
            // SAFETY: MADV_DONTNEED discards the contents of private dirty pages; this map is
            // file-backed and never written, so a later read brings the same bytes back. The
            // range was clamped to the map above. It is advice: a refusal changes nothing.
            let _ = unsafe {
                map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    range.start,
                    end - range.start,
                )
            };
        }
    }
}
