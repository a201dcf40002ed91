use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// What a process has allocated and not given back, by tests/heap-meter preloaded into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heap {
    pub(crate) bytes: i64,
    pub(crate) blocks: i64,
}

/// The variable that tests/heap-meter reads its file's name from.
const FILE: &str = "LENSCAST_HEAP_METER";

impl Heap {
    /// The variables that have a process counted into the file at `path`.
    pub(crate) fn metered(path: &Path) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", library().to_owned()), (FILE, path.to_owned())]
    }

    /// Of the process that counts into the file at `path`.
    pub(crate) fn read(path: &Path) -> Self {
        let counted = std::fs::read(path).expect("the meter has made its file");
        let number =
            |at: usize| i64::from_ne_bytes(counted[at..at + 8].try_into().expect("the meter writes two numbers"));
        Self { bytes: number(0), blocks: number(8) }
    }
}

impl fmt::Display for Heap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KiB in {} blocks", self.bytes / 1_024, self.blocks)
    }
}

/// Builds the preloaded library, once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--package", "lenscast-heap-meter", "--message-format", "json"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stderr(Stdio::inherit())
            .output()
            .expect("cargo runs: it runs this test");
        assert!(built.status.success(), "cannot build lenscast-heap-meter");
        let messages = String::from_utf8(built.stdout).expect("cargo writes text");
        let mut words = messages.split('"');
        let library = words.find(|word| word.ends_with("liblenscast_heap_meter.so"));
        PathBuf::from(library.expect("cargo names what it has built"))
    })
}
