//! Who may import whom: the table of docs/architecture.md, held against what the manifests say.
//!
//! A crate that names no dependency cannot use it, so the manifests are the imports. Development dependencies are left out:
//! tests may bring whatever they hold the code against.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// Crate, the crates of this workspace that it may import, and the heavy ones that it may bring in.
const TABLE: &[(&str, &[&str], &[&str])] = &[
    ("lenscast-media", &[], &[]),
    (
        "lenscast-capture",
        &["lenscast-media"],
        &["nokhwa", "yuv", "fast_image_resize", "zune-jpeg", "zune-core", "font8x8", "rustix"],
    ),
    ("lenscast-encoder", &["lenscast-media"], &["env-libvpx-sys", "vpx-encode", "openh264", "openh264-sys2"]),
    ("lenscast-congestion", &["lenscast-media"], &[]),
    ("lenscast-sender", &["lenscast-media", "lenscast-capture", "lenscast-congestion", "lenscast-encoder"], &[]),
    ("lenscast-simnet", &["lenscast-media"], &[]),
    (
        "lenscast-scenarios",
        &["lenscast-media", "lenscast-congestion", "lenscast-simnet"],
        &["fastrand", "rtc-interceptor", "str0m"],
    ),
    ("lenscast-router", &["lenscast-media", "lenscast-congestion"], &[]),
    (
        "lenscast-transport",
        &["lenscast-media", "lenscast-congestion", "lenscast-router"],
        &[
            "aws-lc-rs",
            "bytes",
            "if-addrs",
            "quinn-udp",
            "rand",
            "rtc-crypto",
            "rtc-dtls",
            "rtc-sdp",
            "rtc-shared",
            "rtc-stun",
            "rustix",
            "socket2",
            "tokio",
        ],
    ),
    ("lenscast-fake-v4l2", &[], &[]),
    ("lenscast-heap-meter", &[], &[]),
];

/// Small crates that any part may use.
const ANYWHERE: &[&str] = &["libc", "loom", "thiserror", "tracing"];

/// The root package may import everything of ours, and these.
const ROOT: &[&str] = &[
    "axum",
    "clap",
    "clap_complete",
    "futures-core",
    "governor",
    "hyper",
    "hyper-util",
    "prometheus-client",
    "rand",
    "rustix",
    "schemars",
    "sd-notify",
    "serde",
    "serde_json",
    "socket2",
    "subtle",
    "tokio",
    "toml",
    "tracing-subscriber",
    "ureq",
];

fn metadata() -> Metadata {
    MetadataCommand::new().no_deps().exec().expect("cargo metadata describes this workspace")
}

fn imports(package: &Package) -> BTreeSet<&str> {
    let normal = package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal);
    normal.map(|dependency| dependency.name.as_str()).collect()
}

#[test]
fn every_crate_imports_only_what_the_table_allows() {
    let metadata = metadata();
    let table: BTreeMap<&str, BTreeSet<&str>> =
        TABLE.iter().map(|(name, ours, heavy)| (*name, ours.iter().chain(*heavy).copied().collect())).collect();
    let mut violations = Vec::new();
    for package in metadata.workspace_packages() {
        let name = package.name.as_str();
        let allowed = match table.get(name) {
            Some(allowed) => allowed.clone(),
            None if name == "lenscast" => {
                ROOT.iter().chain(&table.keys().copied().collect::<Vec<_>>()).copied().collect()
            }
            None => {
                violations.push(format!("{name} is not in the table"));
                continue;
            }
        };
        for import in imports(package) {
            if !allowed.contains(import) && !ANYWHERE.contains(&import) {
                violations.push(format!("{name} imports {import}"));
            }
        }
    }
    assert!(violations.is_empty(), "outside the table of docs/architecture.md:\n{}", violations.join("\n"));
}

#[test]
fn every_crate_of_the_table_exists() {
    let metadata = metadata();
    let names: BTreeSet<&str> = metadata.workspace_packages().iter().map(|package| package.name.as_str()).collect();
    let missing: Vec<_> = TABLE.iter().map(|(name, ..)| name).filter(|name| !names.contains(**name)).collect();
    assert!(missing.is_empty(), "in the table, but not in the workspace: {missing:?}");
}

#[test]
fn members_leave_benches_to_the_root_package() {
    let offending: Vec<String> = metadata()
        .workspace_packages()
        .into_iter()
        .filter(|package| !["lenscast", "lenscast-fake-v4l2", "lenscast-heap-meter"].contains(&package.name.as_str()))
        .flat_map(|package| package.targets.iter().map(move |target| (package, target)))
        .filter(|(_, target)| target.is_bench() || (target.is_lib() && manifest_benches(&target.src_path)))
        .map(|(package, target)| format!("{} {}", package.name, target.name))
        .collect();
    assert!(offending.is_empty(), "need [lib] bench = false: {offending:?}");
}

/// True if the manifest beside a library's `src` lacks `bench = false`, so that `cargo bench` would run its unit tests.
fn manifest_benches(library: &cargo_metadata::camino::Utf8Path) -> bool {
    let manifest = library.parent().and_then(|src| src.parent()).expect("a library lies in src").join("Cargo.toml");
    let text = std::fs::read_to_string(manifest).expect("a member has a manifest");
    !text.contains("[lib]\nbench = false")
}
