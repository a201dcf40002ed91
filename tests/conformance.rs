//! docs/conformance-http.md names every test of `tests/http` and `tests/service`, and none that is not there.

use std::collections::BTreeSet;
use std::path::Path;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The tests of a directory, as `module::name`.
fn tests_of(directory: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(Path::new(ROOT).join(directory)).expect("the directory is there");
    let mut tests = BTreeSet::new();
    for path in entries.map(|entry| entry.expect("it can be read").path()) {
        let module = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        let text = read(&path);
        let marked = text.split("#[test]\n").skip(1);
        let names = marked.filter_map(|rest| rest.trim_start().strip_prefix("fn ")?.split('(').next());
        tests.extend(names.map(|name| format!("{module}::{name}")));
    }
    tests
}

#[test]
fn the_conformance_page_names_every_test_and_no_other() {
    let page = read(&Path::new(ROOT).join("docs/conformance-http.md"));
    let code = page.lines().filter(|line| line.starts_with('|')).flat_map(|line| line.split('`').skip(1).step_by(2));
    let named: BTreeSet<String> = code.filter(|code| code.contains("::")).map(str::to_owned).collect();
    let there: BTreeSet<String> = tests_of("tests/http").union(&tests_of("tests/service")).cloned().collect();
    assert!(there.len() > 50, "the tests are found: {there:?}");
    let missing: Vec<_> = there.difference(&named).collect();
    let gone: Vec<_> = named.difference(&there).collect();
    assert!(missing.is_empty() && gone.is_empty(), "not on the page: {missing:?}; named, but not there: {gone:?}");
}
