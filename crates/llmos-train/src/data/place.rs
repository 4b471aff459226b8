//! The folder that becomes a data set: written aside under a lock, and renamed when it is whole.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::manifest::Manifest;
use crate::Error;
use crate::disk::{aside, lock, parent, sync_folder};

/// The lock's name within the folder aside.
const LOCK: &str = "lock";

/// A folder in the making. Dropped before [`Place::finish`], it leaves nothing.
#[derive(Debug)]
pub struct Place {
    out: PathBuf,
    aside: PathBuf,
    /// The system lets it go when the process ends, however it ends.
    lock: Option<File>,
    is_finished: bool,
}

impl Place {
    /// Takes the place of a folder that is not there yet, or empty; `force` replaces another data
    /// set. Of a link it is the folder that it leads to. What a run that was killed left behind is
    /// removed.
    ///
    /// # Errors
    /// [`Error::Locked`] while another process writes there; [`Error::Setting`] where something
    /// stands in the way; [`Error::Io`] where the system refuses.
    pub fn new(out: &Path, force: bool) -> Result<Place, Error> {
        let refuse = |problem: String| Error::Setting { key: "out".into(), problem };
        let shown = out.display();
        let target = out.canonicalize().ok().filter(|_| out.is_symlink());
        let out = target.as_deref().unwrap_or(out);
        if out.file_name().is_none() {
            return Err(refuse(format!("{shown} is no name for a folder")));
        }
        if out.symlink_metadata().is_ok() {
            let names = names(out).ok_or_else(|| refuse(format!("{shown} exists")))?;
            let manifest = Manifest::read(out).map(|(manifest, _)| manifest);
            match manifest {
                _ if names.is_empty() => {}
                Err(_) => return Err(refuse(format!("{shown} exists, and is no data set"))),
                Ok(_) if !force => return Err(refuse(format!("{shown} exists"))),
                Ok(manifest) => {
                    if let Some(other) = names.iter().find(|name| !manifest.names(name)) {
                        let problem = format!("{shown} holds {other}, which no data set has");
                        return Err(refuse(problem));
                    }
                }
            }
        }
        let aside = aside(out);
        std::fs::create_dir_all(&aside).map_err(Error::io("make the folder", &aside))?;
        let lock = lock(&aside.join(LOCK), out)?;
        let place = Place { out: out.to_path_buf(), aside, lock: Some(lock), is_finished: false };
        place.clear().map_err(Error::io("clear", &place.aside))?;
        Ok(place)
    }

    /// The folder to write into. Its name begins with a dot and does not change between runs.
    pub fn aside(&self) -> &Path {
        &self.aside
    }

    /// The folder that it becomes.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// Removes what an earlier run left.
    fn clear(&self) -> std::io::Result<()> {
        for entry in std::fs::read_dir(&self.aside)? {
            let entry = entry?;
            if entry.file_name() != LOCK {
                let path = entry.path();
                if entry.file_type()?.is_dir() {
                    std::fs::remove_dir_all(path)?;
                } else {
                    std::fs::remove_file(path)?;
                }
            }
        }
        Ok(())
    }

    /// Puts the folder where it belongs. All files in it are on the disk already.
    ///
    /// # Errors
    /// [`Error::Io`]; the folder that was there before stays.
    pub fn finish(mut self) -> Result<(), Error> {
        let finish = || -> std::io::Result<()> {
            std::fs::remove_file(self.aside.join(LOCK))?;
            sync_folder(&self.aside)?;
            let mut old = self.aside.clone().into_os_string();
            old.push(".old");
            let old = PathBuf::from(old);
            let is_there = self.out.symlink_metadata().is_ok();
            if is_there {
                let _ = std::fs::remove_dir_all(&old);
                std::fs::rename(&self.out, &old)?;
            }
            if let Err(error) = std::fs::rename(&self.aside, &self.out) {
                if is_there {
                    std::fs::rename(&old, &self.out)?;
                }
                return Err(error);
            }
            sync_folder(parent(&self.out))?;
            if is_there { std::fs::remove_dir_all(&old) } else { Ok(()) }
        };
        finish().map_err(Error::io("finish", &self.out))?;
        self.is_finished = true;
        Ok(())
    }
}

/// The names in a folder; none where it is none, or cannot be listed.
fn names(folder: &Path) -> Option<Vec<String>> {
    let entries = std::fs::read_dir(folder).ok()?.collect::<Result<Vec<_>, _>>().ok()?;
    Some(entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

impl Drop for Place {
    fn drop(&mut self) {
        // Windows removes no file that is open; elsewhere the lock is held to the end.
        if cfg!(windows) {
            self.lock = None;
        }
        if !self.is_finished {
            let _ = std::fs::remove_dir_all(&self.aside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::scratch::Scratch;
    use crate::data::{MANIFEST, TokenizerEntry};

    /// The manifest of an empty data set, of a program of this name.
    fn manifest(program: &str) -> Vec<u8> {
        let (sha256, start) = (String::new(), Vec::new());
        let entry = TokenizerEntry { vocab_size: 1, sha256, start, end: None, lost: 0.0 };
        let mut manifest = Manifest::new(entry);
        manifest.program = program.into();
        manifest.train.index = "documents.bin".into();
        manifest.validation.index = "validation-documents.bin".into();
        serde_json::to_vec(&manifest).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_appears_whole_or_not_at_all() {
        let scratch = Scratch::new();
        let out = scratch.path().join("data");
        let place = Place::new(&out, false).unwrap();
        std::fs::write(place.aside().join("a"), "1").unwrap();
        assert!(matches!(Place::new(&out, false), Err(Error::Locked { .. })));
        assert_eq!(names(scratch.path()), [".data.partial"]);
        drop(place);
        assert!(names(scratch.path()).is_empty());
        let place = Place::new(&out, false).unwrap();
        std::fs::write(place.aside().join(MANIFEST), "1").unwrap();
        place.finish().unwrap();
        assert_eq!(names(scratch.path()), ["data"]);
        assert_eq!(names(&out), [MANIFEST]);
    }

    #[test]
    fn what_a_killed_run_left_is_removed() {
        let scratch = Scratch::new();
        scratch.write(".data.partial/lock", b"");
        scratch.write(".data.partial/train-00000.bin", b"half");
        scratch.write(".data.partial/folder/file", b"half");
        let place = Place::new(&scratch.path().join("data"), false).unwrap();
        assert_eq!(names(place.aside()), [LOCK]);
    }

    #[test]
    fn only_a_data_set_is_replaced_and_only_when_asked() {
        let scratch = Scratch::new();
        let out = scratch.path().join("data");
        scratch.write("data/notes", b"mine");
        for force in [false, true] {
            let error = Place::new(&out, force).unwrap_err().to_string();
            assert!(error.contains("no data set"), "{error}");
        }
        // Another program's manifest, and a data set that has become the home of something else.
        scratch.write("data/manifest.json", b"{\"name\": \"my extension\"}");
        let error = Place::new(&out, true).unwrap_err().to_string();
        assert!(error.contains("no data set"), "{error}");
        scratch.write("data/manifest.json", &manifest("old"));
        let error = Place::new(&out, true).unwrap_err().to_string();
        assert!(error.contains("holds notes, which no data set has"), "{error}");
        std::fs::remove_file(out.join("notes")).unwrap();
        assert!(Place::new(&out, false).is_err());
        let place = Place::new(&out, true).unwrap();
        assert_eq!(std::fs::read(out.join(MANIFEST)).unwrap(), manifest("old"));
        std::fs::write(place.aside().join(MANIFEST), manifest("new")).unwrap();
        place.finish().unwrap();
        assert_eq!(std::fs::read(out.join(MANIFEST)).unwrap(), manifest("new"));
        assert_eq!(
            (names(scratch.path()), names(&out)),
            (vec!["data".into()], vec![MANIFEST.into()])
        );
        std::fs::create_dir(scratch.path().join("empty")).unwrap();
        Place::new(&scratch.path().join("empty"), false).unwrap().finish().unwrap();
        scratch.write("file", b"mine");
        assert!(Place::new(&scratch.path().join("file"), true).is_err());
        assert!(Place::new(Path::new(".."), true).is_err());
    }
    #[cfg(unix)]
    #[test]
    fn a_link_stays_one() {
        let scratch = Scratch::new();
        let (link, folder) = (scratch.path().join("link"), scratch.path().join("far/data"));
        std::fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        let place = Place::new(&link, false).unwrap();
        std::fs::write(place.aside().join(MANIFEST), manifest("new")).unwrap();
        place.finish().unwrap();
        assert!(link.is_symlink());
        assert_eq!(std::fs::read(folder.join(MANIFEST)).unwrap(), manifest("new"));
        assert_eq!(names(&scratch.path().join("far")), ["data"]);
    }
}
