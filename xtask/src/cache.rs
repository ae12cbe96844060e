//! Where things lie: the checkout, the cache folder, and stamps that tell whether an installation is up to date.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// What every step needs to know.
pub(crate) struct Context {
    /// The checkout.
    pub(crate) root: PathBuf,
    /// Where tools are installed and kept.
    pub(crate) cache: PathBuf,
    /// A missing prerequisite is a failure.
    pub(crate) ci: bool,
    /// The output of steps is shown while they run.
    pub(crate) verbose: bool,
    /// Where brokers keep their objects in end-to-end tests that leave it open, where somebody chose.
    pub(crate) store: Option<String>,
}

impl Context {
    pub(crate) fn new() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the checkout")?.to_owned();
        let cache = match std::env::var_os("WEIR_TEST_CACHE").filter(|value| !value.is_empty()) {
            Some(folder) => std::path::absolute(folder)?,
            None => user_cache()?.join("weir-test"),
        };
        let ci = std::env::var("CI").is_ok_and(|value| value == "true" || value == "1");
        fs::create_dir_all(cache.join("bin")).with_context(|| format!("cannot make {}", cache.display()))?;
        Ok(Self { root, cache, ci, verbose: false, store: None })
    }

    /// A program in the cache.
    pub(crate) fn bin(&self, name: &str) -> PathBuf {
        self.cache.join("bin").join(name)
    }

    /// Where cargo puts what it builds.
    pub(crate) fn target(&self) -> PathBuf {
        let given = std::env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty());
        given.map_or_else(|| self.root.join("target"), |folder| self.root.join(folder))
    }

    /// Where the output of a step is written.
    pub(crate) fn log(&self, name: &str) -> Result<PathBuf> {
        let dir = self.root.join("target/xtask");
        fs::create_dir_all(&dir)?;
        Ok(dir.join(format!("{name}.log")))
    }

    /// Held while the cache changes, so that two runs do not install over each other.
    pub(crate) fn lock(&self) -> Result<File> {
        let file = File::create(self.cache.join("lock"))?;
        file.lock().context("cannot lock the cache folder")?;
        Ok(file)
    }

    fn stamp(&self, tool: &str) -> PathBuf {
        self.cache.join("stamps").join(tool)
    }

    /// Whether this very recipe was installed.
    pub(crate) fn is_stamped(&self, tool: &str, recipe: &str) -> bool {
        fs::read_to_string(self.stamp(tool)).is_ok_and(|stamped| stamped == recipe)
    }

    pub(crate) fn write_stamp(&self, tool: &str, recipe: &str) -> Result<()> {
        let path = self.stamp(tool);
        fs::create_dir_all(self.cache.join("stamps"))?;
        fs::write(&path, recipe).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn user_cache() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        return Ok(folder.into());
    }
    let home = PathBuf::from(std::env::var_os("HOME").context("set WEIR_TEST_CACHE or HOME")?);
    Ok(if cfg!(target_os = "macos") { home.join("Library/Caches") } else { home.join(".cache") })
}

/// A folder that goes away with this value.
pub(crate) struct TemporaryFolder(pub(crate) PathBuf);

impl TemporaryFolder {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("weir-xtask-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("xtask: cannot remove {}: {error}", self.0.display());
        }
    }
}
