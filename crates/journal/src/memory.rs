//! A file system in memory that forgets what was not synced and fails when it is told to: for tests, and for simulations.
//!
//! As on a real one, a failed sync may lose what was written before it, although it reads back: those bytes are durable
//! only when they are written again and synced. What was created, renamed or removed is durable once its folder is synced.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::disk::{BLOCK_BYTES, Disk, File};

/// What a fault is put into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// Making a file.
    Create,
    /// Reserving room.
    Allocate,
    /// Writing. A write that fails may have written a part.
    Write,
    /// Reading.
    Read,
    /// Syncing a file.
    Sync,
    /// Syncing a folder.
    SyncFolder,
}

/// A file system in memory. A clone is the same one.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct State {
    nodes: BTreeMap<u64, Node>,
    next_node: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    folders: BTreeSet<PathBuf>,
    /// Calls that fail, with what, and how many more of them.
    failing: BTreeMap<Call, (ErrorKind, usize)>,
    hanging: BTreeSet<Call>,
    waiting: usize,
    bytes_max: Option<u64>,
    /// Files that were open when the power went do nothing any more.
    power_cuts: u64,
}

#[derive(Debug, Default)]
struct Node {
    live: Vec<Byte>,
    durable: Vec<u8>,
    /// Sectors that cannot be read.
    spoilt: BTreeSet<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Byte {
    value: u8,
    /// Written before a sync that failed: another sync does not make it durable.
    is_lost: bool,
    is_dirty: bool,
}

const ZERO: Byte = Byte { value: 0, is_lost: false, is_dirty: false };

impl Memory {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next so many calls of this kind fail.
    pub fn fail(&self, call: Call, error: ErrorKind, times: usize) {
        self.0.state.lock().failing.insert(call, (error, times));
    }

    /// Calls of this kind do not return until [`Memory::heal`].
    pub fn hang(&self, call: Call) {
        self.0.state.lock().hanging.insert(call);
    }

    /// How many calls hang now.
    #[must_use]
    pub fn hanging(&self) -> usize {
        self.0.state.lock().waiting
    }

    /// Nothing fails or hangs any more.
    pub fn heal(&self) {
        let mut state = self.0.state.lock();
        state.failing.clear();
        state.hanging.clear();
        self.0.released.notify_all();
    }

    /// The disk has so many bytes.
    pub fn set_size(&self, bytes: u64) {
        self.0.state.lock().bytes_max = Some(bytes);
    }

    /// Changes a bit of a file, as a disk may.
    ///
    /// # Panics
    /// When there is no such byte.
    pub fn flip(&self, path: &Path, at: usize, bit: u8) {
        let mut state = self.0.state.lock();
        let node = *state.names.get(path).expect("the file is there");
        let node = state.nodes.get_mut(&node).expect("a name leads to a file");
        node.live[at].value ^= 1 << bit;
        if let Some(byte) = node.durable.get_mut(at) {
            *byte ^= 1 << bit;
        }
    }

    /// A sector of a file can no longer be read.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn spoil(&self, path: &Path, sector: usize) {
        let mut state = self.0.state.lock();
        let node = *state.names.get(path).expect("the file is there");
        state.nodes.get_mut(&node).expect("a name leads to a file").spoilt.insert(sector);
    }

    /// The power goes: what was not durable is gone, and files that are open do nothing any more. Faults go on.
    pub fn cut_power(&self) {
        let mut state = self.0.state.lock();
        state.power_cuts += 1;
        state.names = state.durable_names.clone();
        for node in state.nodes.values_mut() {
            node.live = node.durable.iter().map(|value| Byte { value: *value, ..ZERO }).collect();
        }
    }

    fn open_node(&self, path: &Path) -> io::Result<Open> {
        let state = self.0.state.lock();
        let node = *state.names.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(Open { disk: self.clone(), node, power_cuts: state.power_cuts, is_direct: false })
    }

    fn enter(&self, call: Call) -> io::Result<parking_lot::MutexGuard<'_, State>> {
        let mut state = self.0.state.lock();
        while state.hanging.contains(&call) {
            state.waiting += 1;
            self.0.released.wait(&mut state);
            state.waiting -= 1;
        }
        if let Some((error, left)) = state.failing.get_mut(&call).filter(|(_, left)| *left > 0) {
            *left -= 1;
            return Err((*error).into());
        }
        Ok(state)
    }
}

impl State {
    fn used(&self) -> u64 {
        self.names.values().map(|node| self.nodes[node].live.len() as u64).sum()
    }

    fn has_room(&self, more: u64) -> io::Result<()> {
        match self.bytes_max {
            Some(max) if self.used() + more > max => Err(ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }
}

impl Disk for Memory {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.enter(Call::Create)?;
        if !path.parent().is_some_and(|folder| state.folders.contains(folder)) {
            return Err(ErrorKind::NotFound.into());
        }
        if state.names.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let node = state.next_node;
        state.next_node += 1;
        state.nodes.insert(node, Node::default());
        state.names.insert(path.to_owned(), node);
        Ok(Arc::new(Open { disk: self.clone(), node, power_cuts: state.power_cuts, is_direct: false }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(self.open_node(path)?))
    }

    fn open_direct(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(Open { is_direct: true, ..self.open_node(path)? }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let state = self.0.state.lock();
        if !state.folders.contains(folder) {
            return Err(ErrorKind::NotFound.into());
        }
        let paths = state.names.keys().chain(&state.folders);
        let inside = paths.filter(|path| path.parent() == Some(folder));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.state.lock();
        state.folders.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.state.lock();
        if !state.folders.contains(path) {
            return Err(ErrorKind::NotFound.into());
        }
        state.names.retain(|name, _| !name.starts_with(path));
        state.folders.retain(|folder| !folder.starts_with(path));
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut guard = self.enter(Call::SyncFolder)?;
        let state = &mut *guard;
        state.durable_names.retain(|name, _| name.parent() != Some(path));
        let inside = state.names.iter().filter(|(name, _)| name.parent() == Some(path));
        state.durable_names.extend(inside.map(|(name, node)| (name.clone(), *node)));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.state.lock();
        let moved: Vec<_> = state.names.keys().filter(|name| name.starts_with(from)).cloned().collect();
        if moved.is_empty() {
            return Err(ErrorKind::NotFound.into());
        }
        for name in moved {
            let rest = name.strip_prefix(from).expect("it starts with it").to_owned();
            let new = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
            let node = state.names.remove(&name).expect("it was listed");
            state.names.insert(new, node);
        }
        if state.folders.remove(from) {
            state.folders.insert(to.to_owned());
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.state.lock().names.remove(path).map(drop).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn space(&self, _: &Path) -> io::Result<(u64, u64)> {
        let state = self.0.state.lock();
        let total = state.bytes_max.unwrap_or(1 << 40);
        Ok((total, total.saturating_sub(state.used())))
    }
}

#[derive(Debug)]
struct Open {
    disk: Memory,
    node: u64,
    power_cuts: u64,
    /// Takes whole blocks only, as direct I/O does.
    is_direct: bool,
}

impl Open {
    fn with<T>(&self, call: Call, f: impl FnOnce(&mut State, u64) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.enter(call)?;
        if state.power_cuts != self.power_cuts {
            return Err(io::Error::other("the power went"));
        }
        f(&mut state, self.node)
    }

    fn extend(state: &mut State, node: u64, len: usize) -> io::Result<()> {
        let more = len.saturating_sub(state.nodes[&node].live.len());
        state.has_room(more as u64)?;
        let live = &mut state.nodes.get_mut(&node).expect("it is open").live;
        live.resize(live.len() + more, ZERO);
        Ok(())
    }
}

fn to_usize(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(io::Error::other)
}

impl File for Open {
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.with(Call::Allocate, |state, node| Self::extend(state, node, to_usize(len)?))
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let at = to_usize(at)?;
        let is_whole = bytes.as_ptr().align_offset(BLOCK_BYTES) == 0 && (bytes.len() | at).is_multiple_of(BLOCK_BYTES);
        if self.is_direct && !is_whole {
            return Err(ErrorKind::InvalidInput.into());
        }
        let write = |state: &mut State, node: u64, bytes: &[u8]| {
            Self::extend(state, node, at + bytes.len())?;
            let live = &mut state.nodes.get_mut(&node).expect("it is open").live[at..];
            for (byte, value) in live.iter_mut().zip(bytes) {
                *byte = Byte { value: *value, is_lost: false, is_dirty: true };
            }
            Ok(bytes.len())
        };
        let written = self.with(Call::Write, |state, node| write(state, node, bytes));
        if written.is_err() {
            // Some of it may have been written all the same.
            let mut state = self.disk.0.state.lock();
            if state.power_cuts == self.power_cuts {
                let _ = write(&mut state, self.node, &bytes[..bytes.len() / 2]);
            }
        }
        written
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.with(Call::Read, |state, node| {
            let node = &state.nodes[&node];
            let from = to_usize(at)?;
            let to = from + buffer.len();
            let bytes = node.live.get(from..to).ok_or(ErrorKind::UnexpectedEof)?;
            if node.spoilt.range(from / BLOCK_BYTES..to.div_ceil(BLOCK_BYTES)).next().is_some() {
                return Err(io::Error::other("a sector cannot be read"));
            }
            for (to, byte) in buffer.iter_mut().zip(bytes) {
                *to = byte.value;
            }
            Ok(())
        })
    }

    fn size(&self) -> io::Result<u64> {
        self.with(Call::Read, |state, node| Ok(state.nodes[&node].live.len() as u64))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(Call::Write, |state, node| {
            Self::extend(state, node, to_usize(len)?)?;
            state.nodes.get_mut(&node).expect("it is open").live.truncate(to_usize(len)?);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        let synced = self.with(Call::Sync, |state, node| {
            let node = state.nodes.get_mut(&node).expect("it is open");
            node.durable.resize(node.live.len(), 0);
            for (durable, live) in node.durable.iter_mut().zip(&mut node.live) {
                live.is_dirty = false;
                if !live.is_lost {
                    *durable = live.value;
                }
            }
            Ok(())
        });
        if synced.is_err() {
            let mut state = self.disk.0.state.lock();
            if let Some(node) = state.nodes.get_mut(&self.node) {
                for byte in node.live.iter_mut().filter(|byte| byte.is_dirty) {
                    (byte.is_lost, byte.is_dirty) = (true, false);
                }
            }
        }
        synced
    }
}
