//! Notices that files have changed, whichever way they were replaced.
//!
//! Directories are watched, never files: replacing a mounted secret swaps a link beside the file,
//! and a watch on the file would stay with the version that is gone. What an event says happened
//! is not believed either; it only says which name to look at again.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Component, Path, PathBuf};

use notify::event::AccessKind;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

/// Watches everything that decides what a set of paths leads to.
pub struct Watcher {
    inner: RecommendedWatcher,
    // What is followed, by owner.
    trails: HashMap<u64, Trail>,
    // Which owners each name decides about.
    names: HashMap<PathBuf, BTreeSet<u64>>,
    directories: HashMap<PathBuf, BTreeSet<u64>>,
    // Directories that could not be watched.
    failing: BTreeSet<PathBuf>,
}

/// Something happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// To these names.
    Names(Vec<PathBuf>),
    /// The system lost track: to anything.
    Anything,
    /// Nothing will be noticed any more.
    Broken,
}

impl Watcher {
    /// A watcher that tells `on_change` from a thread of its own.
    ///
    /// # Errors
    ///
    /// When the system offers no more watchers.
    pub fn new(on_change: impl Fn(Change) + Send + 'static) -> notify::Result<Self> {
        let inner = notify::recommended_watcher(move |event| {
            // A panic must not end notify's thread: its handle would panic in turn when dropped,
            // and that aborts the process before anybody has said why.
            if catch_unwind(AssertUnwindSafe(|| tell(event, &on_change))).is_err() {
                on_change(Change::Broken);
            }
        })?;
        Ok(Self {
            inner,
            trails: HashMap::new(),
            names: HashMap::new(),
            directories: HashMap::new(),
            failing: BTreeSet::new(),
        })
    }

    /// Watches `trail` for `owner`, in place of what was watched for it before. To be called again
    /// after every change: a link may lead elsewhere, a directory may be a new one of the same name.
    /// Returns the directories that cannot be watched, unless they were returned before.
    pub fn follow(&mut self, owner: u64, trail: Trail) -> Vec<(PathBuf, notify::Error)> {
        let before = self.trails.remove(&owner).unwrap_or_default();
        if before != trail {
            self.remove(owner, &before, &trail);
            for name in &trail.names {
                let owners = self.names.entry(name.clone()).or_default();
                owners.insert(owner);
            }
        }
        let mut failed = Vec::new();
        for directory in &trail.directories {
            let owners = self.directories.entry(directory.clone()).or_default();
            owners.insert(owner);
            // Again even when it is watched already: the path may be another directory now.
            match self.inner.watch(directory, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.failing.remove(directory);
                }
                Err(error) => {
                    if self.failing.insert(directory.clone()) {
                        failed.push((directory.clone(), error));
                    }
                }
            }
        }
        self.trails.insert(owner, trail);
        failed
    }

    /// Watches nothing for `owner` from here on.
    pub fn forget(&mut self, owner: u64) {
        if let Some(before) = self.trails.remove(&owner) {
            self.remove(owner, &before, &Trail::default());
        }
    }

    /// Removes what only the trail `before` has.
    fn remove(&mut self, owner: u64, before: &Trail, after: &Trail) {
        for name in before.names.difference(&after.names) {
            release(&mut self.names, name, owner);
        }
        for directory in before.directories.difference(&after.directories) {
            if release(&mut self.directories, directory, owner) {
                self.failing.remove(directory);
                // It may be gone from the file system too.
                let _ = self.inner.unwatch(directory);
            }
        }
    }

    /// The owners whose files a change may concern.
    pub fn concerned(&self, change: &Change) -> Concerned {
        match change {
            Change::Anything | Change::Broken => Concerned::All,
            Change::Names(names) => Concerned::Some(
                names
                    .iter()
                    .filter_map(|name| self.names.get(name))
                    .flatten()
                    .copied()
                    .chain(names.iter().flat_map(|name| self.waiting_for(name)))
                    .collect(),
            ),
        }
    }

    /// The owners that wait for anything to appear where `name` is.
    fn waiting_for(&self, name: &Path) -> impl Iterator<Item = u64> {
        let parent = name.parent().map(Path::to_owned).unwrap_or_default();
        let owners = self.directories.get(&parent).into_iter().flatten();
        owners
            .filter(move |owner| {
                let trail = self.trails.get(owner);
                trail.is_some_and(|trail| trail.awaiting.contains(&parent))
            })
            .copied()
    }
}

/// Removes `owner` from those of `path`. Returns `true` if it was the last.
fn release(map: &mut HashMap<PathBuf, BTreeSet<u64>>, path: &Path, owner: u64) -> bool {
    let Some(owners) = map.get_mut(path) else {
        return false;
    };
    owners.remove(&owner);
    let last = owners.is_empty();
    if last {
        map.remove(path);
    }
    last
}

fn tell(event: notify::Result<Event>, on_change: &impl Fn(Change)) {
    crate::lifecycle::fault("watcher");
    match event {
        // Our own reading opens files; looking again because of it would never end.
        Ok(event) if matches!(event.kind, EventKind::Access(AccessKind::Open(_))) => {}
        Ok(event) if event.need_rescan() || event.paths.is_empty() => on_change(Change::Anything),
        Ok(event) => on_change(Change::Names(event.paths)),
        Err(error) => {
            tracing::warn!(%error, "watching files failed; they are polled all the same");
            on_change(Change::Anything);
        }
    }
}

/// The owners whose files a change may concern.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Concerned {
    /// Any of them.
    All,
    /// These.
    Some(BTreeSet<u64>),
}

/// What decides which files some paths lead to. Finding out may take as long as their file systems
/// take to answer.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Trail {
    directories: BTreeSet<PathBuf>,
    names: BTreeSet<PathBuf>,
    // Directories in which anything that appears may be what is missing.
    awaiting: BTreeSet<PathBuf>,
    awaits_anything: bool,
}

impl Trail {
    /// That of `paths`, as things are now.
    pub fn of<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Self {
        let mut trail = Self::default();
        trail.walk_all(paths);
        trail
    }

    /// The same. Where a file is missing, files of other names in its directory matter too.
    pub fn awaiting<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Self {
        let mut trail = Self {
            awaits_anything: true,
            ..Self::default()
        };
        trail.walk_all(paths);
        trail
    }

    fn walk_all<'p>(&mut self, paths: impl IntoIterator<Item = &'p Path>) {
        for path in paths {
            // Fails only for an empty path, which no file has.
            if let Ok(path) = std::path::absolute(path) {
                self.walk(&path);
            }
        }
    }

    /// Goes down `path` as the kernel would, noting each link on the way, the file, and the
    /// directory it lies in.
    fn walk(&mut self, path: &Path) {
        let mut todo: Vec<PathBuf> = components(path);
        let mut here = PathBuf::from("/");
        for _ in 0..LONGEST {
            let Some(component) = todo.pop() else { break };
            if component == OsStr::new("..") {
                here.pop();
                continue;
            }
            let next = here.join(&component);
            match fs::symlink_metadata(&next) {
                Ok(metadata) if metadata.is_symlink() => {
                    self.note(&here, &next);
                    let Ok(target) = fs::read_link(&next) else {
                        break;
                    };
                    if target.is_absolute() {
                        here = PathBuf::from("/");
                    }
                    todo.extend(components(&target));
                }
                Ok(_) => {
                    // The file, and the directory that holds it: either may be replaced.
                    if todo.len() <= 1 {
                        self.note(&here, &next);
                    }
                    here = next;
                }
                Err(_) => {
                    // Not there yet: it will appear here. Or hidden: the directory's mode will change.
                    self.note(&here, &next);
                    if let Some(parent) = here.parent() {
                        let (parent, here) = (parent.to_owned(), here.clone());
                        self.note(&parent, &here);
                    }
                    if self.awaits_anything {
                        self.awaiting.insert(here);
                    }
                    break;
                }
            }
        }
    }

    fn note(&mut self, directory: &Path, name: &Path) {
        self.directories.insert(directory.to_owned());
        self.names.insert(name.to_owned());
    }
}

/// The components of `path`, last first.
fn components(path: &Path) -> Vec<PathBuf> {
    path.components()
        .rev()
        .filter(|component| matches!(component, Component::Normal(_) | Component::ParentDir))
        .map(|component| PathBuf::from(component.as_os_str()))
        .collect()
}

/// Steps after which a path is taken for a ring of links, generously.
const LONGEST: usize = 400;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use super::*;

    fn names(trail: &Trail, root: &Path) -> Vec<String> {
        let shown = |path: &PathBuf| {
            path.strip_prefix(root)
                .ok()
                .map(|p| p.display().to_string())
        };
        trail.names.iter().filter_map(shown).collect()
    }

    fn root() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        (directory, path)
    }

    #[test]
    fn every_link_on_the_way_is_noted() {
        let (_keep, root) = root();
        fs::create_dir_all(root.join("certs/..2026")).unwrap();
        fs::write(root.join("certs/..2026/tls.crt"), "").unwrap();
        symlink("..2026", root.join("certs/..data")).unwrap();
        symlink("..data/tls.crt", root.join("certs/tls.crt")).unwrap();
        let trail = Trail::of([root.join("certs/tls.crt").as_path()]);
        let expected = [
            "certs",
            "certs/..2026",
            "certs/..2026/tls.crt",
            "certs/..data",
            "certs/tls.crt",
        ];
        assert_eq!(names(&trail, &root), expected);
    }

    #[test]
    fn what_is_missing_is_waited_for_where_it_will_appear() {
        let (_keep, root) = root();
        let trail = Trail::of([root.join("later/tls.crt").as_path()]);
        assert_eq!(names(&trail, &root), ["", "later"]);
        assert!(trail.directories.contains(&root));
    }

    #[test]
    fn a_ring_of_links_ends() {
        let (_keep, root) = root();
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        assert_eq!(
            names(&Trail::of([root.join("a").as_path()]), &root),
            ["", "a", "b"]
        );
    }

    fn watched(path: &Path) -> (Watcher, Receiver<Change>) {
        let (sender, changes) = channel();
        let mut watcher = Watcher::new(move |change| {
            let _ = sender.send(change);
        })
        .unwrap();
        let failed = watcher.follow(7, Trail::of([path]));
        assert!(failed.is_empty(), "{failed:?}");
        (watcher, changes)
    }

    fn notices(watcher: &Watcher, changes: &Receiver<Change>, wait: Duration) -> bool {
        let until = std::time::Instant::now() + wait;
        while let Ok(change) =
            changes.recv_timeout(until.saturating_duration_since(std::time::Instant::now()))
        {
            match watcher.concerned(&change) {
                Concerned::All => return true,
                Concerned::Some(which) if which.contains(&7) => return true,
                Concerned::Some(_) => {}
            }
        }
        false
    }

    #[test]
    fn replacing_is_noticed_and_reading_is_not() {
        let (_keep, root) = root();
        let path = root.join("tls.crt");
        fs::write(&path, "one").unwrap();
        let (watcher, changes) = watched(&path);
        fs::read(&path).unwrap();
        fs::write(root.join("other"), "x").unwrap();
        assert!(!notices(&watcher, &changes, Duration::from_millis(200)));
        fs::write(root.join("new"), "two").unwrap();
        fs::rename(root.join("new"), &path).unwrap();
        assert!(notices(&watcher, &changes, Duration::from_secs(5)));
    }

    #[test]
    fn a_directory_that_comes_back_is_watched_again() {
        let (_keep, root) = root();
        let directory = root.join("certs");
        let path = directory.join("tls.crt");
        fs::create_dir(&directory).unwrap();
        fs::write(&path, "one").unwrap();
        let (mut watcher, changes) = watched(&path);
        fs::remove_dir_all(&directory).unwrap();
        assert!(notices(&watcher, &changes, Duration::from_secs(5)));
        watcher.follow(7, Trail::of([path.as_path()]));
        fs::create_dir(&directory).unwrap();
        assert!(notices(&watcher, &changes, Duration::from_secs(5)));
        watcher.follow(7, Trail::of([path.as_path()]));
        while changes.try_recv().is_ok() {}
        fs::write(&path, "two").unwrap();
        assert!(notices(&watcher, &changes, Duration::from_secs(5)));
    }
}
