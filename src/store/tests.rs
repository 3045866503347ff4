//! The store among several threads, and with files that it did not write.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use crate::config::Source;

use super::*;

fn material() -> Material {
    let key = KeyPair::generate().unwrap();
    let chain = CertificateParams::default()
        .self_signed(&key)
        .unwrap()
        .pem();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("both.pem");
    fs::write(&file, chain + &key.serialize_pem()).unwrap();
    identity(&file)
}

fn identity(file: &Path) -> Material {
    let source = Source {
        certificate: file.to_owned(),
        key: file.to_owned(),
        password: None,
    };
    Material::identity(&source).unwrap()
}

fn name(text: &str) -> Option<CertificateName> {
    Some(CertificateName::parse(text).unwrap())
}

fn store() -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/store");
    (directory, Store::new(StorePath::find(Some(&path))))
}

fn names_in(store: &Store) -> BTreeSet<String> {
    let files = fs::read_dir(store.path.as_path()).unwrap();
    files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn what_was_uploaded_is_found_until_it_is_deleted() {
    let (_directory, store) = store();
    assert!(store.list().unwrap().entries.is_empty());
    let entry = store
        .upload(Kind::Client, name("one"), &material())
        .unwrap();
    for which in [Which::Id(entry.id.to_string()), Which::Name("one".into())] {
        assert_eq!(store.find(&which).unwrap().leaf, entry.leaf);
    }
    store.delete(&entry.id).unwrap();
    assert!(matches!(store.delete(&entry.id), Err(StoreError::NoId(_))));
    assert_eq!(names_in(&store), ["lock".to_owned()].into());
}

#[test]
fn nobody_else_may_read() {
    let (_directory, store) = store();
    let entry = store.upload(Kind::Client, None, &material()).unwrap();
    for (path, mode) in [
        (store.path.as_path(), 0o700),
        (&entry.file, 0o600),
        (&store.path.as_path().join("lock"), 0o600),
    ] {
        let found = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(found & 0o7777, mode, "{}", path.display());
    }
}

#[test]
fn of_several_writers_with_one_name_one_wins() {
    let (_directory, store) = store();
    let material = material();
    let won = thread::scope(|scope| {
        let writers: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| store.upload(Kind::Client, name("same"), &material)))
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .filter(|result| match result {
                Ok(_) => true,
                Err(StoreError::Taken { .. }) => false,
                Err(error) => panic!("{error}"),
            })
            .count()
    });
    assert_eq!(won, 1);
    assert_eq!(store.list().unwrap().entries.len(), 1);
}

#[test]
fn of_several_writers_with_names_of_their_own_all_win() {
    let (_directory, store) = store();
    let material = material();
    thread::scope(|scope| {
        for number in 0..16 {
            let (store, material) = (&store, &material);
            scope.spawn(move || {
                store
                    .upload(Kind::Client, name(&number.to_string()), material)
                    .unwrap()
            });
        }
    });
    let listing = store.list().unwrap();
    assert_eq!((listing.entries.len(), listing.damaged.len()), (16, 0));
}

#[test]
fn a_reader_sees_the_old_certificate_or_the_new_one() {
    let (_directory, store) = store();
    let (old, new) = (material(), material());
    let entry = store.upload(Kind::Client, name("n"), &old).unwrap();
    let which = Which::Id(entry.id.to_string());
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..50 {
                let material = if round % 2 == 0 { &new } else { &old };
                store.replace(&which, Kind::Client, material).unwrap();
            }
        });
        while !writer.is_finished() {
            let found = identity(&entry.file);
            assert!([old.pem(), new.pem()].contains(&found.pem()));
        }
    });
    let last = store.find(&which).unwrap();
    assert_eq!((last.id, last.created), (entry.id, entry.created));
    assert!(last.replaced.is_some());
}

#[test]
fn what_a_dead_writer_left_is_swept_and_what_is_not_ours_stays() {
    let (_directory, store) = store();
    store.upload(Kind::Client, None, &material()).unwrap();
    let left = format!("{}.new", CertificateId::from_random([1; 16]));
    for file in [left.as_str(), "notes.new", "notes.txt"] {
        fs::write(store.path.as_path().join(file), "-----BEGIN").unwrap();
    }
    assert_eq!(store.list().unwrap().entries.len(), 1);
    store.upload(Kind::Client, None, &material()).unwrap();
    let names = names_in(&store);
    assert!(!names.contains(&left), "{names:?}");
    assert!(
        names.contains("notes.new") && names.contains("notes.txt"),
        "{names:?}"
    );
}

#[test]
fn a_damaged_file_hides_no_other_and_is_named() {
    let (_directory, store) = store();
    let good = store
        .upload(Kind::Client, name("good"), &material())
        .unwrap();
    let bad = store.path.file(&CertificateId::from_random([1; 16]));
    fs::write(&bad, "nonsense").unwrap();
    let listing = store.list().unwrap();
    assert_eq!(listing.entries[0].id, good.id);
    let reason = listing.damaged[0].to_string();
    assert!(reason.contains(&bad.display().to_string()), "{reason}");
    // Which name the damaged one has is unknown, so no name is known to be free.
    let refused = store.upload(Kind::Client, name("new"), &material());
    assert!(
        matches!(refused, Err(StoreError::Damaged { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_certificate_is_not_replaced_by_an_authority() {
    let (_directory, store) = store();
    let entry = store.upload(Kind::Client, None, &material()).unwrap();
    let refused = store.replace(
        &Which::Id(entry.id.to_string()),
        Kind::Authority,
        &material(),
    );
    assert!(matches!(refused, Err(StoreError::OtherKind { .. })));
}
