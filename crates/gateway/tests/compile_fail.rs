//! Misuse of the pipeline that must not compile, each with the compiler's own words beside it
//! (invariant 2). What concerns the scope alone is in `tenancy`.

use std::path::Path;

#[test]
fn misuse_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}

/// The cases declare the crate's files once more. A file that they lack would be all that the
/// compiler speaks of, whatever the misuse.
#[test]
fn the_cases_declare_every_file() {
    for (ours, theirs) in [
        ("src/lib.rs", "shared/gateway.rs"),
        ("src/pipeline/mod.rs", "shared/stages.rs"),
    ] {
        let theirs = Path::new("tests/ui").join(theirs);
        let [declared, copied] = [Path::new(ours), &theirs].map(declared_modules);
        let lacking: Vec<_> = declared
            .iter()
            .filter(|name| !copied.contains(name))
            .collect();
        assert!(
            lacking.iter().all(|name| **name == "pipeline"),
            "{} lacks {lacking:?}, which {ours} declares: add them, each with its #[path]",
            theirs.display(),
        );
    }
}

fn declared_modules(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).expect("a file of this crate");
    let names = text.lines().filter_map(|line| {
        let line = line.trim_start_matches("pub ");
        line.strip_prefix("mod ")?.strip_suffix(';')
    });
    names.map(str::to_owned).collect()
}
