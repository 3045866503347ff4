//! Which component of a path is found to block.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

/// A user who owns nothing and is in no group.
fn stranger() -> User {
    User {
        uid: 54321,
        gid: 54321,
        groups: vec![54321],
        name: "54321".to_owned(),
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_first_directory_or_file_that_blocks_is_found_through_links() {
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let top = directory.path().canonicalize().unwrap();
    mode(&top, 0o755);
    let (open, closed) = (top.join("open"), top.join("closed"));
    for (path, bits) in [(&open, 0o755), (&closed, 0o750)] {
        fs::create_dir(path).unwrap();
        mode(path, bits);
    }
    for (path, bits) in [
        (open.join("public"), 0o644),
        (open.join("private"), 0o640),
        (closed.join("public"), 0o644),
    ] {
        fs::write(&path, "x").unwrap();
        mode(&path, bits);
    }
    symlink("../closed/public", open.join("link")).unwrap();
    symlink(&closed, open.join("directory")).unwrap();
    for (path, expected) in [
        ("open/public", None),
        ("open/private", Some("open/private")),
        ("closed/public", Some("closed")),
        ("closed/nothing", Some("closed")),
        ("open/link", Some("closed")),
        ("open/directory/public", Some("closed")),
        ("open/../closed/public", Some("closed")),
    ] {
        let found = blocking(&top.join(path), Use::Read, &stranger());
        let found = found.map(|(path, _)| path);
        assert_eq!(found, expected.map(|path| top.join(path)), "{path}");
    }
    let found = blocking(&open.join("a.sock"), Use::Create, &stranger());
    assert_eq!(found.map(|(path, _)| path), Some(open));
}

#[test]
fn the_cure_fits_who_lacks_what() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    fs::write(&file, "x").unwrap();
    mode(&file, 0o040);
    let metadata = fs::metadata(&file).unwrap();
    let (uid, gid) = (metadata.uid(), metadata.gid());
    let path = file.display();
    let user = |uid, groups: &[u32]| User {
        uid,
        groups: groups.to_vec(),
        ..stranger()
    };
    assert_eq!(
        Need::READ.cure(&file, &metadata, &user(uid, &[])),
        format!("chmod u+r {path}")
    );
    assert_eq!(
        Need::READ.cure(&file, &metadata, &user(1, &[gid])),
        format!("chmod g+r {path}")
    );
    let cure = Need::READ.cure(&file, &metadata, &stranger());
    let expected = match gid {
        0 => format!("chgrp 54321 {path} && chmod g+r {path}"),
        gid => format!("add it to the group {}", name_of("/etc/group", gid)),
    };
    assert!(cure.starts_with(&expected), "{cure}");
    let here = fs::metadata(directory.path()).unwrap();
    let cure = Need::SEARCH.cure(directory.path(), &here, &stranger());
    assert!(cure.contains("54321"), "{cure}");
}

#[test]
fn what_is_missing_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let top = directory.path().canonicalize().unwrap();
    symlink("gone", top.join("link")).unwrap();
    let gone = io::Error::from(io::ErrorKind::NotFound);
    let at = |name: &str| help(&top.join(name), Use::Read, &gone);
    let shown = top.display();
    assert_eq!(at("nothing"), None);
    assert_eq!(
        at("a/b/c"),
        Some(format!("the directory {shown}/a does not exist"))
    );
    assert_eq!(
        at("link"),
        Some(format!(
            "{shown}/link is a symbolic link to {shown}/gone, which does not exist"
        ))
    );
}
