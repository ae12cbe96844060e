//! Keeps two processes out of one folder: a lock on a file, which the system lets go when the process dies, however
//! it dies. The file names the holder, so that the loser can say who it is.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// A folder that is ours as long as this lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// The process that holds the lock, if any: its number, as far as it has written it down. Takes nothing.
    pub(crate) fn holder(path: &Path) -> Option<String> {
        let mut file = File::open(path).ok()?;
        // What can be locked is let go again when the file is closed.
        let Err(TryLockError::WouldBlock) = file.try_lock_shared() else { return None };
        let mut holder = String::new();
        let _ = file.read_to_string(&mut holder);
        Some(holder.trim().to_owned())
    }

    /// Takes the lock, or says who has it. The folder of the file is made where it is missing.
    pub(crate) fn take(path: PathBuf) -> anyhow::Result<Lock> {
        let dir = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("cannot open the lock file {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The holder writes its number right after locking; an empty file is one that is just starting.
                let _ = file.read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "another process".to_owned(),
                    pid => format!("the process {pid}"),
                };
                anyhow::bail!(
                    "{} is in use by {holder}; stop it, or name another folder (--data-dir, or `staging.dir`)",
                    dir.display()
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .and_then(|()| file.flush());
        written.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Lock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::Lock;

    #[test]
    fn second_lock_on_a_folder_is_refused_and_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep").join("weir.lock");
        let first = Lock::take(path.clone()).unwrap();
        let refused = format!("{:#}", Lock::take(path.clone()).unwrap_err());
        assert!(refused.contains(&format!("the process {}", std::process::id())), "{refused}");
        assert!(refused.contains("deep is in use"), "{refused}");
        drop(first);
        Lock::take(path).unwrap();
    }
}
