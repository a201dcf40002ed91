//! Says so, loudly, if openh264 is about to be built without its assembly.
//!
//! Its build script falls back to plain C in silence when it finds no nasm.

use std::env;
use std::process::{Command, Stdio};

fn main() {
    // The same places as where openh264's build script looks (`Build::new` and `find_nasm` in the crate nasm-rs).
    println!("cargo::rerun-if-env-changed=NASM");
    println!("cargo::rerun-if-env-changed=PATH");
    println!("cargo::rerun-if-changed=build.rs");
    let needs_nasm = matches!(env::var("CARGO_CFG_TARGET_ARCH").as_deref(), Ok("x86" | "x86_64"));
    if env::var_os("CARGO_FEATURE_H264").is_none() || !needs_nasm || runs_nasm() {
        return;
    }
    println!(
        "cargo::warning=nasm is missing: openh264 is built without its assembly, and H.264 encoding takes 2.8 times as long."
    );
    println!(
        "cargo::warning=Install it (Debian: apt install nasm), then build again after: cargo clean -p openh264-sys2 -p lenscast-encoder"
    );
}

fn runs_nasm() -> bool {
    let nasm = env::var_os("NASM").unwrap_or_else(|| "nasm".into());
    let run = Command::new(nasm).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}
