//! Why this process cannot use a path: which directory or file blocks, whom, and what to do.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::process::{getegid, geteuid, getgroups};

/// What was to be done with a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// Read the file.
    Read,
    /// Create a file of this name, or replace it.
    Create,
}

/// Says what to do about `error`, which using `path` led to; `None` if nothing is known.
pub fn help(path: &Path, wanted: Use, error: &io::Error) -> Option<String> {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Some(denied(path, wanted)),
        io::ErrorKind::NotFound => missing(path, wanted),
        io::ErrorKind::ReadOnlyFilesystem => Some(format!(
            "{} is read-only for this process{}",
            parent(path).display(),
            match in_service() {
                true => "; RuntimeDirectory=mtlsd in the unit makes /run/mtlsd, which is writable",
                false => "",
            }
        )),
        _ => None,
    }
}

fn denied(path: &Path, wanted: Use) -> String {
    let user = User::current();
    if let Some(name) = credential(path) {
        return format!(
            "mtlsd runs as {user}; systemd lets only the user of the unit read the credential {name}"
        );
    }
    if let Some(hidden) = hidden(path) {
        return hidden;
    }
    let Some((blocking, metadata)) = blocking(path, wanted, &user) else {
        return format!(
            "mtlsd runs as {user}, and the mode of {} would allow it: check its ACL (getfacl), and \
             AppArmor or SELinux (journalctl -k)",
            path.display()
        );
    };
    let need = match (metadata.is_dir(), wanted) {
        (true, Use::Create) if blocking == parent(path) => Need::WRITE,
        (true, _) => Need::SEARCH,
        (false, _) => Need::READ,
    };
    format!(
        "mtlsd runs as {user}, which may not {} {} (owner {}, group {}, mode {:04o}): {}",
        need.verb,
        blocking.display(),
        name_of("/etc/passwd", metadata.uid()),
        name_of("/etc/group", metadata.gid()),
        metadata.mode() & 0o7777,
        need.cure(&blocking, &metadata, &user),
    )
}

/// What is needed of a file or directory: the permission bit, and words for it.
struct Need {
    verb: &'static str,
    letters: &'static str,
    bit: u32,
}

impl Need {
    const READ: Self = Self {
        verb: "read",
        letters: "r",
        bit: 0o4,
    };
    const SEARCH: Self = Self {
        verb: "enter the directory",
        letters: "x",
        bit: 0o1,
    };
    const WRITE: Self = Self {
        verb: "create files in",
        letters: "wx",
        bit: 0o3,
    };

    /// The commands that grant it.
    fn cure(&self, blocking: &Path, metadata: &Metadata, user: &User) -> String {
        let (path, letters) = (blocking.display(), self.letters);
        if metadata.uid() == user.uid {
            return format!("chmod u+{letters} {path}");
        }
        if user.groups.contains(&metadata.gid()) {
            return format!("chmod g+{letters} {path}");
        }
        let group = name_of("/etc/group", metadata.gid());
        let allows_group = metadata.mode() >> 3 & self.bit == self.bit;
        if allows_group && metadata.gid() != 0 {
            return format!(
                "add it to the group {group} (usermod -aG {group} {}, or SupplementaryGroups={group} \
                 in the unit)",
                user.name
            );
        }
        let own = name_of("/etc/group", user.gid);
        match metadata.is_dir() {
            // Above it may be much that is nobody else's business.
            true if self.bit == 0o1 => {
                format!(
                    "setfacl -m u:{}:x {path}, or move the file elsewhere",
                    user.name
                )
            }
            true => format!("chgrp {own} {path} && chmod g+{letters} {path}"),
            false => format!("chgrp {own} {path} && chmod g+{letters} {path}"),
        }
    }
}

/// Who this process runs as.
struct User {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    name: String,
}

impl User {
    fn current() -> Self {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        let more = getgroups().unwrap_or_default();
        let groups = more.iter().map(|group| group.as_raw());
        Self {
            uid,
            gid,
            groups: groups.chain([gid]).collect(),
            name: name_of("/etc/passwd", uid),
        }
    }

    /// Whether the mode alone lets it do what `bit` stands for.
    fn may(&self, metadata: &Metadata, bit: u32) -> bool {
        let shift = match () {
            () if metadata.uid() == self.uid => 6,
            () if self.groups.contains(&metadata.gid()) => 3,
            () => 0,
        };
        metadata.mode() >> shift & bit == bit
    }
}

impl std::fmt::Display for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name == self.uid.to_string() {
            true => write!(f, "uid {}", self.uid),
            false => write!(f, "{} (uid {})", self.name, self.uid),
        }
    }
}

/// The directory or file that blocks, links followed: the first directory on the way that cannot be
/// entered, else what the path names.
fn blocking(path: &Path, wanted: Use, user: &User) -> Option<(PathBuf, Metadata)> {
    let (directories, end) = way(path);
    for directory in directories {
        let metadata = fs::metadata(&directory).ok()?;
        if !user.may(&metadata, 0o1) {
            return Some((directory, metadata));
        }
    }
    let (end, bit) = match wanted {
        Use::Read => (end, 0o4),
        Use::Create => (parent(&end), 0o3),
    };
    let metadata = fs::metadata(&end).ok()?;
    (!user.may(&metadata, bit)).then_some((end, metadata))
}

/// The directories that are entered on the way to `path`, each without links in it, and what the
/// path names in the end.
fn way(path: &Path) -> (Vec<PathBuf>, PathBuf) {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut directories = Vec::new();
    let mut here = PathBuf::new();
    let mut todo = parts(&absolute);
    let mut links = 0;
    while let Some(part) = todo.pop() {
        if part.as_os_str() == "/" {
            here = PathBuf::from("/");
            continue;
        }
        if part.as_os_str() == ".." {
            here.pop();
            continue;
        }
        if !directories.contains(&here) {
            directories.push(here.clone());
        }
        let next = here.join(&part);
        match fs::read_link(&next) {
            Ok(target) if links < MOST_LINKS => {
                links += 1;
                todo.extend(parts(&target));
            }
            _ => here = next,
        }
    }
    (directories, here)
}

/// The components of a path, the last one first.
fn parts(path: &Path) -> Vec<PathBuf> {
    let parts = path.components().filter(|part| *part != Component::CurDir);
    let mut parts: Vec<PathBuf> = parts.map(|part| part.as_os_str().into()).collect();
    parts.reverse();
    parts
}

/// As Linux has it.
const MOST_LINKS: usize = 40;

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn missing(path: &Path, wanted: Use) -> Option<String> {
    if let Some(name) = credential(path) {
        return Some(format!(
            "the unit passes no credential {name}: add LoadCredential={name}:FILE to it"
        ));
    }
    if let Some(hidden) = hidden(path) {
        return Some(hidden);
    }
    let (directories, end) = way(path);
    let absent = directories.into_iter().find(|directory| {
        fs::metadata(directory).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    });
    if let Some(directory) = absent {
        let more = match wanted {
            Use::Create if in_service() => "; RuntimeDirectory=mtlsd in the unit makes /run/mtlsd",
            Use::Create => "; create it",
            Use::Read => "",
        };
        return Some(format!(
            "the directory {} does not exist{more}",
            directory.display()
        ));
    }
    let is_link = fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_symlink());
    (is_link && wanted == Use::Read).then(|| {
        format!(
            "{} is a symbolic link to {}, which does not exist",
            path.display(),
            end.display()
        )
    })
}

/// What a service cannot see, if `path` is there.
fn hidden(path: &Path) -> Option<String> {
    if !in_service() {
        return None;
    }
    let hides = |names: &'static [&'static str]| names.iter().find(|name| path.starts_with(name));
    if let Some(name) = hides(&["/home", "/root", "/run/user"]) {
        return Some(format!(
            "ProtectHome= in the unit hides {name}: move the file to /etc/mtlsd, or pass it with \
             LoadCredential="
        ));
    }
    hides(&["/tmp", "/var/tmp"]).map(|name| {
        format!(
            "PrivateTmp= in the unit gives mtlsd an empty {name} of its own: move the file to \
             /etc/mtlsd"
        )
    })
}

/// Whether a service manager started this process.
fn in_service() -> bool {
    ["INVOCATION_ID", "NOTIFY_SOCKET", "SYSTEMD_EXEC_PID"]
        .iter()
        .any(|name| std::env::var_os(name).is_some())
}

/// The name of the systemd credential that `path` is.
fn credential(path: &Path) -> Option<String> {
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY")?;
    let name = path.strip_prefix(directory).ok()?;
    Some(name.display().to_string())
}

/// The name that a file like /etc/passwd has for an id; the id itself without one. Users of a
/// directory service are not looked up: that could take long, and fail.
fn name_of(file: &str, id: u32) -> String {
    let id = id.to_string();
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&&*id))
        .and_then(|fields| Some((*fields.first()?).to_owned()))
        .unwrap_or(id)
}

#[cfg(test)]
mod tests;
