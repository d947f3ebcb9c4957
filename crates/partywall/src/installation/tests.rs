use std::os::unix::fs::PermissionsExt as _;

use base::{ManualClock, SeededEntropy, Timestamp};
use tenancy::ApiKey;

use super::*;

fn config(folder: &Path) -> InstallationConfig {
    let mut config = InstallationConfig::default();
    folder.clone_into(&mut config.storage.folder);
    config
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::at(Timestamp::from_micros(0)))
}

fn entropy(seed: u64) -> Arc<dyn Entropy> {
    Arc::new(SeededEntropy::new(seed))
}

fn make(folder: &Path) -> Installation {
    create(&config(folder), &clock(), &entropy(1)).unwrap()
}

/// The error, with the temporary folder's name taken out.
fn refusal(config: &InstallationConfig) -> String {
    let error = open(config, &clock(), &entropy(9))
        .err()
        .expect("refused")
        .to_string();
    error.replace(&config.storage.folder.display().to_string(), "DATA")
}

#[test]
fn what_was_made_is_found_again() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data");
    let made = make(&folder);
    let id = made.id_text();
    let mode = |name: &str| {
        let path = folder.join(name);
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(
        (mode(""), mode("root.key"), mode(DESCRIPTION_FILE)),
        (0o700, 0o600, 0o600)
    );
    drop(made);
    assert_eq!(
        open(&config(&folder), &clock(), &entropy(9))
            .unwrap()
            .id_text(),
        id
    );
    let again = create(&config(&folder), &clock(), &entropy(2));
    assert!(matches!(again, Err(FolderProblem::Exists { .. })));
    let found = open_or_create(&config(&folder), &clock(), &entropy(2)).unwrap();
    assert_eq!(found.id_text(), id);
}

#[test]
fn the_first_operator_is_made_once() {
    let parent = tempfile::tempdir().unwrap();
    let made = make(parent.path());
    let clock = ManualClock::at(Timestamp::from_micros(0));
    ensure_operator(&made, &clock, &SeededEntropy::new(3)).unwrap();
    let path = parent.path().join(crate::client::OPERATOR_KEY_FILE);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(ApiKey::parse(text.trim()).is_ok());
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    ensure_operator(&made, &clock, &SeededEntropy::new(4)).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    let (version, resources) = made.catalogue.load_current().unwrap();
    assert_eq!((version, resources.len()), (1, 1));
    let loaded = control::load(&made.catalogue, &*made.root).unwrap();
    let hash = made
        .platform_keys
        .key_hasher()
        .hash(&ApiKey::parse(text.trim()).unwrap());
    assert!(loaded.snapshot.credential(&hash).is_some());
}

#[test]
fn each_folder_that_is_not_ours_is_left_alone() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data");
    let data = config(&folder);
    assert!(refusal(&data).starts_with("DATA holds no installation: `partywall init"));

    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("thesis.tex"), "x").unwrap();
    assert_eq!(
        refusal(&data),
        "DATA is not Partywall's: it holds `thesis.tex`, and nothing in it was touched. Choose \
         another data folder"
    );
    let created = create(&data, &clock(), &entropy(1));
    assert!(matches!(created, Err(FolderProblem::Foreign { .. })));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);

    std::fs::write(folder.join(DESCRIPTION_FILE), r#"{"format":7}"#).unwrap();
    assert!(refusal(&data).starts_with("DATA has format 7, and this program knows up to 1"));
    std::fs::write(folder.join(DESCRIPTION_FILE), "not json").unwrap();
    assert!(refusal(&data).contains("is not Partywall's"));
}

#[test]
fn a_folder_is_served_by_one_process_with_its_own_root_key() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data");
    let made = make(&folder);
    assert!(refusal(&config(&folder)).contains("in use by another partywall"));
    drop(made);

    let mut other = config(&folder);
    other.root_key.file = Some(parent.path().join("other.key"));
    assert!(refusal(&other).contains("cannot read the root key"));
    tenancy::LocalRootKey::create(&parent.path().join("other.key"), &SeededEntropy::new(9))
        .unwrap();
    assert_eq!(refusal(&other), "DATA does not open with this root key");
    other.root_key.file = None;
    other.root_key.env = Some("PARTYWALL_TEST_NO_SUCH_VARIABLE".to_owned());
    assert!(refusal(&other).contains("which is not set"));
}

#[test]
fn a_cut_off_attempt_does_not_hinder_the_next() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data");
    drop(make(&folder));
    std::fs::remove_file(folder.join(DESCRIPTION_FILE)).unwrap();
    std::fs::remove_file(folder.join(store::CATALOGUE_FILE)).unwrap();
    let root_key = std::fs::read(folder.join("root.key")).unwrap();
    drop(make(&folder));
    assert_eq!(std::fs::read(folder.join("root.key")).unwrap(), root_key);
}

#[test]
fn an_unwritable_place_says_so() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let created = create(&config(&file.join("data")), &clock(), &entropy(1));
    let text = created.err().expect("refused").to_string();
    assert!(
        text.contains("cannot write in") && text.contains("Choose another"),
        "{text}"
    );
}
