//! docs/conformance-http.md names every test of `tests/http` and `tests/service`, and none that is not there;
//! docs/conformance.md names tests for every behaviour, and none that is not there.

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

/// Where the tests are that docs/conformance.md names.
const ROUTER_TESTS: [&str; 6] = ["media", "congestion", "router", "sender", "transport", "tests"];

fn name_of(directory: &Path) -> String {
    directory.file_name().expect("it has a name").to_string_lossy().into_owned()
}

/// Every test below `directory`, as `module::name`, the module being the file, or what it is the tests of if the file is called
/// `mod.rs`, `main.rs`, `lib.rs` or `tests.rs`. Tests within `proptest!` and those that a macro names (`name: Something => …`) count.
fn tests_below(directory: &Path, tests: &mut BTreeSet<String>) {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for path in entries.map(|entry| entry.expect("it can be read").path()) {
        let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "node_modules" && name != "target" {
                tests_below(&path, tests);
            }
            continue;
        }
        let Some(stem) = name.strip_suffix(".rs") else { continue };
        let module = match stem {
            "mod" | "main" | "lib" | "tests" => {
                name_of(if directory.ends_with("tests") { directory.parent().unwrap_or(directory) } else { directory })
            }
            stem => stem.to_owned(),
        };
        let text = read(&path);
        let marked = text.split("#[test]").skip(1).chain(text.split("#[tokio::test").skip(1));
        let functions = marked.filter_map(|rest| rest.split_once("fn ")?.1.split(['(', '<']).next());
        let is_name = |name: &&str| {
            name.contains('_')
                && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        };
        let by_macro =
            text.lines().filter(|line| line.contains(" => ")).filter_map(|line| line.trim().split_once(": "));
        tests.extend(
            functions.chain(by_macro.map(|(name, _)| name)).filter(is_name).map(|name| format!("{module}::{name}")),
        );
    }
}

#[test]
fn the_routers_page_names_tests_that_are_there_and_some_for_every_behaviour() {
    let page = read(&Path::new(ROOT).join("docs/conformance.md"));
    let mut there = BTreeSet::new();
    ROUTER_TESTS.iter().for_each(|directory| tests_below(&Path::new(ROOT).join(directory), &mut there));
    let rows = page
        .lines()
        .filter(|line| line.starts_with('|') && !line.starts_with("|---") && !line.starts_with("| behaviour"));
    let mut wrong = Vec::new();
    let mut named = 0;
    for row in rows {
        let tests: Vec<_> = row.split('`').skip(1).step_by(2).filter(|code| code.contains("::")).collect();
        named += tests.len();
        if tests.is_empty() {
            wrong.push(format!("no test: {row}"));
        }
        wrong.extend(tests.iter().filter(|test| !there.contains(**test)).map(|test| format!("not there: {test}")));
    }
    assert!(named > 50, "the page is read");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
